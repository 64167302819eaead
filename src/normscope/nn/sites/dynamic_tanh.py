"""Dynamic tanh: a squashing function in place of a normalizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from normscope.nn import functional
from normscope.nn.kernels import suits_cpu
from normscope.nn.kernels.dynamic_tanh import DynamicTanhKernel, dynamic_tanh
from normscope.nn.layout import Layout, description, furnish

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer


@final
class DynamicTanh(nn.Module):
    r"""Squash every value by one function with a learned slope, then scale and shift each channel.

    .. math:: y = w_c \tanh(\alpha x) + b_c

    No statistics are taken. :math:`\alpha` is one number for the site.

    Shape: (N, C), (N, T, C) or (N, C, H, W) as `ndim` says, in and out; dtype kept, computed in float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on.
        alpha: 0-dim, the row's `alpha` (0.5) at first; always learned.

    Raises:
        ValueError: wrong shape or dtype.

    Source: Zhu et al. 2025, arXiv:2503.10622, equation 1; the start of alpha from its section 4.
    """

    row: Normalizer
    layout: Layout
    weight: Tensor | None
    bias: Tensor | None

    couples_batch = False

    def __init__(
        self,
        row: Normalizer,
        num_features: int,
        *,
        ndim: int = 4,
        channel_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        furnish(self, row, Layout(row.name, num_features, ndim, channel_dim), device=device, dtype=dtype)
        self._batch_dims = functional.reduced_dims("batch", ndim, channel_dim)
        self.alpha = nn.Parameter(torch.full((), float(row.setting("alpha")), device=device, dtype=dtype))

    @staticmethod
    def couples(_row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""
        return False

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        self.layout.check(x)
        weight, bias = self.layout.per_channel(self.weight), self.layout.per_channel(self.bias)
        if x.numel() and suits_cpu(x, self.alpha, weight, bias):
            arguments = (x, self.alpha, weight, bias, self._batch_dims)
            y: Tensor = DynamicTanhKernel.apply(*arguments)  # type: ignore[no-untyped-call]
            return y
        return dynamic_tanh(x, self.alpha, weight, bias)

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)
