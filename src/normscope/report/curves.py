"""From rows to lines: what the figures of a comparison share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from normscope.report import summary
from normscope.report.intervals import log_t_interval, t_interval
from normscope.report.specification import Axis, LineFigure, Panel, Series

Recipe = Mapping[str, Any]

# Points drawn in one panel, all lines together: 150 steps of ten normalizers. It bounds the page, whatever `steps` is.
MAX_POINTS = 1500

STEP = Axis("optimizer steps done")
LOG_STEP = Axis("optimizer steps done", log=True, shift=1.0)
ABOUT_LOG_STEPS = "Steps stand on a logarithmic axis, of 1 + step, on which initialization (0) has a place."
SURVIVORS = "A seed that diverged is in the mean up to its last step and not after it."


def bands(recipe: Recipe, *, log: bool = False) -> str:
    """What lines and bands are, for a caption."""
    if recipe["seeds"] < 2:
        return "One seed, so there is no band."
    means = "geometric means" if log else "means"
    of = " of the logarithm" if log else ""
    cut = "" if log else ", drawn as far as the values can go"
    return f"Lines are {means} over {recipe['seeds']} seeds, bands 95 % Student-t intervals{of}{cut}."


def figure_of(name: str, title: str, caption: str, panels: Iterable[Panel]) -> LineFigure | None:
    """The figure of those panels that hold a line; None where none does."""
    drawn = tuple(panel for panel in panels if panel.series)
    return LineFigure(name, title, caption, drawn) if drawn else None


def at_chosen_rate(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Rows of training, of each normalizer at the learning rate that its validation accuracy chose."""
    chosen = summary.results(frame, recipe).set_index("normalizer")["lr"]
    rows = frame[frame["kind"] == "train"]
    return rows[rows["lr"] == rows["normalizer"].map(chosen)]


def lines(
    rows: pd.DataFrame,
    recipe: Recipe,
    *,
    along: Literal["depth", "step"],
    axis: Axis,
    kind: Literal["measured", "theory"] = "measured",
) -> tuple[Series, ...]:
    """Return one line per normalizer that has rows, over seeds, in the recipe's order."""
    names = [name for name in summary.normalizer_names(rows, recipe) if (rows["normalizer"] == name).any()]
    limit = MAX_POINTS // max(len(names), 1)
    return tuple(_line(rows[rows["normalizer"] == name], name, along, axis, kind, limit) for name in names)


def _line(
    rows: pd.DataFrame, name: str, along: str, axis: Axis, kind: Literal["measured", "theory"], limit: int
) -> Series:
    by_seed = rows.groupby([along, "seed"])["value"].mean().unstack("seed")
    by_seed = by_seed.iloc[_spread(len(by_seed), limit)]
    mean, lo, hi = (log_t_interval if axis.log else t_interval)(by_seed.to_numpy(np.float64))
    seeds = tuple((int(seed), floats(by_seed[seed])) for seed in by_seed.columns)
    return Series(name, kind, floats(by_seed.index), floats(mean), floats(lo), floats(hi), seeds)


def _spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` (at least 2) indices below `count`, evenly spread, both ends among them."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, max(limit, 2))).round()})


def floats(values: Iterable[Any]) -> tuple[float, ...]:
    """Plain floats."""
    return tuple(float(value) for value in values)
