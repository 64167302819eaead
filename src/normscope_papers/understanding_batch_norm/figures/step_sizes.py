"""Figure 3, and which steps and rates a network without batch norm bears; the noise of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.report import Axis, Figure, Panel
from normscope.study import Study
from normscope_papers.common import drawing as d
from normscope_papers.common.rows import by_seed, pick
from normscope_papers.understanding_batch_norm import drawing
from normscope_papers.understanding_batch_norm.rows import (
    along,
    at_last_step,
    by_layer,
    surviving_rate,
    usable_rate,
)

if TYPE_CHECKING:
    import pandas as pd

Figures = tuple[Figure, ...]

_RELATIVE = (
    "The loss of a batch after a step along its own gradient, beside its loss before; drawn up to 10^6, and where it "
    "is finite."
)


def relative_loss(frame: pd.DataFrame, study: Study) -> Figures:
    """Figure 3: a panel for each of the measured minibatches."""
    rows = along(pick(frame, probe="relative_loss"))
    panels = [
        d.panel(f"minibatch {step + 1}", drawing.STEP_SIZE, drawing.RELATIVE, own, study)
        for step, own in _by_step(rows)
    ]
    title = "Relative loss against step size in the first steps of training"
    return d.figure(study, title, f"{_RELATIVE} {d.spread(rows, log=True)}", panels)


def by_depth(frame: pd.DataFrame, study: Study) -> Figures:
    """Usable rate against depth, and the relative loss of each depth before training."""
    return d.figure(
        study,
        "What a network without batch norm bears, by depth",
        "Left: the largest rate of the grid at which the network learns (its mean loss over the last fifth of the "
        "steps is below 0.98 ln 10), and at which it does not diverge. An end of the grid is a bound: the lowest rate "
        f"where none will do, the highest where all do. Right: before training. {_RELATIVE} "
        f"{d.spread(frame, log=True)}",
        [
            d.panel("largest rate", Axis("depth"), Axis("learning rate", log=True), _usable(frame), study),
            _relative_by_condition(frame, study),
        ],
    )


def initializations(frame: pd.DataFrame, study: Study) -> Figures:
    """Moments by depth, and the relative loss, under each rule for the weights."""
    moments = by_layer(pick(frame, probe="channel_moments", kind="init"))
    moments = moments.assign(normalizer=moments["condition"])
    names = {"std": Axis("channel deviation", log=True), "mean": Axis("|channel mean|", log=True)}
    return d.figure(
        study,
        "Other initializations without batch norm",
        "Mean over the channels of each block's output, of the channel's standard deviation and of |channel mean|, "
        f"untrained. {_RELATIVE} {d.spread(frame, log=True)}",
        [
            *(
                d.panel(axis.title, drawing.LAYER, axis, pick(moments, name=name), study)
                for name, axis in names.items()
            ),
            _relative_by_condition(frame, study),
        ],
    )


def noise(frame: pd.DataFrame, study: Study) -> Figures:
    """Squared noise of a step against the size of its batch, a panel for each rate, at the last step."""
    rows = at_last_step(frame[frame["probe"].isin(["gradient_noise", "theory.gradient_noise"])])
    sampled = pick(rows, probe="gradient_noise", name="sampled")
    theory = pick(rows, probe="theory.gradient_noise", name="bound")
    y = Axis("squared noise of a step", log=True)
    panels = [
        d.panel(f"rate {rate}", Axis("batch size", log=True), y, own, study, theory=pick(theory, layer=str(rate)))
        for rate, own in sampled.groupby("layer", sort=False)
    ]
    return d.figure(
        study,
        "Noise of a step of stochastic gradient descent",
        "Mean squared distance of the step of a minibatch, drawn without replacement, from the step of all the "
        "examples at hand, in eval mode, at the end of the training. Grey dashed: α²C/B, which is exact with "
        f"replacement and a bound without. {d.spread(sampled, log=True)}",
        panels,
        theory="α²C/B",
    )


def _relative_by_condition(frame: pd.DataFrame, study: Study) -> Panel:
    rows = along(pick(frame, probe="relative_loss", kind="init"))
    rows = rows.assign(normalizer=rows["condition"])
    return d.panel("relative loss", drawing.STEP_SIZE, drawing.RELATIVE, rows, study)


def _usable(frame: pd.DataFrame) -> pd.DataFrame:
    """The largest rates that a depth bears, of each seed, as rows."""
    import pandas as pd

    trained = pick(frame, kind="train")
    rows = [
        {"normalizer": name, "depth": float(str(depth).removeprefix("depth ")), "seed": seed, "value": rate}
        for name, largest in (("learns", usable_rate), ("does not diverge", surviving_rate))
        for depth, own in trained.groupby("condition", sort=False)
        for seed, rate in by_seed(own, largest).items()
    ]
    return pd.DataFrame(rows, columns=["normalizer", "depth", "seed", "value"])


def _by_step(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    return [(int(str(step)), own) for step, own in rows.groupby("step")]
