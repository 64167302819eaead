"""Claim 3: the noise of a step goes with the square of the rate over the size of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, log, pick
from normscope_papers.understanding_batch_norm.rows import at_last_step

if TYPE_CHECKING:
    import pandas as pd


def noises(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a noise at the last step, the rate in the column `rate` and the size of the batch in `depth`.

    NaN for a seed in which one of the normalizers never came to that step.
    """
    own = pick(frame, item="noise")
    probe = "gradient_noise" if name == "sampled" else "theory.gradient_noise"
    rows = pick(at_last_step(own), probe=probe, name=name)
    there = rows.groupby("seed")["normalizer"].transform("nunique") == own["normalizer"].nunique()
    return rows.assign(rate=rows["layer"].astype(float), value=rows["value"].where(there))


def exponent_of_batch(frame: pd.DataFrame) -> Effect:
    """How far the exponent of the batch size lies from -1, once sampling without replacement is accounted for."""
    sampled, bound, exact = (_values(frame, name) for name in ("sampled", "bound", "without_replacement"))
    with_replacement = sampled * bound / exact
    return effect(
        "distance from -1 of the exponent of the batch size in the sampled noise, per draw with replacement",
        _by_seed(with_replacement, lambda own: abs(_slope(own, "depth") + 1)),
    )


def exponent_of_rate(frame: pd.DataFrame) -> Effect:
    """How far the exponent of the rate lies from 2."""
    distances = _by_seed(_values(frame, "sampled"), lambda own: abs(_slope(own, "rate") - 2))
    return effect("distance from 2 of the exponent of the rate in the sampled noise", distances)


def beside_exact(frame: pd.DataFrame) -> Effect:
    """Distance of the sampled noise from its exact value, as logarithm of the mean ratio."""
    ratio = _values(frame, "sampled") / _values(frame, "without_replacement")
    distance = log(ratio.groupby("seed").mean()).abs() if len(ratio) else ratio
    return effect("|log| of the sampled noise / its exact value, mean over batches and rates", distance)


def _values(frame: pd.DataFrame, name: str) -> pd.Series[float]:
    """By seed, normalizer, rate and size of the batch; NaN for a batch of all examples, which has no noise."""
    groups = ["seed", "normalizer", "rate", "depth"]
    means, exact = (noises(frame, one).groupby(groups)["value"].mean() for one in (name, "without_replacement"))
    return means.where(exact > 0)


def _by_seed(values: pd.Series[float], reduce: Callable[[pd.DataFrame], float]) -> pd.Series[float]:
    """One number per seed, NaN where it has no value."""

    def of(own: pd.DataFrame) -> float:
        known = own.dropna()
        return math.nan if known.empty else reduce(known)

    return by_seed(values.rename("value").reset_index(), of)


def _slope(rows: pd.DataFrame, column: str) -> float:
    """Exponent of the value in a column, the other columns held, by least squares of logarithms."""
    held = [name for name in ("normalizer", "rate", "depth") if name != column]
    x, y = log(rows[column].astype(float)), log(rows["value"])
    groups = [rows[name] for name in held]
    x, y = x - x.groupby(groups).transform("mean"), y - y.groupby(groups).transform("mean")
    return float((x * y).sum() / (x * x).sum())


CLAIMS = (
    Claim(
        name="c03-batch",
        statement="The noise of a step goes with the inverse of the batch size.",
        source="text, bound on the noise",
        items=("noise",),
        effect=exponent_of_batch,
        holds="below",
        threshold=0.1,  # an exponent of 0.9 to 1.1
    ),
    Claim(
        name="c03-rate",
        statement="The noise of a step goes with the square of the learning rate.",
        source="text, bound on the noise",
        items=("noise",),
        effect=exponent_of_rate,
        holds="below",
        threshold=0.1,
        remark="Of the step, not of the training: a product with the rate has its square by definition.",
    ),
    Claim(
        name="c03-exact",
        statement="Without replacement the noise of a step is α²C/|B| times (N - |B|)/(N - 1).",
        source="derived, for the bound on the noise",
        items=("noise",),
        effect=beside_exact,
        holds="below",
        threshold=0.1,  # a tenth: a few standard errors of the sampling
        remark="The paper states the bound α²C/|B|. With replacement the noise is exactly that, without it is never "
        "above: the bound follows from this claim, and is not judged apart.",
    ),
)
