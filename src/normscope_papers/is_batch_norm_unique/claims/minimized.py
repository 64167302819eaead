"""Claim 6, of RegNorm once its penalty has been minimized alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at_chosen_rate, effect, last, nothing, pick, wide
from normscope_papers.is_batch_norm_unique.properties import growth

if TYPE_CHECKING:
    import pandas as pd

RATE = 3e-4
"""Adam's rate at which the reconstruction was checked; what is not said to choose a rate is judged there."""


def remaining_distance(frame: pd.DataFrame, *, lr: float = RATE) -> Effect:
    """How much of the distance to BMLV's curve is left when the penalty has been minimized at this rate."""
    rows = pick(at_chosen_rate(frame, "propagation"), probe="information_propagation", name="correlation")
    target = wide(pick(rows, kind="init"), ["bmlv"], along=["depth"])["bmlv"]
    trained = pick(rows, kind="train", lr=lr)
    before, after = (
        wide(own, ["regnorm"], along=["depth"])["regnorm"] for own in (pick(trained, step=0), last(trained, "step"))
    )
    left = (after - target).abs().groupby("seed").mean() / (before - target).abs().groupby("seed").mean()
    return effect("distance to bmlv's correlations, mean over sites: regnorm after / before minimizing R", left)


def remaining_at_the_best_rate(frame: pd.DataFrame) -> Effect:
    """`remaining_distance` at the rate that leaves the smallest R; the distance has no part in the choice."""
    chosen = best_rate(frame)
    return nothing("distance to bmlv's correlations") if chosen is None else remaining_distance(frame, lr=chosen)


def best_rate(frame: pd.DataFrame) -> float | None:
    """The rate with the smallest R of training batches after the last step, mean over sites and seeds.

    A rate at which a seed did not get there is none; None where there is no other.
    """
    rows = pick(at_chosen_rate(frame, "propagation"), kind="train", probe="penalty", name="R")
    ended = rows[rows["step"] == rows["step"].max()]
    means = ended.groupby(["lr", "seed"])["value"].mean().unstack("seed").mean(axis=1, skipna=False).dropna()
    return None if means.empty else float(means.idxmin())


def growth_when_minimized(frame: pd.DataFrame) -> Effect:
    """RegNorm's growth of gradients once its penalty has been minimized."""
    trained = pick(at_chosen_rate(frame, "propagation"), kind="train", probe="gradient_norm", lr=RATE)
    after = last(trained, "step").assign(step=0) if len(trained) else trained
    return growth(after, "propagation", "regnorm")


_MOST = 0.25  # three quarters of the way from Layer Norm's curve to BMLV's

CLAIMS = (
    Claim(
        name="c06-minimized",
        statement="After minimizing its regularizer, RegNorm mimics the information propagation properties of BMLV.",
        source="section 3.2",
        items=("propagation",),
        effect=remaining_distance,
        holds="below",
        threshold=_MOST,
        remark="Checked with the reconstructed form of the regularizer, on a dense network.",
    ),
    Claim(
        name="c06-best-rate",
        statement="After minimizing its regularizer at the best of several rates, RegNorm mimics the information "
        "propagation properties of BMLV.",
        source="section 3.2",
        items=("propagation",),
        effect=remaining_at_the_best_rate,
        holds="below",
        threshold=_MOST,
        remark="The best rate is the one that leaves the smallest R on training batches; the curves do not choose it.",
    ),
)
