r"""How fast log gradient norms grow with depth, by what an activation, Gaussian weights or too few samples do to them.

Setting: a deep network of infinite width at initialization, each layer affine, batch normalization, gain
:math:`\alpha`, activation :math:`\sigma`. Between two layers, going back, the norm of a gradient grows by

.. math:: R(\alpha) = \tfrac12 \log \chi(\alpha), \qquad
          \chi(\alpha) = \frac{\alpha^2 E[\sigma'(\alpha z)^2]}{\mathrm{Var}[\sigma(\alpha z)]}, \quad z \sim N(0, 1).

The variance is what batch normalization divides by after it has subtracted the mean; of an odd activation the mean is
zero, and the rate is that of a normalization without subtraction as well. Inputs are taken to have become orthogonal.
`orthogonal_growth` alone is of a finite width: of linear networks on a batch whose rank is less than that. All rates
are of the norm, in nats per layer; squared norms grow at twice the rate. Everything is float64.

Sources: Yang et al. 2019, "A mean field theory of batch normalization", arXiv:1902.08129 (growth by Gaussian weights,
and by ReLU); Meterez et al. 2024, arXiv:2310.02012, section 5 (gains that shrink with depth, measured). The formula
follows from the definitions as in mean-field theory, `orthogonal_growth` as it says; neither prints them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Function: TypeAlias = Callable[[Tensor], Tensor]

# sigma and its derivative.
_ACTIVATIONS: Mapping[str, tuple[Function, Function]] = MappingProxyType(
    {
        "identity": (lambda u: u, torch.ones_like),
        "tanh": (torch.tanh, lambda u: 1 - torch.tanh(u).square()),
        "sin": (torch.sin, torch.cos),
        "relu": (torch.relu, lambda u: (u > 0).to(u.dtype)),
    }
)
_NODES, _REACH = 40, 12  # per panel of length 1; beyond 12 standard deviations lies 4e-33 of the Gaussian
_LARGEST_GAIN = 10.0  # three waves of sin^2 a panel, twelve nodes a wave


def activation_growth(activation: str, gain: float) -> float:
    r"""R(gain) of an activation: growth per layer of the log norm of gradients, by Gauss's quadrature.

    Exact to rounding, about 1e-15: no panel of the quadrature contains zero, where ReLU has its kink. Closed forms:
    0 for the identity; :math:`\tfrac12 \log(\alpha^2 \coth \alpha^2) \approx \alpha^4 / 6` for sin;
    :math:`\tfrac12 \log(\pi / (\pi - 1))` for ReLU, whatever the gain.

    Args:
        activation: "identity", "tanh", "sin" or "relu".
        gain: alpha, above 0 and at most 10.

    Raises:
        ValueError: another activation, or a gain out of that range.
    """
    return _growth(activation, torch.tensor([gain], dtype=torch.float64)).item()


def shaped_growth(activation: str, exponent: float, depth: int) -> Tensor:
    r"""R of each layer l = 1, ..., depth where the gain is :math:`l^{-p}`, p = `exponent`.

    As :math:`R \propto \alpha^4` at small gains (of an odd, smooth activation), the sum over layers is bounded, however
    deep the network is, exactly if p > 1/4.

    Shape: (depth,), float64.

    Raises:
        ValueError: an unknown activation, a depth below 1, or an exponent that makes a gain exceed 10.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}.")
    return _growth(activation, torch.arange(1, depth + 1, dtype=torch.float64) ** -exponent)


def gaussian_growth(batch_size: int, centered: bool) -> float:
    r"""Growth per layer by independent Gaussian weights, in a linear network of infinite width on n examples.

    .. math:: \tfrac12 \log \frac{n - 1}{n - 2} \quad \text{or, with the mean subtracted,} \quad
              \tfrac12 \log \frac{n - 2}{n - 3}

    A row u of m = n (centered: n - 1) independent Gaussians has :math:`E[1/\|u\|^2] = 1/(m - 2)`, and division by its
    norm passes on the gradient in m - 1 directions. Orthogonal weights have 0. A width that is not large against n
    adds to it: where both are 100, growth in a thousand layers is twice as fast once it has set in.

    Args:
        batch_size: n.
        centered: whether the normalization subtracts the mean.

    Raises:
        ValueError: fewer than 3 examples, or 4 if centered; the expectation is infinite.
    """
    free = batch_size - 1 if centered else batch_size
    if free < 3:
        rule = f"at least {4 if centered else 3} examples"
        raise ValueError(f"Growth by Gaussian weights is finite for {rule}, got {batch_size}; use a larger batch.")
    return 0.5 * math.log((free - 1) / (free - 2))


