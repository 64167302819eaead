"""Points 4, 5 and 9, and figure G5: gradients of untrained linear networks."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, log, nothing
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions, slopes, straightness, table

if TYPE_CHECKING:
    import pandas as pd

FLAT = 0.001
"""Nats per layer: one nat over a thousand layers, a fifth of what theory has for Gaussian weights and 100 samples."""

PER_LAYER = "nats/layer"


def growth(frame: pd.DataFrame, item: str, *, layer: int = 2, size: bool = False, **where: Any) -> Effect:
    """The slope of log gradient norms against the depth of the network, or its size."""
    found = slopes(log_norms(frame, item, layer=layer, **where))
    what = f"slope of log ‖∇W‖, weight {layer}, against depth"
    return effect(f"|{what}|" if size else what, found.abs() if size else found, unit=PER_LAYER)


def repeated_explodes(frame: pd.DataFrame) -> Effect:
    """The slope on the batch with repeated samples."""
    rows = log_norms(frame, "fig2")
    found = slopes(rows[rows["repeated"] > 0] if len(rows) else rows)
    return effect("slope of log ‖∇W‖, weight 2, against depth, samples repeated", found, unit=PER_LAYER)


def gaussian_is_straight(frame: pd.DataFrame) -> Effect:
    """The share of the variance of log gradient norms that a straight line explains, Gaussian weights."""
    rows = log_norms(frame, "fig3", weights="xavier")
    lines = by_seed(rows, lambda own: straightness(own.set_index("layers")["value"].sort_index()))
    return effect("R² of a straight line through log ‖∇W‖ against depth, Gaussian weights", lines)


def _parts(frame: pd.DataFrame) -> pd.DataFrame:
    """Log norms of the two parts of orthogonal networks' gradients: (seed, layer) x parts."""
    rows = rows_with_conditions(frame, "fig3", probe="gradient_symmetry", weights="orthogonal")
    if rows.empty:
        return rows
    return log(rows.groupby(["seed", "depth", "name"])["value"].mean().unstack("name"), of_zero=-math.inf)


