"""Claim 3: the noise of a step goes with the square of the rate over the size of the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, last, log, pick

if TYPE_CHECKING:
    import pandas as pd


def noises(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a noise at the last step, the rate in the column `rate` and the size of the batch in `depth`."""
    probe = "gradient_noise" if name == "sampled" else "theory.gradient_noise"
    rows = last(pick(frame, item="noise", probe=probe, name=name), "step")
    return rows.assign(rate=rows["layer"].astype(float))


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


def beside_bound(frame: pd.DataFrame) -> Effect:
    """The sampled noise beside the bound, mean over sizes of batches, rates and normalizers."""
    ratio = _values(frame, "sampled") / _values(frame, "bound")
    return effect("sampled noise / α²C/B, mean over batches and rates", ratio)


def beside_exact(frame: pd.DataFrame) -> Effect:
    """Distance of the sampled noise from its exact value, as logarithm of the mean ratio."""
    ratio = _values(frame, "sampled") / _values(frame, "without_replacement")
    distance = log(ratio.groupby("seed").mean()).abs() if len(ratio) else ratio
    return effect("|log| of the sampled noise / its exact value, mean over batches and rates", distance)


def _values(frame: pd.DataFrame, name: str) -> pd.Series[float]:
    """By seed, normalizer, rate and size of the batch."""
    means: pd.Series[float] = noises(frame, name).groupby(["seed", "normalizer", "rate", "depth"])["value"].mean()
    return means


def _by_seed(values: pd.Series[float], reduce: object) -> pd.Series[float]:
    return by_seed(values.rename("value").reset_index().dropna(), reduce)  # type: ignore[arg-type]


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
        name="c03-bound",
        statement="The noise of a step is at most α²C/|B|.",
        source="text, bound on the noise",
        items=("noise",),
        effect=beside_bound,
        holds="below",
        threshold=1.0,
        remark="With replacement it is exactly that, without it is smaller by (N - B)/(N - 1).",
    ),
    Claim(
        name="c03-exact",
        statement="Without replacement the noise of a step is α²C/|B| times (N - |B|)/(N - 1).",
        source="derived",
        items=("noise",),
        effect=beside_exact,
        holds="below",
        threshold=0.1,  # a tenth: a few standard errors of the sampling
    ),
)
