"""Points 10 and 11, and test accuracy under running statistics: networks in training."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at, effect, last, log, nothing
from normscope_papers.depth_limits.rows import part_ratios, rows_with_conditions, table

if TYPE_CHECKING:
    import pandas as pd

SHAPED = ("sin", "tanh")
COLLAPSED_DEPTH = 500
"""The depth from which on the paper's figures show identity networks at chance on test data."""

COLLAPSED_STEPS = 45_000
"""A tenth of the steps of the paper's trainings; of fewer nothing is said, as the figures show what is at their end.

It was set after trials of a few hundred to a thousand steps, in which networks of depth 500 had not fallen to chance.
"""

CLASSES = {"g1": 10, "g2": 10, "g3": 100, "g4": 10}


DEEP = 5
"""Layers over units from which on a network has a middle apart from its ends.

The symmetric part of gradients decays, going back, over d + 2 layers. The paper's networks are ten times as deep as
wide; of one as deep as wide the middle is still near the end.
"""


def train_accuracy(frame: pd.DataFrame, along: Literal["activation", "layers"]) -> pd.DataFrame:
    """Train accuracy of figure 4 by seed, activation, step and depth, one of which has a column for each value."""
    rows = rows_with_conditions(frame, "fig4", probe="batch_accuracy", name="train_accuracy")
    if rows.empty:
        return rows
    by_all: pd.DataFrame = rows.groupby(["seed", "activation", "step", "layers"])["value"].mean().unstack(along)
    return by_all


def depth_matters(frame: pd.DataFrame) -> Effect:
    """The largest distance of train accuracies at the least depth from those at another, larger of sin and tanh.

    Each at the last step that both depths have; a seed that lacks a depth which its activation has is left out.
    """
    what = "|train accuracy at the least depth - at another|, last step of both, largest of depths and of sin and tanh"
    found = train_accuracy(frame, "layers")
    if found.empty:
        return nothing(what)
    import pandas as pd

    distances = {name: _distances(found, name).max(axis=1, skipna=False) for name in SHAPED}
    return effect(what, pd.DataFrame(distances).max(axis=1, skipna=False).rename_axis("seed"))


def _distances(found: pd.DataFrame, activation: str) -> pd.DataFrame:
    """Distance of train accuracies at the least depth from those at each other: seeds x depths."""
    import pandas as pd

    of_it = found[found.index.get_level_values("activation") == activation].droplevel("activation")
    least, *others = [*of_it.dropna(axis=1, how="all")] or [None]
    pairs = {other: of_it[[least, other]].dropna() for other in others}
    return pd.DataFrame({other: at((pair[least] - pair[other]).abs(), None) for other, pair in pairs.items()})


def beyond_linear(frame: pd.DataFrame) -> Effect:
    """Train accuracy, less of sin and tanh minus the identity's, at the greatest depth and last step of all three."""
    what = "train accuracy, greatest depth and last step of all three: less of sin and tanh - identity"
    three = train_accuracy(frame, "activation")
    if three.empty:
        return nothing(what)
    three = three.reindex(columns=[*SHAPED, "identity"]).dropna()
    layers = three.index.get_level_values("layers")
    deepest = at(three[layers == layers.max()].droplevel("layers"), None)
    return effect(what, deepest[[*SHAPED]].min(axis=1, skipna=False) - deepest["identity"])


