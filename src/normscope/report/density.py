"""From the nodes and weights of a record to a curve; the twin of `normscope.linalg.smoothing` without torch."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_WIDTH_SQUARED = 1e-5
_MARGIN = 0.01
_POINTS = 10_000
_FLAT = 0.01  # decades: a bend that no one sees


@dataclass(frozen=True, slots=True)
class Rule:
    """Gauss rules of one matrix, those of all starts together."""

    nodes: Array  # (nodes,)
    weights: Array  # (nodes,)

    @property
    def width(self) -> float:
        r"""Standard deviation of the bumps, :math:`\sqrt{10^{-5} \max(1, \lambda_{max} - \lambda_{min})}`."""
        return math.sqrt(_WIDTH_SQUARED * max(1.0, float(np.ptp(self.nodes))))

    def grid(self) -> Array:
        """Evenly spaced eigenvalues, from 0.01 below the smallest node to 0.01 above the largest."""
        return np.linspace(self.nodes.min() - _MARGIN, self.nodes.max() + _MARGIN, _POINTS)


def smooth(rule: Rule, grid: Array) -> Array:
    r"""Mean over the starts of :math:`\sum_j \omega_j \, \mathcal N(t; \theta_j, \mathrm{width}^2)` on the grid."""
    share = rule.weights / (rule.weights.sum() * rule.width * math.sqrt(2 * math.pi))
    density = np.zeros_like(grid)
    for node, weight in zip(rule.nodes, share, strict=True):
        density += weight * np.exp(-0.5 * ((grid - node) / rule.width) ** 2)
    return density


def outline(x: Array, y: Array, *, limit: int) -> list[int]:
    """Indices of at most `limit` points (at least 2) whose polygon follows the curve: always the one it misses most.

    Source: Douglas and Peucker, "Algorithms for the reduction of the number of points", 1973.
    """
    kept = [0, len(x) - 1]
    worst: list[tuple[float, int, int, int]] = []

    def consider(first: int, last: int) -> None:
        if last - first < 2:
            return
        between = slice(first + 1, last)
        missed = np.abs(y[between] - np.interp(x[between], [x[first], x[last]], [y[first], y[last]]))
        at = int(missed.argmax())
        if missed[at] > _FLAT:
            heapq.heappush(worst, (-float(missed[at]), first, first + 1 + at, last))

    consider(*kept)
    while worst and len(kept) < limit:
        _, first, middle, last = heapq.heappop(worst)
        kept.append(middle)
        consider(first, middle)
        consider(middle, last)
    return sorted(kept)
