"""Claim 10: singular values of products of Gaussian matrices, and what the paper says of singular value and square."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normscope.study import Claim, Effect
from normscope_papers.common.rows import by_seed, effect, nothing, pick

if TYPE_CHECKING:
    import pandas as pd


def singular_values(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of figure 8, with the number of matrices in the column `factors`."""
    rows = pick(frame, item="fig8", probe="gaussian_products", name="singular_value")
    return rows.assign(factors=rows["layer"].astype(int))


def _of_ends(frame: pd.DataFrame) -> tuple[int, int, pd.DataFrame]:
    rows = singular_values(frame)
    return int(rows["factors"].min()), int(rows["factors"].max()), rows


def edge(frame: pd.DataFrame) -> Effect:
    """The largest distance of a largest singular value from the law's edge, relative, over the numbers of matrices."""
    rows = singular_values(frame)
    law = pick(frame, item="fig8", probe="theory.gaussian_products", name="largest")
    if rows.empty or law.empty:
        return nothing(_EDGE)
    edges = law.drop_duplicates("layer").assign(factors=lambda found: found["layer"].astype(int)).set_index("factors")
    largest = rows.groupby(["seed", "factors"])["value"].max().unstack("factors")
    distance = (largest / edges["value"].reindex(largest.columns) - 1).abs()
    return effect(_EDGE, distance.max(axis=1))


_EDGE = "relative distance of the largest singular value from the law's edge, largest over the numbers of matrices"


def distance_to_law(frame: pd.DataFrame) -> Effect:
    """The largest distance of the sampled distribution function from the law's, over the numbers of matrices."""
    rows = pick(frame, item="fig8", probe="gaussian_products", name="distance_to_law")
    worst = rows.groupby("seed")["value"].max() if len(rows) else rows["value"]
    return effect("distance of the distribution function from the Fuss-Catalan law's, largest over lengths", worst)


def ill_conditioned(frame: pd.DataFrame) -> Effect:
    """Condition number of the longest product beside that of the shortest, in decades."""
    what = "log10 of the condition number: longest product - shortest"
    if singular_values(frame).empty:
        return nothing(what)
    short, long, rows = _of_ends(frame)

    def decades(own: pd.DataFrame) -> float:
        conditions = own.groupby("factors")["value"].agg(lambda values: values.max() / values.min())
        return float(np.log10(conditions[long] / conditions[short]))

    return effect(what, by_seed(rows, decades))


def growth_of_largest(frame: pd.DataFrame, *, power: int) -> Effect:
    """The exponent of the number of matrices in the largest singular value, or in its square."""
    what = f"exponent of the number of matrices in the largest {_VARIABLE[power]}"
    if singular_values(frame).empty:
        return nothing(what)
    short, long, rows = _of_ends(frame)

    def exponent(own: pd.DataFrame) -> float:
        largest = own.groupby("factors")["value"].max() ** power
        return float(np.log(largest[long] / largest[short]) / math.log(long / short))

    return effect(what, by_seed(rows, exponent))


def exponent_at_zero(frame: pd.DataFrame, *, power: int) -> Effect:
    """How far the density's exponent at 0 lies from -M/(M + 1), of singular values or their squares, largest over M.

    The exponent is one less than that of the distribution function between its quantiles 0.01 and 0.1.
    """
    what = f"distance from -M/(M+1) of the density's exponent at 0, {_VARIABLE[power]}, mean over M above 1"
    rows = singular_values(frame)
    rows = rows[rows["factors"] > 1]
    if rows.empty:
        return nothing(what)

    def distance(own: pd.DataFrame) -> float:
        found = [_exponent(values["value"], power) + factors / (factors + 1) for factors, values in _groups(own)]
        return float(np.abs(found).mean())

    return effect(what, by_seed(rows, distance))


def _groups(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    return [(int(str(factors)), own) for factors, own in rows.groupby("factors")]


def _exponent(values: pd.Series[float], power: int) -> float:
    low, high = np.quantile(values.to_numpy(np.float64) ** power, _QUANTILES)
    return float(math.log(_QUANTILES[1] / _QUANTILES[0]) / math.log(high / low)) - 1


_QUANTILES = (0.01, 0.1)
_VARIABLE = {1: "singular value", 2: "squared singular value"}
_BOTH = (
    "The paper calls its variable the singular value. A density like x^(-M/(M+1)) at 0 and, read as a rate of growth, "
    "a largest value of O(M) are those of the squared singular value; the same numbers are judged for both."
)

CLAIMS = (
    Claim(
        name="c10-law",
        statement="Singular values of products of Gaussian matrices follow the Fuss-Catalan law.",
        source="Figures 7 and 8",
        items=("fig8",),
        effect=distance_to_law,
        holds="below",
        threshold=0.03,  # the size of 1 / sqrt(N) at N = 1,000, which independent values would have
    ),
    Claim(
        name="c10-edge",
        statement="The largest singular value is at the edge of that law.",
        source="Figures 7 and 8",
        items=("fig8",),
        effect=edge,
        holds="below",
        threshold=0.05,
    ),
    Claim(
        name="c10-condition",
        statement="Products of more matrices are worse conditioned: a heavier tail, and more values near 0.",
        source="Figure 8",
        items=("fig8",),
        effect=ill_conditioned,
        holds="above",
        threshold=2.0,  # two orders of magnitude
    ),
    *(
        Claim(
            name=f"c10-linear-{side}",
            statement=f"The largest {_VARIABLE[power]} of a product of M matrices grows in proportion to M.",
            source=source,
            items=("fig8",),
            effect=partial(growth_of_largest, power=power),
            holds="above",
            threshold=0.75,  # half way between M and its square root
            remark=_BOTH,
        )
        for side, power, source in (("paper", 1, "text"), ("theory", 2, "derived"))
    ),
    *(
        Claim(
            name=f"c10-zero-{side}",
            statement=f"The density of the {_VARIABLE[power]} goes as x^(-M/(M+1)) at 0.",
            source=source,
            items=("fig8",),
            effect=partial(exponent_at_zero, power=power),
            holds="below",
            threshold=0.1,  # half of what lies between the two readings, 1 / (M + 1), over three and five matrices
            remark=_BOTH,
        )
        for side, power, source in (("paper", 1, "text"), ("theory", 2, "derived"))
    ),
)
