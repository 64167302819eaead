"""Interleaved timing: a ratio of two things measured in turn survives a machine whose speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs, pair by pair."""

    ours_ms: float
    theirs_ms: float
    ratio: float
    low: float
    high: float
    pairs: int


def compare(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int = 40,
    warmup: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Time A B A B ..., the order swapped each pair; medians, and the middle half of the pairwise ratios.

    On a machine that others use as well, time.thread_time counts what the calls themselves took.
    """
    for _ in range(warmup):
        ours()
        theirs()
    a, b = [], []
    for pair in range(pairs):
        for call, times in ((ours, a), (theirs, b)) if pair % 2 else ((theirs, b), (ours, a)):
            start = clock()
            call()
            times.append(clock() - start)
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return Ratio(
        ours_ms=1e3 * statistics.median(a),
        theirs_ms=1e3 * statistics.median(b),
        ratio=statistics.median(ratios),
        low=ratios[len(ratios) // 4],
        high=ratios[(3 * len(ratios)) // 4],
        pairs=pairs,
    )
