"""Claims 4 and 12, and other initializations: at which steps the loss blows up, and who bears which rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, log, nothing, pick
from normscope_papers.understanding_batch_norm.experiments import CONTROL
from normscope_papers.understanding_batch_norm.rows import along, decades, diverging_size, learns, usable_rate

if TYPE_CHECKING:
    import pandas as pd

_NEAR = 2.5e-3  # between the 2e-3 and 3e-3 of the statement


def divergence_without(frame: pd.DataFrame) -> Effect:
    """How many decades the first minibatch's divergent step size lies from that of the paper, without batch norm."""
    rows = pick(frame, item="fig3", probe="relative_loss", normalizer="none")
    rows = rows[rows["step"] == rows["step"].min()]
    sizes = by_seed(rows, diverging_size)
    return effect(
        f"decades between the divergent step size without batch norm and {_NEAR:g}, first minibatch",
        log(sizes / _NEAR, base=10).abs(),
    )


def largest_with(frame: pd.DataFrame) -> Effect:
    """Batch norm's largest relative loss over all step sizes and minibatches, as a power of ten."""
    rows = pick(frame, item="fig3", probe="relative_loss", normalizer="batchnorm")
    largest = rows.groupby("seed")["value"].max() if len(rows) else rows["value"]
    return effect(
        "log10 of the largest relative loss of batchnorm, all step sizes and minibatches", log(largest, base=10)
    )


def margin(frame: pd.DataFrame) -> Effect:
    """By how much batch norm's divergent step size, or the end of the grid, lies above that without, in decades."""
    rows = pick(frame, item="fig3", probe="relative_loss")
    rows = rows[rows["step"] == rows["step"].min()]
    with_norm, without = (by_seed(pick(rows, normalizer=norm), diverging_size) for norm in ("batchnorm", "none"))
    what = "log10 of the divergent step size, first minibatch: batchnorm - none"
    return effect(what, decades(with_norm, without, along(rows)["depth"]))


def shallow_beside_deep(
    rows: pd.DataFrame, reduce: Callable[[pd.DataFrame], float], grid: pd.Series[float]
) -> pd.Series[float]:
    """log10 of a number of the shallowest network over that of the deepest, by seed."""
    depths = rows["condition"].str.removeprefix("depth ").astype(int)
    shallow, deep = (by_seed(rows[depths == end], reduce) for end in (depths.min(), depths.max()))
    return decades(shallow, deep, grid)


def usable(frame: pd.DataFrame) -> Effect:
    """Usable rate of the shallowest network beside that of the deepest."""
    rows = pick(frame, item="depth", kind="train")
    ratio = shallow_beside_deep(rows, usable_rate, rows["lr"])
    return effect("log10 of the largest rate that teaches: shallowest - deepest network", ratio)


def divergent(frame: pd.DataFrame) -> Effect:
    """Divergent step size of the shallowest network beside that of the deepest, untrained."""
    rows = pick(frame, item="depth", kind="init", probe="relative_loss")
    ratio = shallow_beside_deep(rows, diverging_size, along(rows)["depth"])
    return effect("log10 of the divergent step size at initialization: shallowest - deepest network", ratio)


def best_initialization(frame: pd.DataFrame) -> Effect:
    """The largest divergent step size of all initializations, in decades above the lower end of batch norm's range."""
    what = "log10 of the divergent step size, largest of all initializations without batch norm"
    rows = pick(frame, item="initializations", kind="init", probe="relative_loss")
    if rows.empty:
        return nothing(what)
    sizes = [by_seed(own, diverging_size) for _, own in rows.groupby("condition")]
    return effect(what, log(_largest(sizes), base=10))


def initializations_that_learn(frame: pd.DataFrame) -> Effect:
    """The share of the initializations that learn without batch norm at the largest rate at which it does with it.

    NaN where it learns at none with it, and where a training is missing.
    """
    rows = pick(frame, item="initializations", kind="train")
    asked = rows[rows["condition"] != CONTROL]["condition"].nunique()

    def share(own: pd.DataFrame) -> float:
        control, others = own[own["condition"] == CONTROL], own[own["condition"] != CONTROL]
        rates = [float(str(rate)) for rate, one in control.groupby("lr") if learns(one)]
        if not rates:
            return math.nan
        found = [learns(one) for _, one in pick(others, lr=max(rates)).groupby("condition")]
        return sum(found) / asked if found and len(found) == asked else math.nan

    what = "share of the initializations that learn without batch norm at the largest rate at which batchnorm learns"
    return effect(what, by_seed(rows, share))


