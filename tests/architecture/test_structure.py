"""The house of DESIGN: which room may import which, how long a file may be, and what `import normscope` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import normscope as ns

SOURCE = Path(ns.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Room -> rooms it may import. "": files directly in the package (the command line may use any public name).
FREE = {"linalg", "nn", "theory", "models", "data", "train"}
MAY_IMPORT = {room: set[str]() for room in FREE} | {
    "curvature": {"linalg"},
    "probes": {"curvature", "linalg"},
    "trust": {"curvature", "nn"},
    "study": FREE | {"curvature", "probes"},
    "report": {"study"},
    "diagnose": FREE | {"curvature", "probes", "study", "report"},
}


def room_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else ""


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_follow_the_arrows(path):
    room = room_of(path)
    if room in ("", "console"):  # the command line may use any public name
        return
    others = {
        name.split(".")[1]
        for name in imported_modules(path)
        if name.startswith("normscope.") and (SOURCE / name.split(".")[1]).is_dir()
    }
    assert others - {room} <= MAY_IMPORT[room]


# What reads run folders, rows and the verdicts that follow from them; and the plain data that say what was asked.
READERS = tuple(f"normscope.study.{name}" for name in ("records", "judging", "experiment", "paper", "claims"))


def test_report_reads_records_only_and_never_torch():
    for path in (SOURCE / "report").rglob("*.py"):
        for name in imported_modules(path):
            assert not name.startswith("torch"), path
            if name.startswith("normscope.study"):
                assert name.startswith(READERS) or name == "normscope.study", path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_is_longer_than_350_lines(path):
    assert len(path.read_text().splitlines()) <= 350


def public_definitions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_public_definition_has_a_docstring(path):
    assert ast.get_docstring(ast.parse(path.read_text())), "the module says what it is for"
    for node in public_definitions(path):
        # `forward` is described by its class: the formula and the shapes stand there.
        assert node.name == "forward" or ast.get_docstring(node), f"{node.name} has no docstring"


def modules_after(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("statement", ["import normscope", "import normscope.cli", "import normscope.study.recipe"])
def test_nothing_heavy_is_imported_before_it_is_used(statement):
    assert not modules_after(statement) & {"torch", "numpy", "pandas", "matplotlib", "datasets", "sklearn", "pyarrow"}


def test_reading_and_drawing_results_needs_no_torch():
    assert "torch" not in modules_after("import normscope.report, normscope.study.records")


def test_every_public_name_is_there():
    for name in ns.__all__:
        assert getattr(ns, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'normaliser'"):
        ns.normaliser  # noqa: B018
    assert set(ns.__all__) <= set(dir(ns))


def test_every_record_loads_and_holds_its_checksums():
    records = Path(__file__).parents[2] / "records"
    frame = ns.load(records)
    assert set(frame["run"]) == {path.name for path in records.iterdir() if path.is_dir()}
