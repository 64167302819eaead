"""With what a run was made: every library that a number passes through, in the version at hand."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

from normscope.study.provenance import describe

# These show, serve or configure; no number passes through them.
NO_NUMBERS = {"jinja2", "msgspec", "rich", "tyro"}


def test_the_libraries_are_those_that_numbers_pass_through():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["study"]]
    names = {requirement.split(">=")[0] for requirement in asked}
    found = describe(command="test", device="cpu", engine={"engine": "inline"})["libraries"]
    assert found.keys() == names - NO_NUMBERS
    assert found["tokenizers"] == importlib.metadata.version("tokenizers")
