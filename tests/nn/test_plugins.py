"""Rows from outside: the document's own example as an installed distribution, and distributions that are broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import normscope as ns

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "normalizers.md").read_text().partition("## A row from outside")[2]


def install(folder: Path, name: str, code: str, entries: str) -> Path:
    """A distribution as an installer leaves it: a module and a dist-info folder."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (folder / f"{name}.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entries)
    return folder


@pytest.fixture
def scalenorm(tmp_path: Path) -> Path:
    code = re.search(r"```text\n(.*?)```", DOCUMENT, re.DOTALL)[1]
    entry = re.search(r"\nscalenorm = \"(.*)\"\n", DOCUMENT)[1]
    assert len(code.splitlines()) <= 20
    return install(tmp_path, "scalenorm", code, f"[normscope.normalizers]\nscalenorm = {entry}\n")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(Path(ns.__file__).parents[1]), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documents_row_is_one_of_the_table_and_takes_options(scalenorm):
    code = """
import json, torch, normscope as ns
row = ns.normalizers()[-1]
site = ns.normalizer("scalenorm", eps=10.0).site(4, 2)
try:
    ns.normalizer("scalenorm", epsilon=1)
except ValueError as error:
    refused = str(error)
try:
    ns.normalizer("scalenor")
except ValueError as error:
    unknown = str(error).split(" or ")[0]
model = ns.models.MLP(4, 3, depth=2, width=4, normalizer=row, generator=torch.Generator().manual_seed(0))
print(json.dumps([row.name, row.couples_batch, row.reference, row.options, site.eps, site.normalizer_site, refused,
                  unknown, list(model(torch.ones(2, 4)).shape)]))
"""
    done = run(scalenorm, "-c", code)
    assert not done.stderr
    assert json.loads(done.stdout) == [
        "scalenorm", False, "Nguyen and Salazar 2019, arXiv:1910.05895", {"eps": 1e-5}, 10.0, "scalenorm",
        "Unknown option 'epsilon' of scalenorm; did you mean eps.",
        "Unknown normalizer 'scalenor'; did you mean scalenorm", [2, 3],
    ]  # fmt: skip


def test_the_command_line_lists_it_and_help_does_not_import_it(scalenorm):
    listed = run(scalenorm, "-m", "normscope", "norms", "--json")
    assert json.loads(listed.stdout)[-1]["name"] == "scalenorm"
    helped = run(scalenorm, "-X", "importtime", "-m", "normscope", "--help")
    assert "status" in helped.stdout
    assert "normscope" in helped.stderr
    assert "scalenorm" not in helped.stderr


@pytest.mark.long
def test_it_passes_the_contract_suite_and_is_compared(scalenorm, tmp_path):
    suite = ["tests/contract/test_normalizer_contract.py", "-k", "scalenorm", "-q", "-p", "no:cacheprovider"]
    tested = run(scalenorm, "-m", "pytest", *suite)
    assert tested.returncode == 0, tested.stdout
    assert int(re.search(r"(\d+) passed", tested.stdout)[1]) > 40
    norms = ["--norms", "layernorm,scalenorm:eps=0.001", "--scale", "smoke", "--workers", "0"]
    compared = run(scalenorm, "-m", "normscope", "compare", *norms, "--out", str(tmp_path / "runs"))
    assert compared.returncode == 0, compared.stderr
    assert "scalenorm:eps=0.001" in compared.stdout
    assert "scalenorm" in next((tmp_path / "runs").glob("*/report.html")).read_text()


BROKEN = """
import torch

class Bare:
    name, couples_batch = "bare", False

class Other:
    name, couples_batch = "another", False
    site = affine = lambda self: None

class Taken(Other):
    name = "batchnorm"

def needs(groups): ...

def fails():
    raise RuntimeError("no\\nluck")
"""
ENTRIES = """
[normscope.normalizers]
absent = broken:absent
bare = broken:Bare
batchnorm = broken:Taken
fails = broken:fails
needs = broken:needs
number = broken:__name__
other = broken:Other
"""
LINES = {
    "absent": r"\(broken:absent\) cannot be had: AttributeError: .*absent.*; repair or remove that package",
    "bare": r"TypeError: a normalizer has name, couples_batch, site, affine, but Bare lacks site, affine; repair",
    "batchnorm": r"is left out: the name is taken; it needs another one",
    "fails": r"cannot be had: RuntimeError: no luck",
    "needs": r"cannot be had: TypeError: every option needs a default, but groups has none",
    "number": r"cannot be had: TypeError: it must be a normalizer or a function that makes one, got str",
    "other": r"cannot be had: ValueError: its name must be that of its entry point, 'other', got 'another'",
}


def test_broken_distributions_are_named_in_a_line_each_and_the_table_stands(tmp_path):
    folder = install(tmp_path, "broken", BROKEN, ENTRIES)
    listed = run(folder, "-m", "normscope", "norms", "--json")
    assert listed.returncode == 0
    assert [row["name"] for row in json.loads(listed.stdout)] == [row.name for row in ns.normalizers()]
    lines = listed.stderr.splitlines()
    assert len(lines) == len(LINES)
    for line, (name, says) in zip(sorted(lines), LINES.items(), strict=True):
        assert line.startswith(f"normscope: The normalizer '{name}' of broken 1.2")
        assert re.search(says, line)
    asked = run(
        folder, "-c", "import normscope as ns; print(ns.normalizer('batchnorm').reference); ns.normalizer('fails')"
    )
    assert asked.stdout.startswith("Ioffe and Szegedy")
    assert asked.stderr.splitlines()[-1].startswith("ValueError: The normalizer 'fails' of broken 1.2 (broken:fails)")
