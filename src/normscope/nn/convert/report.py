"""What a conversion says it did: frozen rows, and the table they print as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionRow:
    """One line of the table. `from_` is also there as ``getattr(row, "from")``.

    Attributes:
        name: of the module, all its names where it has several; of the module that made the call, for a function.
        kind: a "norm", an "affine" layer, or a "function" called without a module.
        from_: class or function found.
        to: the row put there, with the options that are not its defaults; the same as `from_` where nothing changed.
        kept: what the new module took over.
        reset: what was lost or starts anew.
        refused: why it was left as it is; empty where it was converted.
        note: what else there is to know.
    """

    name: str
    kind: Literal["norm", "affine", "function"]
    from_: str
    to: str = ""
    kept: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    refused: str = ""
    note: str = ""


setattr(ConversionRow, "from", property(lambda row: row.from_))  # a keyword, which no definition can spell

_HEADER = ("name", "from", "to", "kept", "reset", "")


def table(rows: Sequence[ConversionRow]) -> str:
    """The rows as lines of text."""
    lines = [_HEADER, *(_cells(row) for row in _merged(rows))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADER))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cells(row: ConversionRow) -> tuple[str, ...]:
    remark = f"left: {row.refused}" if row.refused else row.note
    return (row.name or "(the model)", row.from_, row.to, ", ".join(row.kept), ", ".join(row.reset), remark)


def _merged(rows: Sequence[ConversionRow]) -> list[ConversionRow]:
    return [row for row in rows if row.kind != "affine" or row.to or row.refused]
