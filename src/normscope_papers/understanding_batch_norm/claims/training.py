"""Claims 1, 2 and 11: rates and accuracies, and batch norm at the last layer alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at_chosen_rate, effect, final_values, nothing, pick

if TYPE_CHECKING:
    import pandas as pd

_POINTS = "percentage points"
_FITTED = 90.0
"""Per cent of its training images that a network gets right where its training has come to something like an end."""


def accuracies(frame: pd.DataFrame, norm: str, name: str = "test_accuracy") -> pd.DataFrame:
    """Figure 1's final accuracies in per cent: seeds x rates, ascending."""
    values = final_values(pick(frame, item="fig1", normalizer=norm), name)
    table: pd.DataFrame = 100 * values.pivot_table(index="seed", columns="lr", values="value")
    return table.sort_index(axis=1)


def matched(frame: pd.DataFrame) -> Effect:
    """Batch norm's accuracy minus that without at the lowest rate that both have, where both fit what they train on."""
    what = "final test accuracy at the lowest rate, batchnorm - none, where both have a training accuracy of 90 %"
    with_norm, without = accuracies(frame, "batchnorm"), accuracies(frame, "none")
    shared = with_norm.columns.intersection(without.columns)
    if shared.empty:
        return nothing(what, unit=_POINTS)
    rate = float(shared[0])
    fits = [_at(accuracies(frame, norm, "train_accuracy"), rate) for norm in ("batchnorm", "none")]
    difference = with_norm[rate] - without[rate]
    fitted = [fit.reindex(difference.index) >= _FITTED for fit in fits]
    reached = " and ".join("none" if fit.empty else f"{fit.mean():.0f} %" for fit in fits)
    return effect(f"{what}; they have {reached}", difference.where(fitted[0] & fitted[1]), unit=_POINTS)


def _at(table: pd.DataFrame, rate: float) -> pd.Series[float]:
    """The column of this rate, without rows where there is none."""
    import pandas as pd

    column: pd.Series[float] = table.get(rate, pd.Series(dtype=float))
    return column


def gain_of_rate(frame: pd.DataFrame, *, higher: int, lower: int) -> Effect:
    """Batch norm's accuracy at one rate minus that at another, by their places in ascending order."""
    what = f"final test accuracy of batchnorm: {_PLACES[higher]} - {_PLACES[lower]} of three rates"
    table = accuracies(frame, "batchnorm")
    if len(table.columns) < len(_PLACES):
        return nothing(what, unit=_POINTS)
    return effect(what, table.iloc[:, higher] - table.iloc[:, lower], unit=_POINTS)


def diverges(frame: pd.DataFrame, *, place: int) -> Effect:
    """Whether training without batch norm diverges at a rate, by its place in ascending order: 1 or 0."""
    what = f"share of trainings that diverge without batch norm: {_PLACES[place]} of three rates"
    rows = pick(frame, item="fig1", normalizer="none", probe="outcome", name="diverged")
    table = rows.pivot_table(index="seed", columns="lr", values="value").sort_index(axis=1)
    if len(table.columns) < len(_PLACES):
        return nothing(what)
    return effect(what, table.iloc[:, place])


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
    """How far the share of the gain that batch norm at the last layer has lies from two thirds.

    NaN where batch norm everywhere gains nothing, which leaves nothing to share.
    """
    table = last_layer(frame)
    gain = table["everywhere"] - table["nowhere"]
    share = (table["last layer"] - table["nowhere"]) / gain.where(gain > 0)
    return effect("distance from 2/3 of the last layer's share of the gain in test accuracy", (share - 2 / 3).abs())


_PLACES = ("lowest", "middle", "highest")
_COMPARABLE = 2.0  # points, of the 12 that lie between batch norm's own rates in the figure
_SIDES: tuple[tuple[str, Literal["above", "below"], float], ...] = (
    ("better", "below", _COMPARABLE),
    ("worse", "above", -_COMPARABLE),
)
_MATCHED = (
    "Speaks of trainings to their end: networks that have hardly begun have comparable accuracies, too. Two claims, "
    "one for each side, are together what the paper states."
)

CLAIMS = (
    *(
        Claim(
            name=f"c01-no-{word}",
            statement="At the same learning rate, networks with and without batch norm reach comparable test accuracy: "
            f"batch norm's is no {word}.",
            source="Figure 1",
            items=("fig1",),
            effect=matched,
            holds=holds,
            threshold=threshold,
            remark=_MATCHED,
        )
        for word, holds, threshold in _SIDES
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
    *(
        Claim(
            name=f"c02-diverges-{name}",
            statement=f"Without batch norm training diverges at the larger learning rates: at {rate}.",
            source="Figure 1",
            items=("fig1",),
            effect=partial(diverges, place=place),
            holds="above",
            threshold=0.5,  # between one that does and one that does not; seeds that disagree leave it undecided
            remark="Of ResNet-110 at laptop scale too, since shallower networks bear larger rates, by the paper's own "
            "words.",
        )
        for name, rate, place in (("highest", "0.1", 2), ("middle", "0.003", 1))
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
