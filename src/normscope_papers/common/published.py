"""Values that papers publish as numbers, beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from normscope.study import Effect, Published
from normscope_papers.common.rows import effect

if TYPE_CHECKING:
    import pandas as pd

Measured = Callable[["pd.DataFrame"], Effect | None]


def published(
    quantity: str,
    normalizer: str,
    value: float,
    measured: Measured,
    gap: str,
    *,
    unit: str = "1",
    uncertainty: float | None = None,
) -> Published:
    """A published value, ours, and why the two may differ."""
    return Published(
        quantity=quantity,
        normalizer=normalizer,
        value=value,
        uncertainty=uncertainty,
        unit=unit,
        measured=measured,
        gap=gap,
    )


def known(found: Effect) -> Effect | None:
    """The effect; None where no seed has a number, as `Published.measured` says it."""
    return found if found.by_seed else None


def mean(what: str, rows: pd.DataFrame, *, unit: str = "1") -> Effect | None:
    """The mean of these rows by seed; None without rows."""
    return known(effect(what, rows.groupby("seed")["value"].mean(), unit=unit))
