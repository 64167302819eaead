r"""Correlations and gradients in deep ReLU networks at initialization, by mean-field theory.

Setting: layers :math:`z^l = W^l \phi(\hat z^{l-1})`, :math:`\phi` = ReLU, independent Gaussian weights of mean zero, no
skips, infinite width, a large batch. Then :math:`\hat z` of two inputs are jointly Gaussian in every unit, and their
cosine c obeys a map of one layer to the next. A normalizer falls into one of two phases:

* Nothing removes the mean that ReLU gives every unit: :math:`c' = 2 \kappa(c)`. The slope at c = 1 is 1, and c grows
  to 1, slowly: inputs become alike (ordered). The norms of gradients stay.
* That mean, :math:`1/\sqrt{2\pi}` for unit variance, is removed, over the batch or over the units (the same number at
  infinite width): :math:`c' = (\kappa(c) - 1/2\pi) / (1/2 - 1/2\pi)`. The slope at c = 1 is
  :math:`\pi/(\pi - 1) = 1.467`, c falls to 0, and close inputs are told apart (chaotic). Gradients explode
  at that rate.

References: Poole et al. 2016, arXiv:1606.05340, and Schoenholz et al. 2017, arXiv:1611.01232 (the phases); Cho and Saul
2009 (the kernel); Yang et al. 2019, arXiv:1902.08129 (explosion under batch normalization).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Phase: TypeAlias = Literal["ordered", "chaotic"]
Map: TypeAlias = Callable[[Tensor], Tensor]

_SQUARED_MEAN = 1 / (2 * math.pi)  # E[relu(u)]^2, u ~ N(0, 1)
_SECOND_MOMENT = 1 / 2  # E[relu(u)^2]
_VARIANCE = _SECOND_MOMENT - _SQUARED_MEAN

CHAOTIC_GROWTH = math.pi / (math.pi - 1)
"""E[relu'(u)^2] / Var[relu(u)] = 1.467: growth per layer of squared gradient norms in the chaotic phase."""


def relu_kernel(c: Tensor) -> Tensor:
    r"""The second moment of two ReLUs.

    .. math:: \kappa(c) = E[\phi(u) \phi(v)] = \frac{\sqrt{1 - c^2} + c (\pi - \arccos c)}{2 \pi}

    for u, v ~ N(0, 1) with correlation c. :math:`\kappa(1) = 1/2`, :math:`\kappa(0) = 1/2\pi`, :math:`\kappa(-1) = 0`.

    Shape: any; elementwise. NaN outside [-1, 1].
    Reference: Cho and Saul 2009, "Kernel methods for deep learning", eq. 1 and 6 with n = 1.
    """
    return ((1 - c.square()).sqrt() + c * (math.pi - c.acos())) / (2 * math.pi)


def relu_kernel_slope(c: Tensor) -> Tensor:
    r"""The derivative :math:`\kappa'(c) = (\pi - \arccos c) / 2\pi = E[\phi'(u) \phi'(v)]`, exact at c = 1 too."""
    return (math.pi - c.acos()) / (2 * math.pi)


def ordered_map(c: Tensor) -> Tensor:
    r"""The cosine after one layer that removes no mean, :math:`c' = \kappa(c) / \kappa(1)`; fixed point 1, marginal."""
    return relu_kernel(c) / _SECOND_MOMENT


def ordered_slope(c: Tensor) -> Tensor:
    """The derivative of `ordered_map`: 1 at c = 1, so that 1 - c shrinks like 9 pi^2 / (2 l^2) only."""
    return relu_kernel_slope(c) / _SECOND_MOMENT


def chaotic_map(c: Tensor) -> Tensor:
    r"""The cosine after one layer that removes ReLU's mean, :math:`c' = (\kappa(c) - 1/2\pi) / (1/2 - 1/2\pi)`.

    Fixed points: 0, stable; 1, unstable.
    """
    return (relu_kernel(c) - _SQUARED_MEAN) / _VARIANCE


def chaotic_slope(c: Tensor) -> Tensor:
    r"""The derivative of `chaotic_map`: :math:`\pi / (\pi - 1)` at c = 1, half of it, 0.733, at c = 0."""
    return relu_kernel_slope(c) / _VARIANCE


def propagate(one_layer: Map, c0: float, depth: int) -> Tensor:
    """Iterate a map: the cosines of `depth` layers, the first being c0 itself. Shape: (depth,), float64.

    Raises:
        ValueError: c0 is no cosine, or depth is less than 1.
    """
    if not -1.0 <= c0 <= 1.0:
        raise ValueError(f"c0 is a cosine in [-1, 1], got {c0}.")
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}.")
    cosines = [torch.tensor(c0, dtype=torch.float64)]
    while len(cosines) < depth:
        cosines.append(one_layer(cosines[-1]).clamp(-1, 1))  # rounding must not leave the domain
    return torch.stack(cosines)


def correlation_map(phase: Phase) -> Map:
    """The map of a phase: `ordered_map` or `chaotic_map`."""
    return {"ordered": ordered_map, "chaotic": chaotic_map}[phase]


def gradient_growth(phase: Phase) -> float:
    r"""Growth per layer, backwards, of the squared norm of the gradient with respect to a layer's preactivations.

    :math:`E[\phi'^2]` over what the normalizer divides by, in units where its output has variance 1: over
    :math:`E[\phi^2]` in the ordered phase, which is 1; over :math:`Var[\phi]` in the chaotic, which is
    :math:`\pi/(\pi-1)`. Gradients of an ordered network without normalizer keep their norm under He initialization.
    """
    return {"ordered": 1.0, "chaotic": CHAOTIC_GROWTH}[phase]


_PHASES: dict[str, Phase] = {
    "none": "ordered",
    "batchnorm": "chaotic",
    "batchnorm_train": "chaotic",
    "layernorm": "ordered",
    "weightnorm": "ordered",
    "bmlv": "chaotic",
    "prelayernorm": "chaotic",
    "regnorm": "ordered",
    "preregnorm": "chaotic",
}


def phase(normalizer_name: str) -> Phase | None:
    r"""The phase of a normalizer at initialization; None where neither of the two describes it, or the row is unknown.

    Chaotic are those that remove each unit's mean, over the batch (batchnorm, bmlv) or before the affine layer
    (prelayernorm, preregnorm). Layer normalization removes a mean that random weights have made zero already, and is
    ordered; so is regnorm until its penalty has been minimized, from when on the theory calls it chaotic.

    None for lpnorm, for which nothing is worked out, and for lmbv and bnl2, which divide each unit by a statistic of
    the batch and leave the unit's mean in. Let
    :math:`\bar c` be the cosine of z between examples of the batch, and s ~ N(0, 1) a unit's part common to them.

    * bnl2 divides by :math:`\sqrt{\bar c s^2 + 1 - \bar c}`, another number in each unit. That pushes
      :math:`\bar c` to a fixed point of 0.519, where both the differences of close inputs and squared gradients grow
      by :math:`E_s[1 / (\bar c s^2 + 1 - \bar c)] = 1.338` per layer: chaotic, at a rate of its own.
    * lmbv divides by :math:`\sqrt{1 - \bar c}`, the same number in each unit, so that cosines follow the ordered map
      for large batches. But squared gradients grow, by :math:`(1 - \bar c_l) / (1 - \bar c_{l+1})` from layer l + 1 to
      l, and by more where they have a part common to the batch, which acts on the divisor.
    """
    return _PHASES.get(normalizer_name)
