"""A claim is code: a statement, one number per seed, a threshold, and what the interval over seeds says of them."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Decision: TypeAlias = Literal["reproduced", "contradicted", "undecided", "not judged"]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean and 95 % Student-t interval over seeds; NaN where there is none.

    Attributes:
        seeds: how many seeds have a number; those whose value is NaN are left out.
        left_out: how many were.
        infinite: how many of the seeds are infinite; then there is neither mean nor interval.
    """

    mean: float
    low: float
    high: float
    seeds: int
    left_out: int
    infinite: int


@dataclass(frozen=True, slots=True)
class Effect:
    """One number per seed, and what it is; without seeds where the rows cannot tell.

    Attributes:
        unit: "1" for a pure number.
    """

    what: str
    unit: str
    by_seed: Mapping[int, float]

    def interval(self) -> Interval:
        r"""The interval :math:`\bar x \mp t_{0.975, n-1} \, s / \sqrt n` of the values, :math:`n` their number.

        Without two seeds there is a mean alone. An infinite value leaves neither: no t distribution holds it.
        """
        values = [value for value in self.by_seed.values() if not math.isnan(value)]
        infinite = sum(map(math.isinf, values))
        mean, half = _mean_and_half(values) if values and not infinite else (math.nan, math.nan)
        return Interval(mean, mean - half, mean + half, len(values), len(self.by_seed) - len(values), infinite)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper states, as code.

    Attributes:
        items: whose rows the effect is computed from, given in one frame with the column `item` added.
        effect: what is held against the threshold.
        holds: on which side of `threshold` the effect lies where the statement is right.
        remark: where theory or another paper disagrees, both sides.
    """

    name: str
    statement: str
    source: str
    items: tuple[str, ...]
    effect: Callable[[pd.DataFrame], Effect]
    holds: Literal["above", "below"]
    threshold: float
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What rows at one scale say of a claim, with everything that it rests on.

    Attributes:
        scale: of the runs; a verdict speaks for no larger one. "" where there was no run.
        what: the effect in words, with its unit.
        threshold: such as "above 0.2".
        mean, low, high: of the effect, with its 95 % interval over seeds; NaN where there is none.
        runs: names of the run folders whose rows were judged.
    """

    claim: str
    statement: str
    source: str
    scale: str
    verdict: Decision
    what: str
    threshold: str
    mean: float
    low: float
    high: float
    seeds: int
    remark: str
    runs: tuple[str, ...]


def judge(claim: Claim, frame: pd.DataFrame, *, scale: str, runs: Sequence[str]) -> Verdict:
    """Hold the claim's effect against its threshold.

    Reproduced where the whole interval lies on the side that the claim names, contradicted where it lies on the other;
    undecided where it does not, with fewer than two seeds, or with an infinite value; not judged without any value.
    """
    effect = claim.effect(frame)
    found = effect.interval()
    unit = "" if effect.unit == "1" else f" {effect.unit}"
    return Verdict(
        claim=claim.name,
        statement=claim.statement,
        source=claim.source,
        scale=scale,
        verdict=_decide(claim, found),
        what=_in_words(effect, found),
        threshold=f"{claim.holds} {claim.threshold:g}{unit}",
        mean=found.mean,
        low=found.low,
        high=found.high,
        seeds=found.seeds,
        remark=claim.remark,
        runs=tuple(runs),
    )


def value(frame: pd.DataFrame, **where: Any) -> dict[int, float]:
    """The value of each seed in the rows whose columns equal `where`, such as probe, name, normalizer, step, depth.

    `step` and `depth` may be "first" or "last": the smallest or largest of each trial's rows that fit the rest. Empty
    where no row fits.

    Raises:
        ValueError: there is no such column, or a seed has several rows; those columns are named that tell them apart.
    """
    unknown = [column for column in where if column not in frame.columns]
    if unknown:
        raise ValueError(f"rows have the columns {', '.join(frame.columns)}, got {', '.join(unknown)}.")
    rows = frame
    ends = {column: end for column, end in where.items() if column in _ORDERED and end in _ENDS}
    for column, wanted in where.items():
        if column not in ends:
            rows = rows[rows[column] == wanted]
    for column, end in ends.items():
        rows = rows[rows[column] == rows.groupby("trial")[column].transform(_ENDS[end])]
    if rows["seed"].duplicated().any():
        told_apart = rows.groupby("seed").nunique(dropna=False).max() > 1
        open_ = [c for c in rows.columns if c not in _NEVER_TOLD_APART_BY and told_apart[c]]
        raise ValueError(
            f"a seed has several rows, which differ in {', '.join(open_) or 'nothing'}; say which is meant."
        )
    return {int(seed): float(found) for seed, found in zip(rows["seed"], rows["value"], strict=True)}


def paired(
    frame: pd.DataFrame,
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    combine: Callable[[float, float], float] = operator.sub,
    **where: Any,
) -> dict[int, float]:
    """`value` of `a` minus that of `b`, seed by seed, where both have one; `where` holds for both.

    The same seed gives both the same weights, data and noise as far as they can share them, so that their difference
    spreads less than either. `combine(x, y)` takes the place of x - y.
    """
    left, right = value(frame, **{**where, **a}), value(frame, **{**where, **b})
    return {seed: combine(left[seed], right[seed]) for seed in left if seed in right}


_ORDERED = ("step", "depth")
_ENDS: Mapping[str, Literal["min", "max"]] = {"first": "min", "last": "max"}
_NEVER_TOLD_APART_BY = ("seed", "value", "stderr")


def _mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan
    from scipy.special import stdtrit

    half_width = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values)
    return mean, half_width / math.sqrt(len(values))


def _decide(claim: Claim, found: Interval) -> Decision:
    if found.seeds == 0:
        return "not judged"
    over, under = found.low > claim.threshold, found.high < claim.threshold
    if not (over or under):  # neither, too, where there is no interval
        return "undecided"
    return "reproduced" if over == (claim.holds == "above") else "contradicted"


def _in_words(effect: Effect, found: Interval) -> str:
    unit = "" if effect.unit == "1" else f" ({effect.unit})"
    of = found.seeds + found.left_out
    left_out = f"; {found.left_out} of {of} seeds left out, not a number" if found.left_out else ""
    infinite = f"; infinite for {found.infinite} of {of} seeds" if found.infinite else ""
    return f"{effect.what}{unit}{left_out}{infinite}"
