"""What a fused kernel is asked for: which axes the mean and the divisor are taken over, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from normscope.nn import functional

Axes = Literal["batch", "layer", "instance"]
FusedMoment = Literal["std", "rms", "norm", "l1"]


@dataclass(frozen=True, slots=True)
class Pattern:
    r"""One normalization of x, seen as (N, C) or (N, C, P), P the positions of one channel of one example.

    .. math:: z = \frac{x - \mu}{\sqrt{\mathrm{moment}(x - \mu) + \epsilon}}, \qquad y_{ncp} = w_c z_{ncp} + b_c

    Attributes:
        mean: what the mean is taken over ("batch": all but C, "layer": all but N, "instance": P alone), or None.
        scale: what the divisor is taken over.
        moment: "std" about its own mean, "rms", "norm" (a sum), or "l1": the mean magnitude, without a root.
        eps: added to the moment.
        penalty: RegNorm's penalty of form A with one mean for each neuron: "biased", "unbiased", or None.
    """

    mean: Axes | None
    scale: Axes
    moment: FusedMoment
    eps: float
    penalty: Literal["biased", "unbiased"] | None = None

    def mean_dims(self, ndim: int) -> tuple[int, ...]:
        """Reduced axes of the mean, of x with `ndim` axes; empty where nothing is subtracted."""
        return () if self.mean is None else reduced(self.mean, ndim)

    def scale_dims(self, ndim: int) -> tuple[int, ...]:
        """Reduced axes of the divisor, of x with `ndim` axes."""
        return reduced(self.scale, ndim)

    @property
    def recenters(self) -> bool:
        """Whether the divisor is taken about a mean of its own."""
        return self.moment == "std" and self.mean != self.scale

    def penalty_of(self, neurons: Tensor, examples: int) -> Tensor:
        """RegNorm's penalty from the mean of z over the examples, of each neuron."""
        flat = neurons.flatten()
        value = torch.dot(flat, flat) / flat.numel()
        return value if self.penalty == "biased" else (examples * value - 1) / (examples - 1)

    def pull(self, neurons: Tensor, of_penalty: Tensor, examples: int) -> Tensor:
        """The penalty's gradient by z, the same for every example."""
        slope = 2 / (neurons.numel() * examples)
        return neurons * (of_penalty * (slope if self.penalty == "biased" else slope * examples / (examples - 1)))


class Normalized(NamedTuple):
    """What a kernel gives back; a named tuple, because autograd's functions return tuples."""

    y: Tensor  # the shape and dtype of x
    penalty: Tensor | None  # 0-dim, where the pattern has one
    mean: Tensor | None  # (1, C) or (N, 1), the mean that was subtracted; without a gradient
    moment: Tensor  # the moment, before eps, with the reduced axes kept; without a gradient


def reduced(axes: Axes, ndim: int) -> tuple[int, ...]:
    """Reduced axes of (N, C) or (N, C, P)."""
    positions = tuple(range(2, ndim))
    return {"batch": (0, *positions), "layer": (1, *positions), "instance": positions}[axes]


def composed(x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern, examples: int) -> Normalized:
    """The reference: the same from the primitives of `functional`, differentiable as often as asked.

    Args:
        x: (N, C) or (N, C, P).
        weight: (C,), or None.
        bias: (C,), or None.
        pattern: what to take over what.
        examples: examples of the batch, where axis 0 of x holds several tokens of each.
    """
    z, mean, rows = x.to(functional.accumulation_dtype(x.dtype)), None, (1, -1, 1)[: x.ndim]
    if pattern.mean is not None:
        mean = z.mean(pattern.mean_dims(x.ndim), keepdim=True)
        z = z - mean
    moment, rstd = functional.moment_and_rstd(z, pattern.scale_dims(x.ndim), pattern.moment, pattern.eps)
    z = z * rstd
    penalty = None
    if pattern.penalty is not None:
        by_example = z.reshape(examples, -1)
        penalty = functional.regnorm_penalty(by_example, unbiased=pattern.penalty == "unbiased")
    w, b = (None if p is None else p.view(rows) for p in (weight, bias))
    return Normalized(functional.scale_and_shift(z, None, w, b).to(x.dtype), penalty, mean, moment)
