"""Claims 5 and 6: channel moments along a diverging step, and by depth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, log, pick
from normscope_papers.understanding_batch_norm.claims.step_sizes import RECONSTRUCTION
from normscope_papers.understanding_batch_norm.experiments import READOUT, layer_of
from normscope_papers.understanding_batch_norm.rows import by_layer, diverges

if TYPE_CHECKING:
    import pandas as pd

PAIR = ("batchnorm", "none")


def sizes_along(frame: pd.DataFrame) -> pd.DataFrame:
    """Figure 4's |channel means|, the layer in the column `place` and the share of the step in `share`."""
    rows = pick(frame, item="fig4", probe="channel_moments_along_step", name="channel_mean")
    parts = rows["layer"].str.partition("@") if len(rows) else rows.reindex(columns=[0, 1, 2])
    return rows.assign(place=parts[0].map(layer_of), share=parts[2].astype(float), value=rows["value"].abs())


def _of_diverging(frame: pd.DataFrame, what: str, reduce: Callable[[pd.DataFrame], float]) -> Effect:
    """One number per seed; NaN where the step did not diverge, of which the claims do not speak."""
    values = by_seed(sizes_along(frame), reduce)
    steps = by_seed(pick(frame, item="fig4", probe="relative_loss"), diverges)
    return effect(f"{what}, where the step diverges", values.where(steps.reindex(values.index) == 1.0))


def _deepest(rows: pd.DataFrame) -> pd.DataFrame:
    deepest: pd.DataFrame = rows[rows["place"] == rows["place"].max()]
    return deepest


def upper_layers(frame: pd.DataFrame) -> Effect:
    """The largest |channel mean| at the end of the step, in the deepest layer beside the first, in decades."""

    def decades(rows: pd.DataFrame) -> float:
        end = rows[rows["share"] == 1.0].groupby("place")["value"].max().sort_index()
        return float(np.log10(end.iloc[-1] / end.iloc[0]))

    what = "log10 of the largest |channel mean| at the end of the step: deepest - first layer"
    return _of_diverging(frame, what, decades)


def grows(frame: pd.DataFrame) -> Effect:
    """How much the largest |channel mean| grows along the step, in the deepest layer beside the first, in decades."""

    def decades(rows: pd.DataFrame) -> float:
        ends = pick(rows, share=[0.0, 1.0]).groupby(["place", "share"])["value"].max().unstack("share")
        growth = log(ends[1.0] / ends[0.0], base=10).sort_index()
        return float(growth.iloc[-1] - growth.iloc[0])

    what = "log10 of the largest |channel mean|, end of the step - beginning: deepest - first layer"
    return _of_diverging(frame, what, decades)


def blows_up_late(frame: pd.DataFrame) -> Effect:
    """The share of the step from which on the deepest layer's largest |channel mean| exceeds a tenth of its last value.

    From which on, and not where first: a step may shrink the means before they blow up.
    """

    def share(rows: pd.DataFrame) -> float:
        largest = _deepest(rows).groupby("share")["value"].max().sort_index()
        below = np.flatnonzero((largest < 0.1 * largest.iloc[-1]).to_numpy())
        return float(largest.index[below[-1] + 1 if len(below) else 0])

    what = (
        "share of the step from which on the deepest layer's largest |channel mean| exceeds a tenth of its last value"
    )
    return _of_diverging(frame, what, share)


def few_channels(frame: pd.DataFrame) -> Effect:
    """The share of the deepest layer's channels with a |mean| above a tenth of the largest, at the end of the step."""

    def share(rows: pd.DataFrame) -> float:
        sizes = pick(_deepest(rows), share=1.0)["value"]
        return float((sizes > 0.1 * sizes.max()).mean())

    what = "share of the deepest layer's channels with |mean| above a tenth of the largest, at the end of the step"
    return _of_diverging(frame, what, share)


def blocks(frame: pd.DataFrame, *, name: str, norm: str) -> pd.DataFrame:
    """Figure 5's rows of a moment at the blocks' outputs, the layer in the column `depth`; the logits are none."""
    rows = pick(frame, item="fig5", probe="channel_moments", name=name, normalizer=norm)
    return by_layer(rows[rows["layer"] != READOUT])


