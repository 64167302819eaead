"""Mean and variance of each channel, of one tensor and of many together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class ChannelMoments:
    r"""Mean and variance of each channel over n values: :math:`\tfrac1n\sum x`, :math:`\tfrac1n\sum (x - \bar x)^2`.

    Attributes:
        count: n, the values of one channel.
        mean: (C,), float64 on the CPU.
        var: (C,), float64 on the CPU, divided by n.
    """

    count: int
    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, x: Tensor, channel_dim: int) -> ChannelMoments:
        """The moments of x over all axes but `channel_dim`, taken in float32 or wider."""
        dims = [d for d in range(x.ndim) if d != channel_dim % x.ndim]
        wide = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        var, mean = torch.var_mean(wide, dims, correction=0)
        return cls(x.numel() // x.shape[channel_dim], exact(mean), exact(var))

    def merged(self, other: ChannelMoments) -> ChannelMoments:
        r"""The moments of both sets of values together, by the law of total variance weighted by counts.

        .. math:: \bar x = \tfrac1n\sum_b n_b \bar x_b, \qquad
            \sigma^2 = \tfrac1n\sum_b n_b \sigma_b^2 + \tfrac1n\sum_b n_b (\bar x_b - \bar x)^2

        For two sets, and so for any number, the second sum is one product of differences, which does not cancel.

        Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance", equation 2.1.
        """
        count = self.count + other.count
        share = other.count / count
        step = other.mean - self.mean
        var = self.var + share * (other.var - self.var) + share * (1 - share) * step.square()
        return ChannelMoments(count, self.mean + share * step, var)


def exact(statistic: Tensor) -> Tensor:
    """A copy in float64 on the CPU: sums over a loader are taken in it, and not every device has it."""
    return statistic.detach().to("cpu", copy=True).to(torch.float64)