def _of_hidden(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the square weights of the deepest network."""
    if rows.empty:
        return rows
    rows = rows[rows["layers"] == rows["layers"].max()]
    return rows[(rows["depth"] > 1) & (rows["depth"] <= rows["layers"])]


def gaps(frame: pd.DataFrame, item: str) -> pd.DataFrame:
    """Log10 of the gap of the weights at the last step: rows of seed, layers, depth, value."""
    rows = last(rows_with_conditions(frame, item, probe="isometry_gap", name="weight_gap"), "step")
    return rows.assign(value=np.log10(rows["value"]))


def _middle(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["depth"] > rows["layers"] / 4) & (rows["depth"] <= 3 * rows["layers"] / 4)]


def _ends_over_middle(what: str, rows: pd.DataFrame) -> Effect:
    """Mean over the lower of the two ends, a tenth of the layers each, less that over the middle half.

    NaN of a network that is not deep enough against its width to have a middle.
    """
    if rows.empty:
        return nothing(what)
    first = rows[rows["depth"] <= rows["layers"] / 10 + 1]
    end = rows[rows["depth"] > 0.9 * rows["layers"]]
    first_mean, end_mean, middle = (own.groupby("seed")["value"].mean() for own in (first, end, _middle(rows)))
    deep = bool((rows["layers"] >= DEEP * rows["width"]).all())
    return effect(what, (np.minimum(first_mean, end_mean) - middle) * (1.0 if deep else math.nan))


def u_shape(frame: pd.DataFrame, *, item: str) -> Effect:
    """Log10 of the gap of the weights at the lower of the two ends over that in the middle, deepest network."""
    what = "log₁₀ of the weights' gap at the lower of the two ends over the middle, greatest depth"
    return _ends_over_middle(what, _of_hidden(gaps(frame, item)))


def turning_in_the_middle(frame: pd.DataFrame, *, item: str) -> Effect:
    """Log10 of the symmetric over the antisymmetric part of gradients, lower of the two ends over the middle.

    The mean of all steps that were measured after the first, at the greatest depth.
    """
    what = "log₁₀ of symmetric / antisymmetric part of ∇W Wᵀ, lower of the two ends over the middle, mean of steps"
    rows = part_ratios(_of_hidden(rows_with_conditions(frame, item)))
    rows = rows[rows["step"] > 0]
    return _ends_over_middle(what, rows.assign(value=log(rows["value"], base=10, of_zero=-math.inf)))


def deeper_is_closer(frame: pd.DataFrame, *, item: str) -> Effect:
    """Log10 of the gap in the middle at the least depth over that at the greatest."""
    what = "log₁₀ of the weights' gap in the middle: least depth over greatest"
    rows = gaps(frame, item)
    if rows.empty or rows["layers"].nunique() < 2:
        return nothing(what)
    by_depth = table(_middle(rows), "layers")
    return effect(what, by_depth.iloc[:, 0] - by_depth.iloc[:, -1])


def least_gradient(frame: pd.DataFrame, *, item: str) -> Effect:
    """The least log norm of a hidden weight's gradient at the last step, greatest depth."""
    what = "log ‖∇W‖, least of all hidden layers at the last step, greatest depth"
    rows = rows_with_conditions(frame, item, probe="weight_gradient_norm", name="log_norm")
    return effect(what, _of_hidden(last(rows, "step")).groupby("seed")["value"].min(), unit="nats")


def deep_accuracy(frame: pd.DataFrame, *, item: str, probe: str, name: str) -> Effect:
    """Final accuracy over chance of identity networks of depth 500 and more, mean over depths; after enough steps."""
    under = "running statistics" if probe == "evaluation" else "statistics of the batch"
    what = f"{name.replace('_', ' ')} - chance, identity networks of depth {COLLAPSED_DEPTH} and more, {under}"
    rows = rows_with_conditions(frame, item, probe=probe, name=name, activation="identity")
    deep = last(rows[rows["layers"] >= COLLAPSED_DEPTH], "step") if len(rows) else rows
    deep = deep[deep["step"] >= COLLAPSED_STEPS]
    if deep.empty:
        return nothing(what)
    return effect(what, deep.groupby("seed")["value"].mean() - 1 / CLASSES[item])


# A tenth of the way from chance to certainty for ten classes; the figures show no difference from chance.
_CHANCE = 0.1
_RUNNING = (
    "Figures G1 to G4 show it, and the paper does not remark on it. Errors of the running statistics multiply through "
    "the layers; under the statistics of test batches the same networks do not fall to chance. Not judged where "
    "training ends before step 45,000, as at laptop scale."
)


def _collapse(item: str, title: str) -> tuple[Claim, ...]:
    def claim(name: str, statement: str, probe: str, accuracy: str, holds: str) -> Claim:
        return Claim(
            name=f"s4-{item}-{name}",
            statement=statement,
            source=f"Figure {item.upper()}",
            items=(item,),
            effect=partial(deep_accuracy, item=item, probe=probe, name=accuracy),
            holds=holds,  # type: ignore[arg-type]
            threshold=_CHANCE / 2 if item == "g3" else _CHANCE,
            remark=_RUNNING,
        )

    return (
        claim(
            "test",
            f"Test accuracy of identity networks of depth 500 and more is chance under running statistics ({title}).",
            "evaluation",
            "test_accuracy",
            "below",
        ),
        claim(
            "train",
            f"Their train accuracy is not ({title}).",
            "batch_accuracy",
            "train_accuracy",
            "above",
        ),
        claim(
            "batch",
            f"Nor is their test accuracy under the statistics of test batches ({title}).",
            "batch_accuracy",
            "test_accuracy",
            "above",
        ),
    )


_MIDDLE = (
    f"Judged where the network is at least {DEEP} times as deep as wide: the symmetric part of gradients decays over "
    "d + 2 layers, and a middle nearer to the output is none. The paper's networks are ten times as deep."
)
_TURNS = (
    "The paper has no mechanism. Derived for linear networks without subtraction of the mean: there the antisymmetric "
    "part alone reaches far back, and a step along it turns an orthogonal weight, bending it at second order only."
)


def _of_weights(item: str) -> tuple[Claim, ...]:
    source = "Figure 6" if item == "fig6" else f"Figure {item.upper()}"
    return (
        Claim(
            name=f"c11-u-shape-{item}",
            statement="In training the weights of middle layers stay closer to orthogonal than those at both ends.",
            source=source,
            items=(item,),
            effect=partial(u_shape, item=item),
            holds="above",
            threshold=0.5,  # a factor of three; the figure shows a hundred
            remark=_MIDDLE,
        ),
        Claim(
            name=f"c11-mechanism-{item}",
            statement="Gradients of middle layers lie more along the orthogonal group than those at both ends.",
            source=f"derived; explains {source}",
            items=(item,),
            effect=partial(turning_in_the_middle, item=item),
            holds="above",
            threshold=math.log10(2),  # a factor of two, as at initialization
            remark=f"{_TURNS} {_MIDDLE}",
        ),
        Claim(
            name=f"c11-gradients-{item}",
            statement="The gradients of the middle layers do not vanish meanwhile.",
            source=source,
            items=(item,),
            effect=partial(least_gradient, item=item),
            holds="above",
            threshold=math.log(0.01),  # the figures show 0.1 to 10
        ),
    )


CLAIMS = (
    Claim(
        name="c10-depth",
        statement="Train accuracy of networks with shaped activations does not depend on their depth.",
        source="Figure 4",
        items=("fig4",),
        effect=depth_matters,
        holds="below",
        threshold=0.05,  # five points: "nearly coincide", where depths differ by factors of two to ten
        remark="At laptop scale depths 500 and 1,000 are compared after 5 epochs, while accuracy is still rising.",
    ),
    Claim(
        name="c10-activations",
        statement="They learn far more of the training data than linear networks do.",
        source="Figure 4",
        items=("fig4",),
        effect=beyond_linear,
        holds="above",
        threshold=0.2,  # less than half of the figure's 0.48
        remark="Of 5,000 images, as at laptop scale, linear networks learn more than of the paper's 45,000.",
    ),
    *_of_weights("fig6"),
    *_of_weights("f1"),
    *_of_weights("f2"),
    *(
        Claim(
            name=f"c11-deeper-{item}",
            statement="The deeper the network, the closer to orthogonal the weights of its middle layers stay.",
            source=f"Figure {item.upper()}",
            items=(item,),
            effect=partial(deeper_is_closer, item=item),
            holds="above",
            threshold=0.0,  # an order is claimed, not a size
        )
        for item in ("f1", "f2")
    ),
    *_collapse("g1", "MNIST"),
    *_collapse("g2", "Fashion MNIST"),
    *_collapse("g3", "CIFAR-100"),
    *_collapse("g4", "CIFAR-10"),
)