def growth(frame: pd.DataFrame, *, name: str) -> Effect:
    """The logarithm of a moment without batch norm at the last block minus at the first."""

    def log_ratio(rows: pd.DataFrame) -> float:
        ordered = rows.sort_values("depth")["value"].to_numpy(np.float64)
        return float(np.log(ordered[-1]) - np.log(ordered[0]))

    rows = blocks(frame, name=name, norm="none")
    return effect(f"ln of {_MOMENTS[name]} without batch norm: last block - first", by_seed(rows, log_ratio))


def exponential(frame: pd.DataFrame) -> Effect:
    """How straight ln of the deviation is in the layer without batch norm: the share of variance that a line leaves."""

    def left(rows: pd.DataFrame) -> float:
        x, y = rows["depth"].to_numpy(np.float64), np.log(rows["value"].to_numpy(np.float64))
        return float(1 - np.corrcoef(x, y)[0, 1] ** 2)

    rows = blocks(frame, name="std", norm="none")
    return effect("share of the variance of ln deviation over layers that a straight line leaves", by_seed(rows, left))


def bounded(frame: pd.DataFrame, *, name: str) -> Effect:
    """The logarithm of batch norm's largest moment over the blocks."""
    rows = blocks(frame, name=name, norm="batchnorm")
    largest = by_seed(rows, lambda own: float(np.log(own["value"].max())))
    return effect(f"ln of the largest value of {_MOMENTS[name]} over blocks, batchnorm", largest)


def reset(frame: pd.DataFrame) -> Effect:
    """The fall of ln of batch norm's deviation from the last block of a stage to the first of the next, mean over both.

    The stages are thirds of the blocks; NaN where there are not as many in each.
    """

    def fall(rows: pd.DataFrame) -> float:
        values = np.log(rows.sort_values("depth")["value"].to_numpy(np.float64))
        stage, left = divmod(len(values), 3)
        if left:
            return float("nan")
        return float(np.mean([values[first - 1] - values[first] for first in (stage, 2 * stage)]))

    rows = blocks(frame, name="std", norm="batchnorm")
    what = "ln of the deviation: last block of a stage - first of the next, batchnorm, mean over both boundaries"
    return effect(what, by_seed(rows, fall))


_MOMENTS = {"std": "the channel deviation", "mean": "|channel mean|"}
_FACTOR = 2.0  # of ln: growth by e^2 is exponential growth that can be seen, and what stays below it is bounded

_STEP = (
    f"{RECONSTRUCTION} The step is the smallest of a grid that diverges; the paper's, at whose end layer 80 has means "
    "of 3e8, is far beyond that. Before it the upper layers' means are the larger ones already."
)

CLAIMS = (
    Claim(
        name="c05-upper",
        statement="At the end of a diverging step channel means are far larger in the upper layers.",
        source="Figure 4",
        items=("fig4",),
        effect=upper_layers,
        holds="above",
        threshold=3.0,  # decades: "orders of magnitude"
        remark=_STEP,
    ),
    Claim(
        name="c05-grows",
        statement="Along a diverging step channel means blow up in the upper layers.",
        source="Figure 4",
        items=("fig4",),
        effect=grows,
        holds="above",
        threshold=1.0,  # an order of magnitude more than in the first of the layers
        remark=_STEP,
    ),
    Claim(
        name="c05-late",
        statement="They blow up only in the last part of the step.",
        source="Figure 4",
        items=("fig4",),
        effect=blows_up_late,
        holds="above",
        threshold=0.5,  # the second half; the figure shows the last 20 to 40 %
        remark=_STEP,
    ),
    Claim(
        name="c05-few",
        statement="They blow up in few channels.",
        source="Figure 4",
        items=("fig4",),
        effect=few_channels,
        holds="below",
        threshold=0.25,  # a quarter
        remark=_STEP,
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
    *(
        Claim(
            name=f"c06-batchnorm-{name}",
            statement=f"With batch norm {what} stays bounded through the layers.",
            source="Figure 5",
            items=("fig5",),
            effect=partial(bounded, name=name),
            holds="below",
            threshold=_FACTOR,
        )
        for name, what in _MOMENTS.items()
    ),
    Claim(
        name="c06-reset",
        statement="With batch norm the channel deviation falls back where a stage begins.",
        source="Figure 5",
        items=("fig5",),
        effect=reset,
        holds="above",
        threshold=0.45,  # half of the 0.9 by which the figure's logarithm falls
    ),
)
