"""Cells of tables: numbers over seeds as text."""

from __future__ import annotations

from normscope.report import short
from normscope.study import Effect


def written(found: Effect | None, *, infinite: str = "infinite") -> str:
    """Mean and 95 % interval over seeds; the mean alone of one seed.

    Where a number is infinite there is neither, and `infinite` is said of its seeds: "diverged for 1 of 3 seeds".
    """
    if found is None or not (interval := found.interval()).seeds:
        return "not measured"
    if interval.infinite:
        return f"{infinite} for {interval.infinite} of {interval.seeds} seeds"
    spread = f" [{short(interval.low)}, {short(interval.high)}]" if interval.seeds > 1 else ""
    return short(interval.mean) + spread
