"""Santurkar et al.: loss, gradient and effective smoothness along the gradient, and what is wrong in two places."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, final_values, log, nothing, pick
from normscope_papers.understanding_batch_norm.experiments import DEEP_LINEAR, VGG
from normscope_papers.understanding_batch_norm.rows import along

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("batchnorm", "none")

POINTS = "percentage points"


def landscape(frame: pd.DataFrame, network: str, name: str) -> pd.DataFrame:
    """A quantity along the gradient in the item `smoothness`, the step size in the column `depth`."""
    return along(pick(frame, item="smoothness", probe="loss_along_gradient", name=name, condition=network))


def widest_band(frame: pd.DataFrame, *, network: str) -> Effect:
    """Width of the band of losses over the step sizes, median through training: none beside batchnorm."""
    groups = landscape(frame, network, "loss").groupby(["seed", "normalizer", "step"])["value"]
    table = medians(groups.max() - groups.min())
    what = f"log10 of the width of the band of losses, median through training, {network}: none - batchnorm"
    return effect(what, log(table["none"] / table["batchnorm"], base=10))


def widest(frame: pd.DataFrame, *, network: str, name: str) -> Effect:
    """The largest value of a quantity over the step sizes, median through training: none beside batchnorm."""
    groups = landscape(frame, network, name).groupby(["seed", "normalizer", "step"])["value"]
    table = medians(groups.max())
    what = f"log10 of the largest {_QUANTITIES[name]} over step sizes, median through training, {network}"
    return effect(f"{what}: none - batchnorm", log(table["none"] / table["batchnorm"], base=10))


def saturation(frame: pd.DataFrame, *, network: str) -> Effect:
    """How far batch norm's effective smoothness, its median through training, lies from 1/η_min, as logarithm."""
    rows = pick(landscape(frame, network, "smoothness"), normalizer="batchnorm")
    what = f"|ln| of the median effective smoothness of batchnorm times the smallest step, {network}"
    if rows.empty:
        return nothing(what)
    by_step = rows.groupby(["seed", "step"])["value"].max()
    return effect(what, log(by_step.groupby("seed").median() * rows["depth"].min()).abs())


def at_the_smallest(frame: pd.DataFrame, *, network: str) -> Effect:
    """Share of the steps of training at which the maximum over step sizes is taken at the smallest one."""
    rows = landscape(frame, network, "smoothness")
    smallest = rows["depth"].min()
    best = rows.loc[rows.groupby(["seed", "normalizer", "step"])["value"].idxmax()] if len(rows) else rows
    share = (best["depth"] == smallest).astype(float).groupby(best["seed"]).mean()
    return effect(f"share of steps whose effective smoothness is that of the smallest step size, {network}", share)


def at_the_largest(frame: pd.DataFrame, *, network: str) -> Effect:
    """Effective smoothness at the largest step size, median through training: none beside batchnorm."""
    rows = landscape(frame, network, "smoothness")
    rows = rows[rows["depth"] == rows["depth"].max()]
    table = medians(rows.groupby(["seed", "normalizer", "step"])["value"].max())
    what = f"log10 of the effective smoothness at the largest step size, median through training, {network}"
    return effect(f"{what}: none - batchnorm", log(table["none"] / table["batchnorm"], base=10))


