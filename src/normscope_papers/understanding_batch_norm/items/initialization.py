"""Figures 2, 4, 5 and 6 and Table 1: the untrained network, and one diverging step from there."""

from __future__ import annotations

from typing import Any

from normscope.study import Item
from normscope_papers.common.data_sets import CIFAR10, DIGITS
from normscope_papers.common.drawing import no_figures
from normscope_papers.common.experiments import Fields, Stages, measured, named
from normscope_papers.understanding_batch_norm import notes, published, tables
from normscope_papers.understanding_batch_norm.experiments import (
    BLOCKS,
    PAIR,
    READOUT,
    Initial,
    at_least,
    block,
    convolution,
)
from normscope_papers.understanding_batch_norm.figures import initialization as figures
from normscope_papers.understanding_batch_norm.rows import DIVERGENCE


def gradient_histogram(*, layer: int, bins: int, **fields: Any) -> Stages:
    """Figure 2: the gradient's entries in one convolution."""
    setting = Initial(**fields)
    module = convolution(layer, depth=setting.depth)
    return setting.study(measured("gradient_histogram", 0, modules=module, bins=bins))


def diverging_step(
    *, layers: tuple[int, ...], low: float, high: float, sizes: int, points: int, **fields: Any
) -> Stages:
    """Figure 4: channel means and variances of three blocks along one step of gradient descent.

    The step is of the first of so many sizes from `low` to `high` at which it diverges.
    """
    at_least(2, points=points, sizes=sizes)
    setting = Initial(**fields)
    modules = " ".join(block(layer, depth=setting.depth) for layer in layers)
    grid: dict[str, Any] = {"low": low, "high": high, "sizes": sizes, "divergence": DIVERGENCE}
    return setting.study(measured("channel_moments_along_step", 0, modules=modules, points=points, **grid))


def moments(**fields: Any) -> Stages:
    """Figure 5: channel means and deviations by depth, of the logits too."""
    return Initial(**fields).study(measured("channel_moments", 0, modules=f"{BLOCKS} {READOUT}"))


def logits(**fields: Any) -> Stages:
    """Figure 6: the gradient with respect to the logits, image by image."""
    return Initial(**fields).study(measured("logit_gradients", 0))


def gradient_sums(*, layers: tuple[int, ...], **fields: Any) -> Stages:
    """Table 1: sums of absolute values and absolute values of sums in three convolutions."""
    setting = Initial(**fields)
    modules = " ".join(convolution(layer, depth=setting.depth) for layer in layers)
    return setting.study(measured("gradient_sums", 0, modules=modules))


_SMOKE: dict[str, Any] = {
    "data": DIGITS,
    "max_train": 256,
    "norms": PAIR,
    "depth": 8,
    "width": 4,
    "init": "xavier",
    "batch_size": 16,
    "seeds": 1,
}
_PAPER: dict[str, Any] = _SMOKE | {
    "data": CIFAR10,
    "max_train": None,
    "depth": 110,
    "width": 16,
    "batch_size": 128,
    "seeds": 5,
}
_LAPTOP = _PAPER | {"max_train": 2000}


def _fields(*, smoke: dict[str, Any], full: dict[str, Any]) -> Fields:
    return {"smoke": _SMOKE | smoke, "laptop": _LAPTOP | full, "paper": _PAPER | full}


_NOTES = (notes.NETWORK, notes.NO_BIAS, notes.OWN_SIZE.format(seeds="the paper scale's five"), notes.SMOKE)

ITEMS: tuple[Item, ...] = (
    Item(
        name="fig2",
        title="Histogram of the gradient of one convolution at initialization",
        source="Figure 2",
        fields=_fields(smoke={"layer": 5, "bins": 20}, full={"layer": 55, "bins": 101}),
        study=gradient_histogram,
        figures=figures.gradient_histogram,
        published=published.FIGURE_2,
        notes=(notes.LAYERS, "Layer 55 [P] is the second convolution of the 27th block.", *_NOTES),
    ),
    Item(
        name="fig4",
        title="Channel means and variances along one diverging step without batch norm",
        source="Figure 4",
        fields=_fields(
            smoke={"layers": (2, 4, 6), "low": 0.1, "high": 1e3, "sizes": 5, "points": 5, "norms": named("none")},
            full={"layers": (8, 44, 80), "points": 21, "norms": named("none")}
            | {"low": 1.5e-5, "high": 0.2, "sizes": 26},
        ),
        study=diverging_step,
        figures=figures.diverging_step,
        published=published.FIGURE_4,
        notes=(
            notes.LAYERS,
            "The paper says neither where its step begins nor how large it is. Here it begins at initialization, and "
            "for each network it is of the first size of Figure 3's grid (26 from 1.5e-5 to 0.2) whose relative loss "
            "exceeds 10^3, which is what the paper calls divergence [S]. At larger ones everything overflows at once.",
            "Where no size diverges, the step is of the largest, the caption says so, and no claim is judged.",
            "The figure has one network; claims have an interval over five.",
            *_NOTES,
        ),
    ),
    Item(
        name="fig5",
        title="Channel means and deviations by depth at initialization",
        source="Figure 5",
        fields=_fields(smoke={}, full={}),
        study=moments,
        figures=figures.moments,
        published=published.FIGURE_5,
        notes=(
            notes.LAYERS,
            "The mean over channels of |channel mean| and of the channel's standard deviation; logarithms are natural "
            "[D]. All blocks are drawn, of which the paper has every sixth, and the logits, its layer 110 [D].",
            *_NOTES,
        ),
    ),
    Item(
        name="fig6",
        title="Gradient with respect to the logits, image by image, at initialization",
        source="Figure 6",
        fields=_fields(smoke={}, full={}),
        study=logits,
        figures=figures.logits,
        tables=tables.logits,
        published=published.FIGURE_6,
        notes=(
            "Of a mean over B images each entry is (p - 1[label]) / B.",
            "The cosine is the mean over pairs of images of the cosine of their rows.",
            *_NOTES,
        ),
    ),
    Item(
        name="table1",
        title="Gradients of convolutions at initialization: sum of absolute values, absolute value of the sum",
        source="Table 1",
        fields=_fields(smoke={"layers": (2, 4, 6)}, full={"layers": (18, 54, 90)}),
        study=gradient_sums,
        figures=no_figures,
        tables=tables.gradient_sums,
        published=published.TABLE_1,
        notes=(
            "Over images and pixels, for each weight, then averaged over the weights; exact, from the gradient of |g| "
            "and |I| [D].",
            "The layout and numbers of the paper's table are remembered, not read [M].",
            notes.LAYERS,
            *_NOTES,
        ),
    ),
)
