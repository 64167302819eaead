"""From raw nodes to a curve: a step of its own, whose width belongs on the figure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from normscope.linalg.density import SpectralDensity

_WIDTH_SQUARED = 1e-5  # relative to the range: the least of what Ghorbani et al.'s code advises, and its default
_ENTRIES_AT_A_TIME = 1 << 22


def default_width(density: SpectralDensity) -> float:
    r"""Standard deviation of the bumps, :math:`\sqrt{10^{-5} \max(1, \lambda_{max} - \lambda_{min})}`.

    Source: the code of Ghorbani et al. 2019, arXiv:1901.10159, where this square root's argument is the variance.
    """
    return math.sqrt(_WIDTH_SQUARED * max(1.0, density.largest.value - density.smallest.value))


def grid(density: SpectralDensity, *, points: int = 10_000, margin: float = 0.01) -> Tensor:
    """Evenly spaced eigenvalues (points,), from `margin` below the smallest node to `margin` above the largest."""
    return torch.linspace(density.smallest.value - margin, density.largest.value + margin, points, dtype=torch.float64)


def smooth(density: SpectralDensity, grid: Tensor, *, width: float) -> Tensor:
    r"""The density at the points of `grid` (points,), in units of one over the eigenvalue: (points,) float64.

    .. math:: p(t) = \sum_j \omega_j \, \mathcal N(t; \theta_j, \mathrm{width}^2)

    over the nodes and weights of `density.rule()`. It integrates to one over the whole line.

    Raises:
        ValueError: the width is not above zero.
    """
    if not width > 0:
        raise ValueError(f"The width of the bumps is above 0, but {width} arrived. Use `default_width(density)`.")
    nodes, weights = density.rule()
    points = grid.to(nodes)
    pieces = torch.split(points, max(1, _ENTRIES_AT_A_TIME // len(nodes)))
    bumps = torch.cat([torch.exp(-0.5 * ((piece[:, None] - nodes) / width) ** 2) @ weights for piece in pieces])
    return bumps / (width * math.sqrt(2 * math.pi))
