"""Figure 1: accuracies along training, and the channel moments on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """Figure 1, a line for each normalizer and rate; and grids of channel means and deviations for each."""
    rows = _labelled(pick(frame, probe="evaluation"), study)
    accuracies = {"test_accuracy": "test accuracy", "train_accuracy": "training accuracy"}
    curves = d.figure(
        study,
        "Accuracy along training",
        "In eval mode; training accuracy is that of the first training images. A line that ends early diverged, and so "
        f"did a rate without one. {d.spread(rows)}",
        [
            d.panel(title, _SHARE, Axis(title, bounds=(0.0, 1.0)), pick(rows, name=name), study)
            for name, title in accuracies.items()
        ],
    )
    means = _moments(frame, study, "mean", "mean", "of the size of the channel's mean")
    return (*curves, *means, *_moments(frame, study, "std", "deviation", "of the channel's standard deviation"))


def _moments(frame: pd.DataFrame, study: Study, name: str, moment: str, words: str) -> Figures:
    """A grid of one moment by layer and step for each normalizer and rate."""
    rows = by_layer(drawing.first_seed(pick(frame, probe="channel_moments", name=name)))
    rows = _labelled(rows.assign(block=rows["depth"]), study)
    axis = Axis(_AXES[name], log=True)
    panels = [
        drawing.raster(str(label), drawing.STEP, drawing.LAYER, axis, own, across="step", down="block")
        for label, own in rows.groupby("normalizer", sort=False)
    ]
    return drawing.rasters(
        study,
        f"Channel {moment} by layer along training",
        f"Mean over the channels of each block's output {words}, in train mode on one batch that stays the same. Each "
        "panel has its own scale; it ends where the training diverged. One network.",
        panels,
        name=f"{study.item}_channel_{moment}s",
    )


_AXES = {"mean": "|channel mean|", "std": "channel deviation"}


def _labelled(rows: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Named by normalizer and rate; the share of the whole training in per cent in the column `depth`."""
    asked = [(e.norm.label, e.training) for e in study.experiments if e.training is not None]
    lengths = {_name(norm, f"{one.optimizer.lr:g}"): one.steps for norm, one in asked}
    names = _name(rows["normalizer"], rows["lr"].map("{:g}".format).astype(str))
    return rows.assign(depth=100 * rows["step"] / names.map(lengths).astype(float), normalizer=names)


def _name(norm: Any, rate: Any) -> Any:
    """Of one training, or of columns of them."""
    return norm + ", rate " + rate