def orthogonal_growth(rank: int, width: int) -> float:
    r"""Growth per layer in a linear network of d units with orthogonal weights on a batch of rank r, about.

    .. math:: \tfrac12 \log \frac{(r - 1)(d - 2)}{(r - 2)(d - 1)} \approx \tfrac12 \left(\frac1r - \frac1d\right)

    0 where r = d, and `gaussian_growth` of r samples where d is infinite. Let X be d x n with rows of unit norm and r
    equal singular values, as nearly as normalization can make them, P the projection of rank r onto its columns' space,
    W drawn from the Haar measure. Going back through a layer row j of the gradient G loses its component along row j of
    X, and is divided by the norm of row j of WX before its normalization.

    * That norm is :math:`s^{1/2}`, where s r / d is the squared length of a random unit vector's projection to r of d
      dimensions, a beta variable: :math:`E[1/s] = r (d - 2) / (d (r - 2))`.
    * The symmetric half of :math:`G X^\top` decays, as with full rank, where the antisymmetric half is all that stays.
      Let :math:`G X^\top = \Omega P` with :math:`\Omega` antisymmetric, its entries independent and of variance 1:
      :math:`\|\Omega P\|^2 = r (d - 1)`. Its diagonal holds the components along the rows of X, each of variance
      :math:`\frac rd (1 - \frac rd)`, since :math:`P_{jj} = r/d` and an antisymmetric form vanishes along :math:`P e_j`
      itself. That is a share :math:`(d - r) / (r (d - 1))` of the square of G, of which
      :math:`d (r - 1) / (r (d - 1))` stays.

    The product of the two is the growth of the squared norm. What is left out: singular values do not become quite
    equal, and gradients and row norms are not quite independent. In simulated networks of 100 units growth per layer is
    0.99, 0.98, 1.03, 1.2 and 1.7 times this at ranks of 10, 25, 50, 75 and 90: within 0.0006 nats of it.

    Args:
        rank: r, of the batch as the normalization sees it: subtracting the mean takes one away from n samples.
        width: d.

    Raises:
        ValueError: a rank below 1 or above the width, or below 3 and not the width; the expectation is infinite.
    """
    if not 1 <= rank <= width:
        raise ValueError(f"A batch through {width} units has a rank from 1 to {width}, got {rank}.")
    if rank == width:
        return 0.0
    if rank < 3:
        raise ValueError(f"Growth on a batch of lesser rank than units is finite for at least rank 3, got {rank}.")
    return 0.5 * math.log((rank - 1) * (width - 2) / ((rank - 2) * (width - 1)))


def _growth(activation: str, gains: Tensor) -> Tensor:
    """R of every gain, (K,) to (K,)."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}.")
    if not bool(((gains > 0) & (gains <= _LARGEST_GAIN)).all()):
        odd = gains[~((gains > 0) & (gains <= _LARGEST_GAIN))][0].item()
        raise ValueError(f"A gain is above 0 and at most {_LARGEST_GAIN:g}, got {odd:g}; choose a smaller one.")
    function, slope = _ACTIVATIONS[activation]
    nodes, weights = _gauss()
    u = gains.unsqueeze(-1) * nodes  # (K, nodes)
    values = function(u) / gains.unsqueeze(-1)  # of unit size at small gains too, whose squares would underflow
    means = values @ weights
    variances = (values - means.unsqueeze(-1)).square() @ weights
    return 0.5 * ((slope(u).square() @ weights) / variances).log()


@functools.cache
def _gauss() -> tuple[Tensor, Tensor]:
    """Nodes and weights of E over N(0, 1): Gauss-Legendre on [-12, -11], ..., [11, 12], times the density."""
    x, w = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(_NODES))
    nodes = (torch.arange(-_REACH, _REACH).unsqueeze(-1) + (x + 1) / 2).flatten()
    density = torch.exp(-nodes.square() / 2) / math.sqrt(2 * math.pi)
    return nodes, (w / 2).repeat(2 * _REACH) * density