def antisymmetric_in_the_middle(frame: pd.DataFrame) -> Effect:
    """Log of the symmetric over the antisymmetric part of the gradient in the middle of the network."""
    what = "log of the symmetric over the antisymmetric part of ∇W Wᵀ, middle layer"
    parts = _parts(frame)
    if parts.empty:
        return nothing(what)
    layers = parts.index.get_level_values("depth").unique().sort_values()
    middle = parts.xs(layers[len(layers) // 2], level="depth")
    return effect(what, middle["symmetric"] - middle["antisymmetric"])


def antisymmetric_is_kept(frame: pd.DataFrame) -> Effect:
    """How much the log norm of the antisymmetric part varies over layers: largest less least."""
    what = "log norm of the antisymmetric part of ∇W Wᵀ: largest less least of all layers"
    parts = _parts(frame)
    if parts.empty:
        return nothing(what)
    kept = parts["antisymmetric"].groupby("seed")
    return effect(what, kept.max() - kept.min(), unit="nats")


def mean_changes_slope(frame: pd.DataFrame) -> Effect:
    """The distance of the slopes with and without subtraction of the mean."""
    with_mean, without = (
        slopes(log_norms(frame, "g6", layer=1, normalizer=norm)) for norm in ("batchnorm", "bnl2:moment=rms")
    )
    return effect(
        "|slope of log ‖∇W₁‖ with - without subtraction of the mean|", (with_mean - without).abs(), unit=PER_LAYER
    )


def isometry(frame: pd.DataFrame, *, norm: str, name: str) -> Effect:
    """exp(-gap) of the deepest identity network's last layer: the geometric over the arithmetic mean of eigenvalues."""
    rows = rows_with_conditions(frame, "g5", probe="isometry_gap", name=name, normalizer=norm, activation="identity")
    what = f"isometry exp(-φ) of the last layer at the greatest depth, identity, {norm}, {name}"
    if rows.empty:
        return nothing(what)
    deepest = rows[rows["layers"] == rows["layers"].max()]
    return effect(what, deepest.groupby("seed")["value"].mean().map(lambda gap: math.exp(-gap)))


def plateau(frame: pd.DataFrame) -> Effect:
    """The least gap of the deepest networks with tanh and sin."""
    rows = rows_with_conditions(frame, "g5", probe="isometry_gap", name="gap", normalizer="bnl2:moment=rms")
    what = "gap of the last layer at the greatest depth, least of tanh and sin"
    if rows.empty:
        return nothing(what)
    deepest = rows[(rows["layers"] == rows["layers"].max()) & rows["activation"].isin(["tanh", "sin"])]
    by_activation = table(deepest, "activation").reindex(columns=["sin", "tanh"])
    return effect(what, by_activation.min(axis=1, skipna=False), unit="nats")


_G5 = (
    "The caption of figure G5 says standard modules. After the mean is subtracted from as many samples as units the "
    "batch is singular and its gap infinite, so the plotted curve, which falls to 3e-4, belongs to the operator "
    "without subtraction; with the null direction left out the standard one does as well."
)
_MECHANISM = (
    "The paper has no mechanism. Back through an isometric layer the antisymmetric part of ∇W Wᵀ is preserved exactly, "
    "and the square of the symmetric one shrinks by 2/(d + 2) on average."
)

CLAIMS = (
    Claim(
        name="c04-orthogonal",
        statement="With orthogonal weights gradients of linear networks neither explode nor vanish with depth.",
        source="Theorem 5, Figure 3",
        items=("fig3",),
        effect=partial(growth, item="fig3", weights="orthogonal", size=True),
        holds="below",
        threshold=FLAT,
    ),
    Claim(
        name="c04-gaussian",
        statement="With Gaussian weights they explode.",
        source="Figure 3",
        items=("fig3",),
        effect=partial(growth, item="fig3", weights="xavier"),
        holds="above",
        threshold=0.5
        * math.log(99 / 98),  # theory's rate for infinite width and 100 samples, which a finite one exceeds
    ),
    Claim(
        name="c04-linear",
        statement="The log norm of gradients of networks with Gaussian weights grows linearly with depth.",
        source="Figure 3",
        items=("fig3",),
        effect=gaussian_is_straight,
        holds="above",
        threshold=0.95,  # what the eye takes for a straight line
    ),
    Claim(
        name="c05-repeated",
        statement="On batches with repeated samples gradients explode with orthogonal weights too.",
        source="Figure 2",
        items=("fig2",),
        effect=repeated_explodes,
        holds="above",
        threshold=0.01,  # ten times what counts as flat; the figure shows 0.03
    ),
    Claim(
        name="c05-full-rank",
        statement="On batches of linearly independent samples they do not.",
        source="Figure 2",
        items=("fig2",),
        effect=partial(growth, item="fig2", repeated=0, size=True),
        holds="below",
        threshold=FLAT,
    ),
    Claim(
        name="c09-mean",
        statement="Whether the mean is subtracted does not matter to the growth of gradients in linear networks.",
        source="Figure G6",
        items=("g6",),
        effect=mean_changes_slope,
        holds="below",
        threshold=FLAT,
    ),
    Claim(
        name="c11-antisymmetric",
        statement="Far from the output the gradient by an orthogonal weight is along the orthogonal group.",
        source="derived; explains Figure 6",
        items=("fig3",),
        effect=antisymmetric_in_the_middle,
        holds="below",
        threshold=-math.log(2),  # less than half; theory has exp(-L / 2(d + 2)), 0.7 % at depth 1,000
        remark=_MECHANISM,
    ),
    Claim(
        name="c11-kept",
        statement="The antisymmetric part of the gradient keeps its norm through all layers.",
        source="derived; explains Theorem 5",
        items=("fig3",),
        effect=antisymmetric_is_kept,
        holds="below",
        threshold=1.0,  # one nat, what counts as flat over a thousand layers; exact where the batch is isometric
        remark=_MECHANISM,
    ),
    Claim(
        name="s2-g5-standard",
        statement="With standard modules the isometry gap of the deepest identity network falls to nearly 0.",
        source="Figure G5, caption",
        items=("g5",),
        effect=partial(isometry, norm="batchnorm", name="uncentered_gap"),
        holds="above",
        threshold=0.9,  # a gap of a tenth; the figure shows 3e-4
        remark=_G5,
    ),
    Claim(
        name="s2-g5-without-mean",
        statement="Without subtraction of the mean it does.",
        source="Figure G5, as plotted",
        items=("g5",),
        effect=partial(isometry, norm="bnl2:moment=rms", name="gap"),
        holds="above",
        threshold=0.9,
        remark=_G5,
    ),
    Claim(
        name="s2-g5-null-left-out",
        statement="With subtraction of the mean it does, the null direction left out.",
        source="derived",
        items=("g5",),
        effect=partial(isometry, norm="batchnorm", name="gap"),
        holds="above",
        threshold=0.9,
        remark=_G5,
    ),
    Claim(
        name="g5-plateau",
        statement="With tanh and sin the gap does not vanish with depth but stays of order 1.",
        source="Figure G5",
        items=("g5",),
        effect=plateau,
        holds="above",
        threshold=0.3,  # within a factor of about three of the figure's 1
    ),
)
