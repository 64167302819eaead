"""Rates of explosion of networks with activations: at a place, over all layers, and as a power of the gain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from normscope_papers.depth_limits.experiments import BEGINNING
from normscope_papers.depth_limits.rows import SECOND, log_norms, rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def beginnings(frame: pd.DataFrame, *, theory: bool = False) -> pd.DataFrame:
    """Figure E2's rate at the beginning: over the ten layers from the second weight, the first square one, on."""
    rows = _until(frame, "e2", BEGINNING, theory=theory)
    return rows.assign(value=rows["value"] / (BEGINNING - SECOND))


def growths(frame: pd.DataFrame, item: str, *, theory: bool = False, **where: Any) -> pd.DataFrame:
    """Growth of log gradient norms from the last hidden layer to the second, in the networks of an item."""
    return _until(frame, item, None, theory=theory, **where)


def _until(frame: pd.DataFrame, item: str, last: int | None, *, theory: bool, **where: Any) -> pd.DataFrame:
    """Log norm of the second weight's gradient less that of a later one, or of the last hidden one."""
    rows = log_norms(frame, item, theory=theory, **where)
    if rows.empty:
        return rows
    every = rows_with_conditions(frame, item, probe=rows["probe"].iloc[0], name="log_norm")
    ends = every[every["depth"] == (every["layers"] if last is None else last)]
    keys = ["seed", "normalizer", "condition"]
    joined = rows.join(ends.set_index(keys)["value"].rename("end"), on=keys)
    return joined.assign(value=joined["value"] - joined["end"]).dropna(subset="value")


def powers(frame: pd.DataFrame, activation: str, *, of_logarithms: bool = True) -> pd.DataFrame:
    """c₁ and c₂ of the rate c₁ α^c₂ of figure E1, by seed: least squares, of the logarithms or of the rates."""
    import pandas as pd

    rows = rows_with_conditions(frame, "e1", probe="explosion_rate", activation=activation)
    fit = _log_fit if of_logarithms else _plain_fit
    found = {seed: fit(own.groupby("gain")["value"].mean()) for seed, own in rows.groupby("seed")}
    return pd.DataFrame.from_dict(found, orient="index", columns=["c1", "c2"]).astype(float).rename_axis("seed")


def _log_fit(rates: pd.Series[float]) -> tuple[float, float]:
    if len(rates) < 2 or not (rates > 0).all():
        return math.nan, math.nan
    power, level = np.polyfit(np.log(rates.index.to_numpy(float)), np.log(rates.to_numpy()), 1)
    return math.exp(level), float(power)


def _plain_fit(rates: pd.Series[float]) -> tuple[float, float]:
    from scipy.optimize import minimize_scalar

    if len(rates) < 2 or not np.isfinite(rates.to_numpy()).all():
        return math.nan, math.nan
    gains, values = rates.index.to_numpy(float), rates.to_numpy(float)

    def level(power: float) -> float:
        return float(values @ gains**power / (gains ** (2 * power)).sum())  # the best c₁ for this c₂

    def misfit(power: float) -> float:
        return float(((values - level(power) * gains**power) ** 2).sum())

    power = float(minimize_scalar(misfit, bounds=(0.0, 10.0), method="bounded").x)
    return level(power), power
