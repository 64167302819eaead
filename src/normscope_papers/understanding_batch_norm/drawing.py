"""Panels that several figures of this paper share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from normscope.report import Axis, Figure, Panel, Raster, RasterFigure
from normscope.study import Study
from normscope_papers.is_batch_norm_unique import drawing as d

if TYPE_CHECKING:
    import pandas as pd

LAYER = Axis("layer")
STEP_SIZE = Axis("step size", log=True)
STEP = Axis("optimizer steps done")
RELATIVE = Axis("relative loss", log=True, bounds=(0.03, 1e6))


def panel(
    title: str,
    x: Axis,
    y: Axis,
    rows: pd.DataFrame,
    study: Study,
    *,
    theory: pd.DataFrame | None = None,
    along: Literal["depth", "step"] = "depth",
) -> Panel:
    """A panel of one line per name in the column `normalizer`, and dashed lines of theory."""
    lines = d.drawn(rows, study, along, y)
    dashed = () if theory is None else d.drawn(theory, study, along, y, kind="theory")
    return Panel(title, x, y, lines + dashed)


def named(rows: pd.DataFrame, names: pd.Series[str]) -> pd.DataFrame:
    """The rows with these names for their lines."""
    return rows.assign(normalizer=names)


def first_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the smallest seed: a grid shows one network."""
    first: pd.DataFrame = rows[rows["seed"] == rows["seed"].min()]
    return first


def raster(title: str, x: Axis, y: Axis, color: Axis, rows: pd.DataFrame, *, across: str, down: str) -> Raster:
    """A grid of the values by two columns of the rows, each in ascending order."""
    table = rows.pivot_table(index=down, columns=across, values="value", dropna=False)
    values = tuple(tuple(float(value) for value in row) for row in table.to_numpy())
    return Raster(title, x, y, color, tuple(map(float, table.columns)), tuple(map(float, table.index)), values)


def rasters(study: Study, title: str, caption: str, panels: Sequence[Raster], *, name: str = "") -> tuple[Figure, ...]:
    """The figure of those grids that hold a cell; nothing where none does."""
    drawn = tuple(one for one in panels if one.values)
    return (RasterFigure(name or study.item, title, caption, drawn),) if drawn else ()
