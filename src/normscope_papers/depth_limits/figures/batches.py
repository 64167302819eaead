"""Table D1 and the two items that the paper did not test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Axis, Figure, Table
from normscope.study import Study
from normscope_papers.common.cells import written
from normscope_papers.common.drawing import spread
from normscope_papers.common.rows import effect
from normscope_papers.depth_limits import drawing as d
from normscope_papers.depth_limits.figures.gradients import by_depth, slopes_by
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd

_SAMPLES = Axis("samples of a batch", log=True)
_SHARE = Axis("rank / samples", bounds=(0.0, 1.0))
_WHAT = (
    "Natural log of the Frobenius norm of the gradient by the second weight, against the depth of the network. Dashed: "
    "theory's growth on a batch of that rank, from the gradient measured at the last hidden layer back. "
)
_NAMES = {
    "raw_rank_float32": "pixels, float32",
    "raw_rank_float64": "pixels, float64",
    "rank_float64": "standardized, float64",
}


def ranks(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Rank over size against size, a panel for each precision."""
    rows = rows_with_conditions(frame, study.item, probe="batch_rank")
    panels = []
    for name, title in _NAMES.items() if len(rows) else ():
        own = rows[rows["name"] == name]
        shares = own.assign(value=own["value"] / own["samples"])
        panels.append(d.panel(title, _SAMPLES, _SHARE, shares, lambda row: str(row["data_set"]), "samples"))
    caption = (
        f"Rank of the Gram matrix of a batch, as a share of its size; each run's mean over batches. {spread(rows)}"
    )
    return d.figure(study, "Rank of batches", caption, panels)


def rank_table(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:
    """Table D1, in three ways, with the mean cosine."""
    rows = rows_with_conditions(frame, study.item)
    if rows.empty:
        return (d.table("No trial has ended.", ("samples",), ()),)
    sets = list(rows["data_set"].unique())
    found = []
    for name, title in (*_NAMES.items(), ("raw_cosine", "mean cosine of pixels")):
        own = rows[rows["name"] == name].groupby(["samples", "data_set", "seed"])["value"].mean()
        cells = [
            (str(size), *(written(effect("", own.loc[size, one])) if (size, one) in own else "–" for one in sets))
            for size in sorted(rows["samples"].unique())
        ]
        found.append(d.table(f"Table D1, {title}: mean over runs [95 % interval].", ("samples", *sets), cells))
    return tuple(found)


def samples(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Gradients against depth, a line for each number of samples."""
    rows = log_norms(frame, study.item)
    return d.figure(
        study,
        "Gradients by the number of samples",
        f"{_WHAT}{spread(rows)}",
        [by_depth(frame, study, lambda row: f"n = {row['samples']}")],
    )


def repeated(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Gradients against depth, a line for each number of copies."""
    rows = log_norms(frame, study.item)
    return d.figure(
        study,
        "Gradients by the number of repeated samples",
        f"{_WHAT}{spread(rows)}",
        [by_depth(frame, study, lambda row: f"{row['repeated']} repeated")],
    )


def by_samples(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:
    """Slopes by the number of samples."""
    return slopes_by(frame, study, ("samples",))


def by_copies(frame: pd.DataFrame, study: Study) -> tuple[Table, ...]:
    """Slopes by the number of copies."""
    return slopes_by(frame, study, ("repeated",))
