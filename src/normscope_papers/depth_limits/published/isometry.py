"""Figure 1, read by eye to about two digits."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Effect
from normscope_papers.common.published import mean, published
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def _gap(frame: pd.DataFrame, *, width: int, last: bool) -> Effect | None:
    rows = rows_with_conditions(frame, "fig1", probe="isometry_gap", name="gap", width=width)
    place = rows["depth"].max() if last else 1
    return mean(f"gap of what enters layer {place}, width {width}", rows[rows["depth"] == place], unit="nats")


FIG_1 = tuple(
    published(
        f"Figure 1, gap of the {'last' if last else 'first'} layer",
        f"width {width}",
        value,
        partial(_gap, width=width, last=last),
        f"{notes.READ} u and v are drawn anew in each run, and the first gap follows from them.",
        unit="nats",
    )
    for width, last, value in ((50, False, 1.7e-4), (50, True, 3e-6), (100, False, 3.3e-4), (100, True, 4.3e-5))
)
