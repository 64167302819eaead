"""What the documents print is what the code does: every Python block runs, every quoted output is the output."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import normscope

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [module.name for module in pkgutil.walk_packages(normscope.__path__, "normscope.")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_blocks_run(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_table_of_normalizers_is_the_output_of_the_command():
    command = [sys.executable, "-m", "normscope", "norms"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert f"```text\n{output.stdout}```" in (ROOT / "docs" / "normalizers.md").read_text()


@pytest.mark.parametrize("name", MODULES)
def test_doctests_hold(name):
    if name.endswith("__main__"):
        return
    if name.endswith("triton_passes"):
        pytest.importorskip("triton")
    assert doctest.testmod(importlib.import_module(name)).failed == 0
