"""Figures 4, 6, F1, F2 and G1 to G4: what is seen in training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from normscope.report import Axis, Figure
from normscope.study import Study
from normscope_papers.common.drawing import spread
from normscope_papers.depth_limits import drawing as d
from normscope_papers.depth_limits.rows import part_ratios, rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd

_GRADIENT = Axis("‖∇W‖", log=True)
_RATIO = Axis("symmetric / antisymmetric part", log=True)
_UNDER = {
    ("batch_accuracy", "train_accuracy"): "train",
    ("batch_accuracy", "test_accuracy"): "test, statistics of test batches",
    ("evaluation", "test_accuracy"): "test, running statistics",
}


def epochs(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows with the epoch of each, by the steps of an epoch that the study's measurements show."""
    return rows.assign(epoch=rows["step"] / steps_per_epoch(study))


def steps_per_epoch(study: Study) -> int:
    """Steps of one epoch: every training measures something at 0 and, next, after its first epoch."""
    for experiment in study.experiments:
        for measurement in experiment.measurements:
            if len(measurement.at) > 2:
                return measurement.at[1]
    return max(step for experiment in study.experiments for m in experiment.measurements for step in m.at)


def curves(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figure 4: train accuracy by epoch, a panel for each activation, a line for each depth."""
    rows = epochs(rows_with_conditions(frame, study.item, probe="batch_accuracy", name="train_accuracy"), study)
    panels = [
        d.panel(str(activation), d.EPOCH, d.ACCURACY, own, _layers, "epoch")
        for activation, own in (rows.groupby("activation", sort=False) if len(rows) else ())
    ]
    caption = f"Accuracy on the first 1,000 training images, each batch under its own statistics. {spread(rows)}"
    return d.figure(study, "Train accuracy by epoch and depth", caption, panels)


def accuracies(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figures G1 to G4: train and test accuracy, a panel for each activation and kind."""
    rows = epochs(rows_with_conditions(frame, study.item), study)
    panels = []
    for (probe, name), title in _UNDER.items():
        kind = rows[(rows["probe"] == probe) & (rows["name"] == name)]
        for activation, own in kind.groupby("activation", sort=False) if len(kind) else ():
            panels.append(d.panel(f"{activation}: {title}", d.EPOCH, d.ACCURACY, own, _layers, "epoch"))
    caption = (
        "Train: the first 1,000 training images, each batch under its own statistics. Test: under the running "
        f"statistics of training, and under the statistics of test batches. {spread(rows)}"
    )
    return d.figure(study, "Train and test accuracy by epoch and depth", caption, panels)


def weights(frame: pd.DataFrame, study: Study) -> tuple[Figure, ...]:
    """Figures 6, F1 and F2: gap of the weights, norm and parts of their gradients by layer, a line for each epoch."""
    rows = epochs(rows_with_conditions(frame, study.item), study)
    panels = []
    for layers, own in rows.groupby("layers") if len(rows) else ():
        hidden = own[(own["depth"] > 1) & (own["depth"] <= own["layers"]) & _shown(own)]
        gaps = hidden[(hidden["name"] == "weight_gap") & (hidden["epoch"] > 0)]  # at 0 it is rounding
        norms = hidden[hidden["probe"] == "weight_gradient_norm"]
        norms = norms.assign(value=norms["value"].map(math.exp))
        panels += [
            d.panel(f"(a) gap of the weights, depth {layers}", d.LAYER, d.GAP, gaps, _epoch, "depth"),
            d.panel(f"(b) gradients, depth {layers}", d.LAYER, _GRADIENT, norms, _epoch, "depth"),
            d.panel(f"(c) parts of ∇W Wᵀ, depth {layers}", d.LAYER, _RATIO, part_ratios(hidden), _epoch, "depth"),
        ]
    return d.figure(
        study,
        "Orthogonality of the weights and gradients by layer in training",
        "Isometry gap of each square weight; Frobenius norm of the loss's gradient by it on one batch that stays the "
        "same; and, not in the paper, norm of the symmetric over that of the antisymmetric part of ∇W Wᵀ. "
        f"{spread(rows, log=True)}",
        panels,
    )


def _shown(rows: pd.DataFrame) -> pd.Series[bool]:
    """A few epochs: the first, the last, and those of the paper's figure."""
    chosen = {0.0, 1.0, 10.0, 50.0, 100.0, 200.0, 300.0, rows["epoch"].max()}
    return rows["epoch"].isin(chosen)


def _layers(row: pd.Series[Any]) -> str:
    return f"depth {row['layers']}"


def _epoch(row: pd.Series[Any]) -> str:
    return f"epoch {row['epoch']:g}"
