"""No paper depends on another: what they share stands in a package that knows none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import normscope_papers
from normscope.study.paper import papers

SOURCE = Path(normscope_papers.__file__).parent
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
PAPERS = [room for room in ROOMS if room != "common"]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_package_but_the_common_one_is_a_paper():
    assert sorted(paper.name.replace("-", "_") for paper in papers()) == PAPERS


@pytest.mark.parametrize("room", ROOMS)
def test_a_paper_imports_itself_and_what_papers_share_alone(room):
    allowed = {room, "common"}
    for path in (SOURCE / room).rglob("*.py"):
        rooms = {name.split(".")[1] for name in imported(path) if name.startswith("normscope_papers.")}
        assert rooms <= allowed, path.relative_to(SOURCE)
