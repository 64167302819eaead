"""Normalization propagation: what a ReLU does to unit Gaussians, undone by two constants."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from normscope.nn import functional
from normscope.nn.kernels.scale_shift import scale_and_shift
from normscope.nn.layout import Layout, description, furnish

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer

RELU_MEAN = 1 / math.sqrt(2 * math.pi)
"""E[max(u, 0)], u ~ N(0, 1)."""

RELU_STD = math.sqrt((1 - 1 / math.pi) / 2)
"""Standard deviation of max(u, 0), u ~ N(0, 1)."""


@final
class NormPropagation(nn.Module):
    r"""Gain, shift, and the factor that gives the ReLU behind it unit variance.

    .. math:: y = \frac{w_c\, x + b_c}{s}, \qquad s = \sqrt{\tfrac12 (1 - \tfrac1\pi)}

    The paper's layer is :math:`\frac1s\big(\max(w_c u_c + b_c, 0) - \tfrac1{\sqrt{2\pi}}\big)` of
    :math:`u_c = v_c^\top x / \|v_c\|`. A site stands before the ReLU, and a ReLU is positively homogeneous, so the
    factor 1/s is taken here, and the row's affine layers subtract :math:`1/(s\sqrt{2\pi})` from their input before
    they apply weights of unit norm. The first affine layer subtracts it from the data too: there it is a constant of
    the pre-activations, as a bias is. No statistics are taken.

    Shape: (N, C), (N, T, C) or (N, C, H, W) as `ndim` says, in and out; dtype kept, computed in float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on. The weight starts at `initial_gain`: by
            default 1/1.21, which gives a layer's Jacobian singular values of about 1.

    Raises:
        ValueError: wrong shape or dtype.

    Source: Arpit et al. 2016, arXiv:1603.01431, sections 3 and 4.
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
        gain = row.setting("initial_gain")
        self._batch_dims = functional.reduced_dims("batch", ndim, channel_dim)
        layout = Layout(row.name, num_features, ndim, channel_dim)
        furnish(self, row, layout, device=device, dtype=dtype, gain=gain)

    @staticmethod
    def couples(_row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""
        return False

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        self.layout.check(x)
        factor, shift = self._divided(self.weight), self._divided(self.bias)
        wide = x.to(functional.accumulation_dtype(x.dtype))
        if factor is None:
            return (wide / RELU_STD).to(x.dtype)
        return scale_and_shift(wide, factor, shift, self._batch_dims).to(x.dtype)

    def _divided(self, value: Tensor | None) -> Tensor | None:
        """The parameter over s, in the accumulation dtype: one pass over x is left."""
        if value is None:
            return None
        return self.layout.per_channel(value.to(functional.accumulation_dtype(value.dtype)) / RELU_STD)

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)
