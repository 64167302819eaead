"""Panels that several figures of this paper share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from normscope.report import Axis, Figure, Raster, RasterFigure
from normscope.study import Study

if TYPE_CHECKING:
    import pandas as pd

LAYER = Axis("layer")
STEP_SIZE = Axis("step size", log=True)
STEP = Axis("optimizer steps done")
RELATIVE = Axis("relative loss", log=True, bounds=(0.03, 1e6))


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
