"""Figures 2, 4, 5 and 6: histograms, grids of channels and of logits, moments by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normscope.report import Axis, Figure, Panel, Series
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import pick
from normscope_papers.understanding_batch_norm import drawing
from normscope_papers.understanding_batch_norm.experiments import layer_of
from normscope_papers.understanding_batch_norm.rows import by_layer, diverges, diverging_size

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]

_NOTHING = float("nan")


def gradient_histogram(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 2: the density of the gradient's entries in one convolution, a panel each."""
    rows = drawing.first_seed(pick(frame, probe="gradient_histogram"))
    entry, density = Axis("entry of the gradient"), Axis("density", log=True)
    panels = [
        Panel(str(norm), entry, density, (_histogram(str(norm), own),))
        for norm, own in rows.groupby("normalizer", sort=False)
    ]
    return d.figure(
        study,
        "Gradient of one convolution at initialization",
        "Density of the entries of the gradient of the mean cross-entropy by the weights of one convolution, in bins "
        "of equal width between ± the largest entry: each panel has its own scale. One network, seed "
        f"{_seed(rows)}; bins without an entry are left out.",
        panels,
    )


def _histogram(norm: str, rows: pd.DataFrame) -> Series:
    table = rows[rows["name"].isin(["left", "right", "share"])].pivot_table(
        index="depth", columns="name", values="value"
    )
    width = table["right"] - table["left"]
    density = (table["share"] / width).where(table["share"] > 0, np.nan)
    x, y = (tuple(map(float, column)) for column in ((table["left"] + table["right"]) / 2, density))
    nothing = (_NOTHING,) * len(x)
    return Series(norm, "measured", x, y, nothing, nothing, ((_seed(rows), y),))


def diverging_step(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 4: means above and variances below, of each channel at each share of the step."""
    ratios = drawing.first_seed(pick(frame, probe="relative_loss"))
    rows = drawing.first_seed(pick(frame, probe="channel_moments_along_step"))
    channel, share = Axis("channel"), Axis("share of the step")
    axes = {"mean": Axis("channel mean"), "variance": Axis("channel variance", log=True)}
    place = rows["layer"].str.split("@", n=1, expand=True) if len(rows) else rows.reindex(columns=[0, 1])
    rows = rows.assign(module=place[0], share=place[1].astype(float))
    panels = [
        drawing.raster(
            f"{name}, layer {layer_of(module)}",
            channel,
            share,
            axis,
            pick(rows, name=f"channel_{name}", module=module),
            across="depth",
            down="share",
        )
        for name, axis in axes.items()
        for module in rows["module"].unique()
    ]
    return drawing.rasters(
        study,
        "Channels along one step of gradient descent without batch norm",
        "Mean (above) and variance (below, by powers of ten) of every channel over the images and pixels of the batch "
        "whose gradient is followed, from before the step (0) to its end (1). Each panel has its own scale; grey: not "
        f"finite, or a variance of 0. {_size(ratios)}One network, seed {_seed(rows)}.",
        panels,
    )


def _size(ratios: pd.DataFrame) -> str:
    """What step was taken, by the relative losses from which it was chosen."""
    if ratios.empty:
        return ""
    found = "the first size of the grid" if diverges(ratios) else "the last size of the grid, since no size is one"
    return f"The step is of rate {diverging_size(ratios):.3g}, {found} whose relative loss exceeds 1,000. "


def moments(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 5: mean |channel mean| and mean channel deviation by layer."""
    rows = by_layer(pick(frame, probe="channel_moments", step=0))
    names = {"std": Axis("channel deviation", log=True), "mean": Axis("|channel mean|", log=True)}
    return d.figure(
        study,
        "Channel moments by depth at initialization",
        "Mean over the channels of each block's output, of the channel's standard deviation and of |channel mean| over "
        f"images and pixels; the last point is of the logits. {d.spread(rows, log=True)}",
        [d.panel(axis.title, drawing.LAYER, axis, pick(rows, name=name), study) for name, axis in names.items()],
    )


def logits(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 6: the gradient with respect to the logits, images down and classes across."""
    rows = drawing.first_seed(pick(frame, probe="logit_gradients", name="gradient"))
    rows = rows.assign(unit_class=rows["layer"].astype(float))
    panels = [
        drawing.raster(
            str(norm),
            Axis("class"),
            Axis("image"),
            Axis("gradient"),
            own,
            across="unit_class",
            down="depth",
        )
        for norm, own in rows.groupby("normalizer", sort=False)
    ]
    return drawing.rasters(
        study,
        "Gradient with respect to the logits at initialization",
        "Each row is an image, each column a class: (p - 1[label]) / images. Blue is the label's own entry; a column "
        f"that is red throughout is a class that is predicted whatever the image. One network, seed {_seed(rows)}.",
        panels,
    )


def _seed(rows: pd.DataFrame) -> int:
    return 0 if rows.empty else int(rows["seed"].iloc[0])
