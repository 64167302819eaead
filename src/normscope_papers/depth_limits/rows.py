"""What claims, tables and figures of this paper read from rows: conditions as columns, lines, slopes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normscope_papers.common.rows import pick

if TYPE_CHECKING:
    import pandas as pd

SECOND = 2
"""The number of the first square weight, whose gradient figures 2, 3 and 5 show: the second of all."""


def rows_with_conditions(frame: pd.DataFrame, item: str, **where: Any) -> pd.DataFrame:
    """The rows of an item with its conditions spelled out as columns, those that equal `where`.

    A condition such as "exponent=0.4 layers=100" gives the columns `exponent` and `layers`, numbers where all are. A
    column that no condition has is asked for in vain: no row is left.
    """
    rows = conditions_as_columns(pick(frame, item=item))
    if any(column not in rows for column in where):
        return rows.iloc[:0]
    return pick(rows, **where)


def conditions_as_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with what their conditions say as further columns."""
    import pandas as pd

    if rows.empty:
        return rows
    parsed = {text: dict(part.split("=", 1) for part in text.split()) for text in rows["condition"].unique()}
    table = pd.DataFrame.from_dict(parsed, orient="index")
    for column in list(table):
        numbers = pd.to_numeric(table[column], errors="coerce")
        if not numbers.isna().any():
            table[column] = numbers
    return rows.join(table, on="condition")


def table(rows: pd.DataFrame, along: str) -> pd.DataFrame:
    """Mean values with one row per seed and one column per value of `along`, ascending."""
    return rows.groupby(["seed", along])["value"].mean().unstack(along)


def slope(curve: pd.Series[float]) -> float:
    """Least-squares slope of values against their index; NaN for fewer than two, or where one is not finite."""
    if len(curve) < 2 or not np.isfinite(curve.to_numpy()).all():
        return math.nan
    return float(np.polyfit(curve.index.to_numpy(float), curve.to_numpy(float), 1)[0])


def straightness(curve: pd.Series[float]) -> float:
    """The share of the variance of values that a straight line through them explains: the square of a correlation."""
    if len(curve) < 3 or not np.isfinite(curve.to_numpy()).all():
        return math.nan
    return float(np.corrcoef(curve.index.to_numpy(float), curve.to_numpy(float))[0, 1] ** 2)


def slopes(rows: pd.DataFrame, along: str = "layers") -> pd.Series[float]:
    """Slope of each seed's values against `along`, by the index `seed`."""
    import pandas as pd

    lines = table(rows, along).iterrows() if len(rows) else ()
    found = {seed: slope(line.dropna()) for seed, line in lines}
    return pd.Series(found, dtype=float).rename_axis("seed")


def log_norms(
    frame: pd.DataFrame, item: str, *, layer: int = SECOND, theory: bool = False, **where: Any
) -> pd.DataFrame:
    """The log norm of the gradient by one layer's weight, or theory's, in every network of an item."""
    probe = "theory.weight_gradient_norm" if theory else "weight_gradient_norm"
    return rows_with_conditions(frame, item, probe=probe, name="log_norm", depth=layer, **where)


def part_ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Norm of the symmetric over that of the antisymmetric part of ∇W Wᵀ, one row where both were measured."""
    parts = rows[rows["probe"] == "gradient_symmetry"]
    symmetric, antisymmetric = (parts[parts["name"] == name] for name in ("symmetric", "antisymmetric"))
    keys = ["seed", "condition", "step", "depth"]
    joined = symmetric.join(antisymmetric.set_index(keys)["value"].rename("beside"), on=keys)
    return joined.assign(value=joined["value"] / joined["beside"]).dropna(subset="value")
