"""The decay of the isometry gap: the lines that theory and the paper draw for it, and the k that measurements give."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from normscope_papers.common.rows import log
from normscope_papers.depth_limits.rows import rows_with_conditions, slope, straightness, table

if TYPE_CHECKING:
    import pandas as pd

HAND_CHOSEN = 0.015
"""C of the dashed line in figure 1, in the authors' code; the text has an absolute constant without a value."""

LEAST = 1e-13
"""Of a gap that is the difference of two logarithms: below it rounding in float64 has eaten the digits of interest."""


def gaps(frame: pd.DataFrame, width: int, *, name: str = "gap") -> pd.DataFrame:
    """Gap of what enters each normalization of figure 1: seeds x layers; or theory's of that name."""
    probe = "isometry_gap" if name == "gap" else "theory.isometry_gap"
    return table(rows_with_conditions(frame, "fig1", probe=probe, name=name, width=width), "depth")


def widths(frame: pd.DataFrame) -> list[int]:
    """The widths that figure 1 was run with, ascending."""
    rows = rows_with_conditions(frame, "fig1")
    return sorted(int(width) for width in rows["width"].unique()) if "width" in rows else []


def drawn_line(gaps: pd.DataFrame, width: int) -> pd.DataFrame:
    """The paper's dashed line: exp(-l / (C d^2 (1 + d phi_0))) times the first gap, with its hand-chosen C."""
    import pandas as pd

    first = gaps[gaps.columns[0]]
    constant = HAND_CHOSEN * width**2 * (1 + width * first)  # by seed
    layers = np.array(gaps.columns, float) - gaps.columns[0]
    fall = np.exp(-layers[None, :] / constant.to_numpy()[:, None])
    return pd.DataFrame(first.to_numpy()[:, None] * fall, index=gaps.index, columns=gaps.columns)


def decay(gaps: pd.DataFrame) -> pd.Series[float]:
    """K of gaps that fall as exp(-l / k), by seed: least squares of their logarithm."""
    return -1 / _logs(gaps).apply(lambda line: slope(line.dropna()), axis=1)


def linearity(gaps: pd.DataFrame) -> pd.Series[float]:
    """How straight the logarithm of the gap is, by seed: the share of its variance that a line explains."""
    found: pd.Series[float] = _logs(gaps).apply(lambda line: straightness(line.dropna()), axis=1)
    return found


def predicted(width: int) -> float:
    """K of small gaps by theory, (d + 2) / 2 to leading order: -1 / log(1 - 2 / (d + 2))."""
    return -1 / math.log1p(-2 / (width + 2))


def _logs(gaps: pd.DataFrame) -> pd.DataFrame:
    return log(gaps.where(gaps > LEAST))
