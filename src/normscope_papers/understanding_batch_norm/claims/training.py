"""Claims 1, 2 and 11: rates and accuracies, and batch norm at the last layer alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at_chosen_rate, effect, final_values, nothing, pick

if TYPE_CHECKING:
    import pandas as pd

_POINTS = "percentage points"


def accuracies(frame: pd.DataFrame, norm: str) -> pd.DataFrame:
    """Figure 1's final test accuracies in per cent: seeds x rates, ascending."""
    values = final_values(pick(frame, item="fig1", normalizer=norm), "test_accuracy")
    table: pd.DataFrame = 100 * values.pivot_table(index="seed", columns="lr", values="value")
    return table.sort_index(axis=1)


def matched(frame: pd.DataFrame) -> Effect:
    """Distance of the accuracies with and without batch norm at the lowest rate that both have."""
    what = "final test accuracy at the lowest rate: distance of batchnorm and none"
    with_norm, without = accuracies(frame, "batchnorm"), accuracies(frame, "none")
    shared = with_norm.columns.intersection(without.columns)
    if shared.empty:
        return nothing(what, unit=_POINTS)
    return effect(what, (with_norm[shared[0]] - without[shared[0]]).abs(), unit=_POINTS)


def gain_of_rate(frame: pd.DataFrame, *, higher: int, lower: int) -> Effect:
    """Batch norm's accuracy at one rate minus that at another, by their places in ascending order."""
    what = f"final test accuracy of batchnorm: {_PLACES[higher]} - {_PLACES[lower]} of three rates"
    table = accuracies(frame, "batchnorm")
    if len(table.columns) < len(_PLACES):
        return nothing(what, unit=_POINTS)
    return effect(what, table.iloc[:, higher] - table.iloc[:, lower], unit=_POINTS)


def diverges(frame: pd.DataFrame) -> Effect:
    """The share of the rates above the lowest at which training without batch norm diverges."""
    rows = pick(frame, item="fig1", normalizer="none", probe="outcome", name="diverged")
    above = rows[rows["lr"] > rows["lr"].min()]
    return effect("share of the higher rates at which none diverges", above.groupby("seed")["value"].mean())


def last_layer(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test accuracies in per cent: seeds x conditions."""
    values = final_values(at_chosen_rate(frame, "last-layer"), "test_accuracy")
    means = 100 * values.groupby(["seed", "condition"])["value"].mean()
    table: pd.DataFrame = means.unstack("condition").reindex(columns=["everywhere", "last layer", "nowhere"])
    return table


def gain_of_last(frame: pd.DataFrame) -> Effect:
    """Accuracy with batch norm at the last layer minus that without."""
    table = last_layer(frame)
    return effect("final test accuracy: last layer - nowhere", table["last layer"] - table["nowhere"], unit=_POINTS)


def share_of_last(frame: pd.DataFrame) -> Effect:
    """How far the share of the gain that batch norm at the last layer has lies from two thirds."""
    table = last_layer(frame)
    share = (table["last layer"] - table["nowhere"]) / (table["everywhere"] - table["nowhere"])
    return effect("distance from 2/3 of the last layer's share of the gain in test accuracy", (share - 2 / 3).abs())


_PLACES = ("lowest", "middle", "highest")

CLAIMS = (
    Claim(
        name="c01-matched",
        statement="At the same learning rate, networks with and without batch norm reach comparable test accuracy.",
        source="Figure 1",
        items=("fig1",),
        effect=matched,
        holds="below",
        threshold=2.0,  # points: about twice the sampling error of 1,000 test images
        remark="Speaks of trainings to their end. A training that has hardly begun has comparable accuracies, too.",
    ),
    *(
        Claim(
            name=f"c02-{name}",
            statement=f"With batch norm a larger learning rate gives better test accuracy: {words}.",
            source="Figure 1",
            items=("fig1",),
            effect=partial(gain_of_rate, higher=higher, lower=lower),
            holds="above",
            threshold=0.0,  # an order is claimed, not a size
        )
        for name, words, higher, lower in (
            ("highest", "0.1 beside 0.003", 2, 1),
            ("middle", "0.003 beside 0.0001", 1, 0),
        )
    ),
    Claim(
        name="c02-diverges",
        statement="Without batch norm training diverges at the larger learning rates.",
        source="Figure 1",
        items=("fig1",),
        effect=diverges,
        holds="above",
        threshold=0.5,  # most of them
        remark="Of ResNet-110. Shallower networks bear larger rates, by the paper's own words.",
    ),
    Claim(
        name="c11-gain",
        statement="Batch norm at the last layer alone improves on none.",
        source="text",
        items=("last-layer",),
        effect=gain_of_last,
        holds="above",
        threshold=0.0,
    ),
    Claim(
        name="c11-share",
        statement="Batch norm at the last layer alone captures about two thirds of the improvement.",
        source="text, after a secondary source",
        items=("last-layer",),
        effect=share_of_last,
        holds="below",
        threshold=1 / 6,  # between a half and five sixths
    ),
)