def scale_decides(frame: pd.DataFrame) -> Effect:
    """How much farther the deviation grows from the first block to the last under He's rule than under Xavier's."""
    growth = {}
    for init in ("he", "xavier"):
        rows = pick(frame, item="initializations", probe="channel_moments", name="std", condition=init)
        growth[init] = by_seed(rows, _growth)
    what = "ln of the deviation, last block - first: he - xavier"
    return effect(what, growth["he"] - growth["xavier"])


def _growth(rows: pd.DataFrame) -> float:
    ordered = rows.sort_values("depth")["value"].to_numpy(np.float64)
    return float(np.log(ordered[-1]) - np.log(ordered[0]))


def _largest(series: list[pd.Series[float]]) -> pd.Series[float]:
    largest = series[0]
    for one in series[1:]:
        largest = largest.combine(one, max)
    return largest


_HALF_A_DECADE = 0.5
RECONSTRUCTION = (
    "The reconstructed network without batch norm grows faster through its layers than the paper's, begins at some "
    "hundreds of nats and diverges at smaller steps; what it says of step sizes it says of the reconstruction."
)
_ENDS = "Two networks at the same end of the grid are not told apart, and their seed is left out."

CLAIMS = (
    Claim(
        name="c04-none",
        statement="Without batch norm the relative loss of the first step diverges (above 10^3) near a step size of "
        "0.002 to 0.003.",
        source="Figure 3",
        items=("fig3",),
        effect=divergence_without,
        holds="below",
        threshold=_HALF_A_DECADE,  # "near": within a factor of three
        remark=RECONSTRUCTION,
    ),
    Claim(
        name="c04-batchnorm",
        statement="With batch norm the relative loss does not diverge at any step size up to 0.2.",
        source="Figure 3",
        items=("fig3",),
        effect=largest_with,
        holds="below",
        threshold=3.0,  # the paper's own 10^3
    ),
    Claim(
        name="c04-margin",
        statement="With batch norm steps can be far larger before the loss diverges.",
        source="Figure 3",
        items=("fig3",),
        effect=margin,
        holds="above",
        threshold=1.0,  # "far": ten times
        remark=f"{RECONSTRUCTION} {_ENDS}",
    ),
    Claim(
        name="c12-usable",
        statement="Shallower ResNets without batch norm bear larger learning rates in training: they learn at them.",
        source="text, after a secondary source",
        items=("depth",),
        effect=usable,
        holds="above",
        threshold=math.log10(2),  # less than the grid's own ratio of three or more is no difference
        remark=_ENDS,
    ),
    Claim(
        name="c12-divergent",
        statement="Shallower ResNets without batch norm bear larger steps at initialization.",
        source="text, after a secondary source",
        items=("depth",),
        effect=divergent,
        holds="above",
        threshold=math.log10(2),
        remark=_ENDS,
    ),
    Claim(
        name="c13-initializations",
        statement="Without batch norm no initialization tried bears the steps that batch norm does: all diverge below "
        "0.2 at initialization.",
        source="appendix, as remembered",
        items=("initializations",),
        effect=best_initialization,
        holds="below",
        threshold=math.log10(0.1),  # half of the range in which batch norm does not diverge
        remark="That the paper tries other initializations is remembered; which and with what result is not known.",
    ),
    Claim(
        name="c13-rates",
        statement="Without batch norm no initialization tried learns at the rate at which the network with it does.",
        source="appendix, as remembered",
        items=("initializations",),
        effect=initializations_that_learn,
        holds="below",
        threshold=0.1,  # of at most five: any one of them is more
        remark="Of the steps that were trained: an initialization may begin to learn later. That the paper tries other "
        "initializations is remembered.",
    ),
    Claim(
        name="c13-scale",
        statement="Exploding activations without batch norm come from the random initialization: its scale decides how "
        "fast they grow.",
        source="text, after a secondary source",
        items=("initializations",),
        effect=scale_decides,
        holds="above",
        threshold=2.0,  # a factor of e^2 from the first block to the last
    ),
)
