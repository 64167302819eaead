"""Panels of the paper's figures: what several of them draw alike. A line is what a label says, not a normalizer."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from normscope.report import Axis, Panel, Series, Table, lines
from normscope_papers.common import drawing

if TYPE_CHECKING:
    import pandas as pd

DEPTH = Axis("depth of the network (layers)")
LAYER = Axis("layer")
EPOCH = Axis("epoch", log=True, shift=1.0)
LOG_NORM = Axis("log ‖∇W₂‖", "nats")
GAP = Axis("isometry gap φ", "nats", log=True)
RATE = Axis("rate of explosion", "nats/layer")
ACCURACY = Axis("accuracy", bounds=(0.0, 1.0))

Label = Callable[["pd.Series[Any]"], str]
Kind = Literal["measured", "theory"]


figure = functools.partial(drawing.figure, theory="theory")
"""The figure of those panels that hold a line, its grey lines named `theory`; nothing where none does."""


def curves(rows: pd.DataFrame, label: Label, along: str, axis: Axis, *, kind: Kind = "measured") -> tuple[Series, ...]:
    """One line for each label against the column `along`, in the order in which labels come."""
    if rows.empty:
        return ()
    named = rows.assign(normalizer=rows.apply(label, axis=1), depth=rows[along].astype(float))
    return lines(named, {"norms": [], "seeds": int(rows["seed"].nunique())}, along="depth", axis=axis, kind=kind)


def panel(
    title: str, x: Axis, y: Axis, rows: pd.DataFrame, label: Label, along: str, *, theory: pd.DataFrame | None = None
) -> Panel:
    """A panel of such lines, with theory's dashed."""
    measured = curves(rows, label, along, y)
    dashed = () if theory is None else curves(theory, label, along, y, kind="theory")
    return Panel(title, x, y, (*measured, *dashed))


def table(caption: str, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
    """A table of cells that are text."""
    return Table(caption, header, tuple(rows))
