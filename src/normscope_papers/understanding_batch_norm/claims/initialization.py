"""Claims 5 and 6: channel moments along a diverging step, and by depth."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, pick
from normscope_papers.understanding_batch_norm.experiments import layer_of
from normscope_papers.understanding_batch_norm.rows import by_layer

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("batchnorm", "none")


def sizes_along(frame: pd.DataFrame) -> pd.DataFrame:
    """Figure 4's |channel means|, the layer in the column `place` and the share of the step in `share`."""
    rows = pick(frame, item="fig4", probe="channel_moments_along_step", name="channel_mean")
    parts = rows["layer"].str.partition("@") if len(rows) else rows.reindex(columns=[0, 1, 2])
    return rows.assign(place=parts[0].map(layer_of), share=parts[2].astype(float), value=rows["value"].abs())


def _deepest(rows: pd.DataFrame) -> pd.DataFrame:
    deepest: pd.DataFrame = rows[rows["place"] == rows["place"].max()]
    return deepest


def upper_layers(frame: pd.DataFrame) -> Effect:
    """The largest |channel mean| at the end of the step, in the deepest layer beside the first, in decades."""

    def decades(rows: pd.DataFrame) -> float:
        end = rows[rows["share"] == 1.0].groupby("place")["value"].max().sort_index()
        return float(np.log10(end.iloc[-1] / end.iloc[0]))

    what = "log10 of the largest |channel mean| at the end of the step: deepest - first layer"
    return effect(what, by_seed(sizes_along(frame), decades))


def blows_up_late(frame: pd.DataFrame) -> Effect:
    """The share of the step at which the deepest layer's largest |channel mean| has a tenth of its last value."""

    def share(rows: pd.DataFrame) -> float:
        largest = _deepest(rows).groupby("share")["value"].max().sort_index()
        return float(largest.index[(largest >= 0.1 * largest.iloc[-1]).to_numpy()].min())

    what = "share of the step at which the deepest layer's largest |channel mean| has a tenth of its last value"
    return effect(what, by_seed(sizes_along(frame), share))


def few_channels(frame: pd.DataFrame) -> Effect:
    """The share of the deepest layer's channels with a |mean| above a tenth of the largest, at the end of the step."""

    def share(rows: pd.DataFrame) -> float:
        sizes = pick(_deepest(rows), share=1.0)["value"]
        return float((sizes > 0.1 * sizes.max()).mean())

    what = "share of the deepest layer's channels with |mean| above a tenth of the largest, at the end of the step"
    return effect(what, by_seed(sizes_along(frame), share))


def growth(frame: pd.DataFrame, *, name: str) -> Effect:
    """The logarithm of a moment without batch norm at the last block minus at the first."""

    def log_ratio(rows: pd.DataFrame) -> float:
        ordered = rows.sort_values("depth")["value"].to_numpy(np.float64)
        return float(np.log(ordered[-1]) - np.log(ordered[0]))

    rows = by_layer(pick(frame, item="fig5", probe="channel_moments", name=name, normalizer="none"))
    return effect(f"ln of {_MOMENTS[name]} without batch norm: last block - first", by_seed(rows, log_ratio))


def exponential(frame: pd.DataFrame) -> Effect:
    """How straight ln of the deviation is in the layer without batch norm: the share of variance that a line leaves."""

    def left(rows: pd.DataFrame) -> float:
        x, y = rows["depth"].to_numpy(np.float64), np.log(rows["value"].to_numpy(np.float64))
        return float(1 - np.corrcoef(x, y)[0, 1] ** 2)

    rows = by_layer(pick(frame, item="fig5", probe="channel_moments", name="std", normalizer="none"))
    return effect("share of the variance of ln deviation over layers that a straight line leaves", by_seed(rows, left))


def bounded(frame: pd.DataFrame) -> Effect:
    """The logarithm of batch norm's largest deviation over the blocks."""
    rows = pick(frame, item="fig5", probe="channel_moments", name="std", normalizer="batchnorm")
    largest = by_seed(rows, lambda own: float(np.log(own["value"].max())))
    return effect("ln of the largest deviation over blocks, batchnorm", largest)


_MOMENTS = {"std": "the channel deviation", "mean": "|channel mean|"}
_FACTOR = 2.0  # of ln: growth by e^2 is exponential growth that can be seen, and what stays below it is bounded

CLAIMS = (
    Claim(
        name="c05-upper",
        statement="Along a diverging step channel means blow up in the upper layers.",
        source="Figure 4",
        items=("fig4",),
        effect=upper_layers,
        holds="above",
        threshold=3.0,  # decades: "orders of magnitude"
    ),
    Claim(
        name="c05-late",
        statement="They blow up only in the last part of the step.",
        source="Figure 4",
        items=("fig4",),
        effect=blows_up_late,
        holds="above",
        threshold=0.5,  # the second half; the figure shows the last 20 to 40 %
    ),
    Claim(
        name="c05-few",
        statement="They blow up in few channels.",
        source="Figure 4",
        items=("fig4",),
        effect=few_channels,
        holds="below",
        threshold=0.5,  # less than half of them
    ),
    *(
        Claim(
            name=f"c06-{name}",
            statement=f"Without batch norm {what} grows by orders of e through the layers at initialization.",
            source="Figure 5",
            items=("fig5",),
            effect=partial(growth, name=name),
            holds="above",
            threshold=_FACTOR,
        )
        for name, what in _MOMENTS.items()
    ),
    Claim(
        name="c06-exponential",
        statement="Without batch norm that growth is exponential in the layer.",
        source="Figure 5",
        items=("fig5",),
        effect=exponential,
        holds="below",
        threshold=0.1,  # a straight line in the logarithm explains nine tenths
    ),
    Claim(
        name="c06-batchnorm",
        statement="With batch norm channel deviations stay bounded through the layers.",
        source="Figure 5",
        items=("fig5",),
        effect=bounded,
        holds="below",
        threshold=_FACTOR,
    ),
)
