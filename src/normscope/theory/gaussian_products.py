r"""Singular values of products of Gaussian matrices: the Fuss–Catalan law.

Setting: :math:`X = X_1 \cdots X_M`, independent N x N matrices with independent Gaussian entries of variance 1/N, as
N grows; y are the squared singular values of X, s the singular values. In terms of an angle
:math:`0 < \varphi < \pi / (M + 1)`, which falls as y rises,

.. math:: y = \frac{\sin^{M+1} (M+1)\varphi}{\sin\varphi \, \sin^M M\varphi}, \qquad
          y \, \rho(y) = \frac1\pi \frac{\sin (M+1)\varphi \, \sin\varphi}{\sin M\varphi}.

M = 1 is the Marchenko–Pastur law of square matrices, whose s has a quarter circle as density.

References: Haagerup and Möller 2013, arXiv:1211.4457 (the angle); Penson and Życzkowski 2011, arXiv:1103.3453;
Forrester and Liu 2014, arXiv:1404.5759. Bjorck et al. 2018, arXiv:1806.02375, figure 8, draw samples for M = 1, 3 and
5; what they say of the singular value (a density like :math:`x^{-M/(M+1)}` at 0, a largest value of O(M)) holds of its
square.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Halvings of an interval of 745 in the logarithm of an angle, all that float64 holds: below its rounding.
_HALVINGS = 64
_LOG_SMALLEST = -745.0


def fuss_catalan_density(y: Tensor, factors: int) -> Tensor:
    r"""The density :math:`\rho(y)` of squared singular values; 0 outside [0, edge], infinite at 0, NaN of NaN.

    :math:`\rho \sim y^{-M/(M+1)}` at 0, and a square root at the edge :math:`(M+1)^{M+1} / M^M`.

    Args:
        y: any shape; float64 inside.
        factors: M.

    Raises:
        ValueError: `factors` is less than 1.
    """
    y = _checked(y, factors)
    density = _imaginary_part(_complement(y, factors), factors) / (math.pi * y)
    return torch.where(y == 0, torch.inf, torch.where(_inside(y, factors), density, _beyond(y, 0.0)))


def fuss_catalan_cdf(y: Tensor, factors: int) -> Tensor:
    r"""The share of squared singular values below y; NaN of NaN.

    .. math:: F(y) = 1 - \frac{(M+1) \varphi}{\pi} + M y \, \rho(y)

    The integral of :math:`\rho` in closed form, by :math:`w \, dz / z = (M - \frac{1}{w - 1}) \, dw` along the
    resolvent's equation :math:`z = w^{M+1} / (w - 1)`.

    Args:
        y: any shape; float64 inside.
        factors: M.

    Raises:
        ValueError: `factors` is less than 1.
    """
    y = _checked(y, factors)
    psi = _complement(y, factors)  # (M + 1) phi = pi - (M + 1) psi
    share = ((factors + 1) * psi + factors * _imaginary_part(psi, factors)) / math.pi
    return torch.where(_inside(y, factors), share, _beyond(y, 1.0))


def singular_value_density(s: Tensor, factors: int) -> Tensor:
    r"""The density :math:`2 s \rho(s^2)` of singular values; at 0 it is 2/π for M = 1 and infinite for more factors.

    Args:
        s: any shape; float64 inside.
        factors: M.

    Raises:
        ValueError: `factors` is less than 1.
    """
    s = _checked(s, factors)
    density = 2 * s * fuss_catalan_density(s.square(), factors)
    # Where s^2 is 0 the product is 0 times infinity.
    density = torch.where(s.square() == 0, 2 / math.pi if factors == 1 else torch.inf, density)
    return torch.where(s < 0, 0.0, density)


def largest_singular_value(factors: int) -> float:
    r"""The edge :math:`\sqrt{(M+1)^{M+1} / M^M}`, about :math:`\sqrt{e M}`: 2, 3.079 and 3.864 for M = 1, 3 and 5.

    Raises:
        ValueError: `factors` is less than 1.
    """
    _check(factors)
    return math.sqrt(_edge(factors))


def fuss_catalan_moment(order: int, factors: int) -> int:
    r"""The moment :math:`E[y^k] = \frac{1}{Mk + 1} \binom{(M+1) k}{k}`: 1 for k = 1, M + 1 for k = 2.

    Args:
        order: k, at least 0.
        factors: M.

    Raises:
        ValueError: `order` is negative or `factors` less than 1.
    """
    _check(factors)
    if order < 0:
        raise ValueError(f"order must be at least 0, got {order}.")
    return math.comb((factors + 1) * order, order) // (factors * order + 1)


def _imaginary_part(psi: Tensor, factors: int) -> Tensor:
    """Y times pi times the density, sin((M+1) phi) sin(phi) / sin(M phi), with phi = pi / (M + 1) - psi."""
    phi = math.pi / (factors + 1) - psi
    # sin((M+1) phi) by the complement, which keeps its digits where phi is close to its largest value.
    ratio = torch.where(phi > 0, phi.sin() / (factors * phi).sin(), 1 / factors)
    return ((factors + 1) * psi).sin() * ratio


def _log_y(psi: Tensor, factors: int) -> Tensor:
    phi = math.pi / (factors + 1) - psi
    sines = ((factors + 1) * psi).sin().log(), phi.sin().log(), (factors * phi).sin().log()
    return (factors + 1) * sines[0] - sines[1] - factors * sines[2]


def _complement(y: Tensor, factors: int) -> Tensor:
    """The angle psi = pi / (M + 1) - phi of y, which rises with it, by bisection in its logarithm."""
    target = y.clamp(min=0).log()
    low = torch.full_like(y, _LOG_SMALLEST)
    high = torch.full_like(y, math.log(math.pi / (factors + 1)))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _log_y(middle.exp(), factors) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high.exp()


def _edge(factors: int) -> float:
    return (factors + 1) * (1 + 1 / factors) ** factors  # the powers themselves overflow from 143 factors on


def _inside(y: Tensor, factors: int) -> Tensor:
    return (y > 0) & (y < _edge(factors))


def _beyond(y: Tensor, above: float) -> Tensor:
    """What stands outside of the support: 0 below, `above` above, and NaN where y is."""
    return torch.where(y.isnan(), y, torch.where(y > 0, above, 0.0).to(y))


def _checked(values: Tensor, factors: int) -> Tensor:
    _check(factors)
    return values.double()


def _check(factors: int) -> None:
    if factors < 1:
        raise ValueError(f"factors must be at least 1, got {factors}.")
