"""Figure 1: accuracies along training, and the channel moments on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Axis, Figure
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import pick
from normscope_papers.understanding_batch_norm import drawing
from normscope_papers.understanding_batch_norm.rows import by_layer

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]

_SHARE = Axis("share of training", "%")


def training(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 1, a line for each normalizer and rate; and a grid of channel deviations for each."""
    rows = _labelled(pick(frame, probe="evaluation"), study)
    accuracies = {"test_accuracy": "test accuracy", "train_accuracy": "training accuracy"}
    curves = d.figure(
        study,
        "Accuracy along training",
        "In eval mode; training accuracy is that of the first training images. A line that ends early diverged. "
        f"{d.spread(rows)}",
        [
            d.panel(title, _SHARE, Axis(title, bounds=(0.0, 1.0)), pick(rows, name=name), study)
            for name, title in accuracies.items()
        ],
    )
    return curves + _moments(frame, study)


def _moments(frame: pd.DataFrame, study: Study) -> Figures:
    rows = by_layer(drawing.first_seed(pick(frame, probe="channel_moments", name="std")))
    rows = _labelled(rows.assign(block=rows["depth"]), study)
    panels = [
        drawing.raster(
            str(label),
            drawing.STEP,
            drawing.LAYER,
            Axis("channel deviation", log=True),
            own,
            across="step",
            down="block",
        )
        for label, own in rows.groupby("normalizer", sort=False)
    ]
    return drawing.rasters(
        study,
        "Channel deviation by layer along training",
        "Mean over the channels of each block's output of the channel's standard deviation, in train mode on one batch "
        "that stays the same. Each panel has its own scale; it ends where the training diverged. One network.",
        panels,
        name=f"{study.item}_channel_deviations",
    )


def _labelled(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Named by normalizer and rate; the share of the whole training in per cent in the column `depth`."""
    lengths = {e.norm.label: e.training.steps for e in study.experiments if e.training is not None}
    rates = rows["lr"].map("{:g}".format).astype(str)
    share = 100 * rows["step"] / rows["normalizer"].map(lengths).astype(float)
    return rows.assign(depth=share, normalizer=rows["normalizer"] + ", rate " + rates)
