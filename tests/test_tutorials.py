"""Tutorials say what their code prints: every block runs, every quoted output and every number in the text is its."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
# A block of code, and the output that is quoted behind it, if any.
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\d)")

pytestmark = pytest.mark.filterwarnings("error")


@functools.cache
def executed(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The names that the tutorial's code leaves behind, and what each of its blocks printed."""
    names: dict[str, Any] = {}
    printed = []
    with contextlib.chdir(ROOT):
        for code, _ in BLOCK.findall(path.read_text()):
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(code, str(path), "exec"), names)
            printed.append(output.getvalue())
    return names, tuple(printed)


def last_digit(number: str) -> Decimal:
    """One unit in the last place: 0.01 of 2.31, 0.1 of 2.3, 1e2 of 5e+02."""
    return Decimal(1).scaleb(int(Decimal(number).as_tuple().exponent))


def complaint(quoted: str, printed: str) -> str | None:
    """Where two outputs differ by more than rounding: in words, or in a number by over a unit in the last place."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (quoted, printed)]
    if words[0] != words[1]:
        return f"{words[0]!r} is not {words[1]!r}"
    for said, found in zip(NUMBER.findall(quoted), NUMBER.findall(printed), strict=True):
        if abs(Decimal(said) - Decimal(found)) > last_digit(said):
            return f"{said} is not {found}"
    return None


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_every_output_is_quoted_and_is_what_the_code_prints(path):
    quoted = [text for _, text in BLOCK.findall(path.read_text())]
    _, printed = executed(path)
    assert [complaint(*pair) for pair in zip(quoted, printed, strict=True)] == [None] * len(quoted)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_every_decimal_in_the_text_is_in_the_code_or_its_output(path):
    text = path.read_text()
    known = [Decimal(number) for block in BLOCK.findall(text) for part in block for number in NUMBER.findall(part)]
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    decimals = [number for number in NUMBER.findall(prose) if "." in number]
    assert [n for n in decimals if not any(abs(k - Decimal(n)) <= last_digit(n) / 2 for k in known)] == []


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_the_figure_is_drawn_from_the_tutorials_numbers(path, tmp_path):
    script = _script()
    names, _ = executed(path)
    drawn = script.draw(path.stem, names, tmp_path)
    assert drawn.read_bytes().startswith(b"\x89PNG")
    assert f"../figures/{drawn.name}" in path.read_text()


def test_a_comparison_sees_what_rounding_cannot_do():
    assert complaint("a  1.20 and 2e-01\n", "a 1.21 and 3e-01\n") is None
    assert complaint("a 1.20", "a 1.22") == "1.20 is not 1.22"
    assert complaint("a 2e-01", "a 4e-01") == "2e-01 is not 4e-01"
    assert complaint("falls 1", "rises 1") == "'falls #' is not 'rises #'"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_figures", ROOT / "docs" / "figures" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
