"""Figure 1 and a table of its rates of decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Figure, Panel, Table, short
from normscope.study import Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import spread
from normscope_papers.common.rows import effect
from normscope_papers.depth_limits import decay as k
from normscope_papers.depth_limits import drawing as d
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def gap(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure 1: the gap by layer, a panel for each width, with three dashed lines."""
    rows = rows_with_conditions(frame, study.item)
    return d.figure(
        study,
        "Isometry gap by depth near isometry",
        "Gap of what enters each normalization, of a linear network with orthogonal weights and as many samples as "
        "units. Dashed, from the first measured gap on: theorem 1 with the constants of its proof (the flat one), the "
        "rate 1 - 2/(d + 2) of small gaps (the one on the measured line), and the line that the paper draws, with a "
        f"constant of 0.015 chosen by hand. {spread(rows, log=True)}",
        [_panel(frame, width) for width in k.widths(frame)],
        theory="theorem 1; small gaps; the paper's line",
    )


def _panel(frame: pd.DataFrame, width: int) -> Panel:
    rows = rows_with_conditions(frame, "fig1", width=width)
    measured = rows[(rows["probe"] == "isometry_gap") & (rows["name"] == "gap")]
    theory = rows[rows["probe"] == "theory.isometry_gap"]
    lines = d.curves(measured, lambda row: f"d = {row['width']}", "depth", d.GAP)
    for name in ("bound", "rate"):
        lines += d.curves(
            theory[theory["name"] == name], lambda row: f"d = {row['width']}", "depth", d.GAP, kind="theory"
        )
    drawn = k.drawn_line(k.gaps(frame, width), width).melt(ignore_index=False).reset_index()
    lines += d.curves(drawn, lambda _row: f"d = {width}", "depth", d.GAP, kind="theory")
    return Panel(f"width {width}", d.LAYER, d.GAP, lines)


def decay(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:  # noqa: ARG001  (tables are called alike)
    """How fast the gap decays at each width, beside theory and the paper's line."""
    return (
        d.table(
            "The gap falls as exp(-l / k). Measured: least squares of its logarithm, mean over seeds [95 % interval]; "
            "R² is the share of the variance that a straight line explains.",
            ("width d", "k measured", "R²", "k of small gaps", "k of theorem 1's proof", "k of the paper's line"),
            (_cells(frame, width) for width in k.widths(frame)),
        ),
    )


def _cells(frame: pd.DataFrame, width: int) -> tuple[str, ...]:
    gaps = k.gaps(frame, width)
    first = gaps[gaps.columns[0]]
    proof = (32 * width**3 * first).clip(lower=2 * width**2)
    line = k.HAND_CHOSEN * width**2 * (1 + width * first)
    return (
        str(width),
        written(effect("", k.decay(gaps))),
        written(effect("", k.linearity(gaps))),
        short(k.predicted(width)),
        written(effect("", proof)),
        written(effect("", line)),
    )
