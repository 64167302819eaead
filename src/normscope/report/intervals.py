"""Intervals over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95

Array = NDArray[np.float64]


def t_interval(values: Array) -> tuple[Array, Array, Array]:
    """Return mean and 95 % Student-t interval over the last axis, which holds the seeds.

    mean -/+ t(0.975; n - 1) s / sqrt(n), with n the number of finite values and s their standard deviation (ddof = 1).
    The interval is NaN where n < 2, all three are NaN where n = 0.

    Shape: (..., seeds) -> (...), (...), (...).
    """
    from scipy import stats  # half a second, which whoever only lists items does not wait for

    finite = np.isfinite(values)
    count = finite.sum(axis=-1).astype(np.float64)
    kept = np.where(finite, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = kept.sum(axis=-1) / count
        squares = (np.where(finite, values - mean[..., None], 0.0) ** 2).sum(axis=-1)
        half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.sqrt(squares / (count - 1) / count)
    return mean, mean - half, mean + half


def log_t_interval(values: Array) -> tuple[Array, Array, Array]:
    """Return `t_interval` of the logarithm, carried back: the geometric mean and an interval that stays positive.

    Values that are not positive have no logarithm and are left out like those that are not finite.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, lo, hi = t_interval(np.log(values))
    return np.exp(mean), np.exp(lo), np.exp(hi)