def accuracies(frame: pd.DataFrame, item: str, condition: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Final test accuracies in per cent of a condition of an item: seeds x normalizers."""
    values = final_values(pick(frame, item=item, kind="train", condition=condition), "test_accuracy")
    return 100 * by_name(values.groupby(["seed", "normalizer"])["value"].mean(), names)


def better(frame: pd.DataFrame) -> Effect:
    """Batch norm's accuracy minus that without, of the VGG."""
    table = accuracies(frame, "smoothness", VGG, PAIR)
    return effect("final test accuracy: batchnorm - none", table["batchnorm"] - table["none"], unit=POINTS)


def theorem(frame: pd.DataFrame, *, name: str) -> Effect:
    """A number of the check of theorem 4.1, mean over sites and through training."""
    rows = pick(frame, item="smoothness", probe="backward_identity", name=name)
    what = {
        "violated": "share of channels whose gradient exceeds the printed bound, mean over sites and training",
        "error": "relative error of the identity with 1/m, mean over channels, sites and training",
    }[name]
    return effect(what, rows.groupby("seed")["value"].mean() if len(rows) else rows["value"])


def medians(values: pd.Series[float], names: tuple[str, ...] = PAIR) -> pd.DataFrame:
    """The median over steps of values by (seed, normalizer, step): seeds x normalizers.

    A median, since a single step may have an infinite value.
    """
    return by_name(values.groupby(["seed", "normalizer"]).median(), names)


def by_name(values: pd.Series[float], names: tuple[str, ...]) -> pd.DataFrame:
    """Values by (seed, normalizer): seeds x normalizers."""
    table: pd.DataFrame = values.unstack("normalizer").reindex(columns=list(names))
    return table


_QUANTITIES = {"gradient_distance": "distance of the gradient", "smoothness": "effective smoothness"}
HALF_A_DECADE = 0.5
_WHERE = {VGG: "VGG", DEEP_LINEAR: "deep linear network"}
_THEOREM = (
    "Theorem 4.1 is printed with 1/√m in its last term. Its derivation gives 1/m, and then an equality; both are "
    "checked at every site."
)
_SATURATES = (
    "Where the gradient after the smallest step is as far from the first as that is long, the measure is 1/η_min "
    "whatever the network; then its maximum over the step sizes does not compare networks."
)

CLAIMS = (
    *(
        claim
        for network, where in _WHERE.items()
        for claim in (
            Claim(
                name=f"s01-{network}",
                statement=f"The loss varies far more along the gradient without batch norm ({where}).",
                source="Santurkar et al., Figures 4(a) and 9",
                items=("smoothness",),
                effect=partial(widest_band, network=network),
                holds="above",
                threshold=HALF_A_DECADE,  # "far": three times
            ),
            Claim(
                name=f"s02-{network}",
                statement=f"Gradients are far less predictive without batch norm ({where}).",
                source="Santurkar et al., Figures 4(b) and 9",
                items=("smoothness",),
                effect=partial(widest, network=network, name="gradient_distance"),
                holds="above",
                threshold=HALF_A_DECADE,
                remark="The text says close to two orders of magnitude, the figure shows one (250 beside 30).",
            ),
            Claim(
                name=f"s03-{network}",
                statement=f"The effective smoothness is worse without batch norm ({where}).",
                source="Santurkar et al., Figures 4(c) and 9",
                items=("smoothness",),
                effect=partial(widest, network=network, name="smoothness"),
                holds="above",
                threshold=0.0,  # an order is claimed
                remark=_SATURATES,
            ),
            Claim(
                name=f"s03-{network}-largest",
                statement="The effective smoothness is worse without batch norm at the largest step size, where it "
                f"does not saturate ({where}).",
                source="derived, for Santurkar et al., Figure 4(c)",
                items=("smoothness",),
                effect=partial(at_the_largest, network=network),
                holds="above",
                threshold=0.0,
                remark=_SATURATES,
            ),
        )
    ),
    Claim(
        name="s04-saturates",
        statement="The effective smoothness of batch norm settles at the inverse of the smallest step size: the "
        "measure saturates.",
        source="derived, from Santurkar et al., Figure 4(c)",
        items=("smoothness",),
        effect=partial(saturation, network=VGG),
        holds="below",
        threshold=math.log(2),  # within a factor of two
        remark=_SATURATES,
    ),
    Claim(
        name="s04-smallest",
        statement="The maximum over the step sizes is taken at the smallest.",
        source="derived, from Santurkar et al., Figure 4(c)",
        items=("smoothness",),
        effect=partial(at_the_smallest, network=VGG),
        holds="above",
        threshold=0.5,  # at most steps
        remark=_SATURATES,
    ),
    Claim(
        name="s05-accuracy",
        statement="Batch norm improves the VGG's test accuracy.",
        source="Santurkar et al., Figure 1",
        items=("smoothness",),
        effect=better,
        holds="above",
        threshold=0.0,
    ),
    Claim(
        name="s09-theorem-paper",
        statement="The gradient by what enters batch norm is bounded as printed, with 1/√m in the last term.",
        source="Santurkar et al., Theorem 4.1",
        items=("smoothness",),
        effect=partial(theorem, name="violated"),
        holds="below",
        threshold=0.05,  # a bound holds everywhere; a few channels may be at rounding
        remark=_THEOREM,
    ),
    Claim(
        name="s09-theorem-theory",
        statement="The gradient by what enters batch norm is as the derivation gives it, with 1/m in the last term.",
        source="derived, for Santurkar et al., Theorem 4.1",
        items=("smoothness",),
        effect=partial(theorem, name="error"),
        holds="below",
        threshold=0.01,
        remark=_THEOREM,
    ),
)
