"""Points 10 and 11, and test accuracy under running statistics: networks in training."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, last, nothing
from normscope_papers.depth_limits.rows import rows_with_conditions, table

if TYPE_CHECKING:
    import pandas as pd

SHAPED = ("sin", "tanh")
COLLAPSED_DEPTH = 500
"""The depth from which on the paper's figures show identity networks at chance on test data."""

COLLAPSED_STEPS = 45_000
"""A tenth of the steps of the paper's trainings; of fewer nothing is said, as the figures show what is at their end."""

CLASSES = {"g1": 10, "g2": 10, "g3": 100, "g4": 10}


def train_accuracy(frame: pd.DataFrame) -> pd.DataFrame:
    """Final train accuracy of figure 4: (seed, activation) x depths."""
    rows = rows_with_conditions(frame, "fig4", probe="batch_accuracy", name="train_accuracy")
    if rows.empty:
        return rows
    return last(rows, "step").groupby(["seed", "activation", "layers"])["value"].mean().unstack("layers")


def depth_matters(frame: pd.DataFrame) -> Effect:
    """The distance of final train accuracies at the least and greatest depth, larger of sin and tanh."""
    what = "|train accuracy at the least depth - at the greatest|, larger of sin and tanh"
    found = train_accuracy(frame)
    if found.empty or len(found.columns) < 2:
        return nothing(what)
    distance = (found.iloc[:, 0] - found.iloc[:, -1]).abs().unstack("activation").reindex(columns=[*SHAPED])
    return effect(what, distance.max(axis=1, skipna=False))


def beyond_linear(frame: pd.DataFrame) -> Effect:
    """Final train accuracy at the greatest depth: less of sin and tanh, minus the identity's."""
    what = "train accuracy at the greatest depth: less of sin and tanh - identity"
    found = train_accuracy(frame)
    if found.empty:
        return nothing(what)
    deepest = found.iloc[:, -1].unstack("activation").reindex(columns=[*SHAPED, "identity"])
    return effect(what, deepest[[*SHAPED]].min(axis=1, skipna=False) - deepest["identity"])


def gaps(frame: pd.DataFrame, item: str) -> pd.DataFrame:
    """Log10 of the gap of the hidden weights at the last step: rows of seed, layers, depth, value."""
    rows = rows_with_conditions(frame, item, probe="isometry_gap", name="weight_gap")
    if rows.empty:
        return rows
    ended = last(rows, "step")
    hidden = ended[(ended["depth"] > 1) & (ended["depth"] <= ended["layers"])]
    return hidden.assign(value=np.log10(hidden["value"]))


def _middle(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["depth"] > rows["layers"] / 4) & (rows["depth"] <= 3 * rows["layers"] / 4)]


def u_shape(frame: pd.DataFrame, *, item: str) -> Effect:
    """Log10 of the gap at the lower of the two ends, a tenth of the layers each, over that in the middle half."""
    what = "log₁₀ of the weights' gap at the lower of the two ends over the middle, greatest depth"
    rows = gaps(frame, item)
    if rows.empty:
        return nothing(what)
    deepest = rows[rows["layers"] == rows["layers"].max()]
    first = deepest[deepest["depth"] <= deepest["layers"] / 10 + 1]
    end = deepest[deepest["depth"] > 0.9 * deepest["layers"]]
    first_mean, end_mean, middle = (own.groupby("seed")["value"].mean() for own in (first, end, _middle(deepest)))
    return effect(what, np.minimum(first_mean, end_mean) - middle)


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
    if rows.empty:
        return nothing(what, unit="nats")
    ended = last(rows, "step")
    own = ended[(ended["layers"] == ended["layers"].max()) & (ended["depth"] > 1) & (ended["depth"] <= ended["layers"])]
    return effect(what, own.groupby("seed")["value"].min(), unit="nats")


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


def _of_weights(item: str) -> tuple[Claim, ...]:
    source = f"Figure {item[0].upper()}{item[1:].removeprefix('ig') if item == 'fig6' else item[1:]}"
    source = "Figure 6" if item == "fig6" else source
    return (
        Claim(
            name=f"c11-u-shape-{item}",
            statement="In training the weights of middle layers stay closer to orthogonal than those at both ends.",
            source=source,
            items=(item,),
            effect=partial(u_shape, item=item),
            holds="above",
            threshold=0.5,  # a factor of three; the figure shows a hundred
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
    ),
    Claim(
        name="c10-activations",
        statement="They learn far more of the training data than linear networks do.",
        source="Figure 4",
        items=("fig4",),
        effect=beyond_linear,
        holds="above",
        threshold=0.2,  # less than half of the figure's 0.48
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
