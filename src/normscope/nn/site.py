"""The module that stands where a network normalizes: one algorithm for every row of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn import functional
from normscope.nn.modes import differentiating_by_transform
from normscope.nn.penalty import record

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer


@final
class Site(nn.Module):
    r"""Normalize as one row of the table says, then scale and shift each channel.

    .. math:: y = w_c \, \frac{x - \mu(x)}{\sigma(x - \mu(x))} + b_c,\qquad \sigma^2 = \text{moment} + \epsilon

    where the row says over which axes :math:`\mu` is taken (or that there is none), over which axes and as which
    moment :math:`\sigma` is, and whether evaluation uses running statistics. Made by ``row.site(...)``.

    Shape: (N, C), (N, T, C) or (N, C, H, W) as `ndim` says, in and out; dtype kept, statistics in float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on.
        running_mean, running_var, num_batches_tracked: as in torch.nn.BatchNorm2d, those the row needs.
        normalizer_site: the row's name; by it a probe finds the sites of a model.

    Raises:
        ValueError: wrong shape or dtype; batch statistics of a single value.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

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
        self.row = row
        self.num_features = num_features
        self.ndim = ndim
        self.channel_dim = channel_dim
        self.normalizer_site = row.name
        self.penalized = row.penalty is not None
        self._mean_dims = _dims(row.mean, ndim, channel_dim)
        self._scale_dims = _dims(row.scale, ndim, channel_dim)
        self._penalty_dims = (0,) if row.penalty_over == "neuron" else _dims("batch", ndim, channel_dim)
        self._channel_shape = tuple(num_features if d == channel_dim else 1 for d in range(ndim))

        def parameter(value: float) -> nn.Parameter | None:
            if not row.elementwise_affine:
                return None
            return nn.Parameter(torch.full((num_features,), value, device=device, dtype=dtype))

        def buffer(value: float, *, wanted: bool) -> Tensor | None:
            wanted = wanted and row.evaluation == "running"
            return torch.full((num_features,), value, device=device, dtype=dtype) if wanted else None

        self.register_parameter("weight", parameter(1.0))
        self.register_parameter("bias", parameter(0.0))
        self.register_buffer("running_mean", buffer(0.0, wanted=row.mean == "batch"))
        self.register_buffer("running_var", buffer(1.0, wanted=row.scale == "batch"))
        tracked = torch.zeros((), dtype=torch.long, device=device) if self.tracks_running_statistics else None
        self.register_buffer("num_batches_tracked", tracked)

    @property
    def tracks_running_statistics(self) -> bool:
        """Whether training keeps running statistics for evaluation."""
        return self.running_mean is not None or self.running_var is not None

    @property
    def couples_batch(self) -> bool:
        """Whether an example's output depends on other examples in the mode the module is in now."""
        return self.row.couples_batch and self._uses_batch_statistics

    @property
    def _uses_batch_statistics(self) -> bool:
        return self.training or not self.tracks_running_statistics

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x; in train mode also update running statistics and hand over the penalty, if the row has them."""
        self._check(x)
        weight, bias = self._per_channel(self.weight), self._per_channel(self.bias)
        if x.numel() == 0:  # no statistics to take; the affine keeps the graph
            return functional.scale_and_shift(x, None, weight, bias).to(x.dtype)
        momentum = self._count_batch()
        if (fused := self._fused(x, momentum)) is not None:
            return fused
        z, rstd = self._center(x, momentum), None
        if self.row.scale is not None:
            rstd = self._rstd(z, momentum)
        if self.row.penalty is not None and self.training:
            z, rstd = functional.scale_and_shift(z, rstd, None, None), None
            record(self, self._penalty(z, self.row.penalty))
        return functional.scale_and_shift(z, rstd, weight, bias).to(x.dtype)

    def _center(self, x: Tensor, momentum: float) -> Tensor:
        """Subtract the row's mean; from here on everything is in the accumulation dtype."""
        x = x.to(functional.accumulation_dtype(x.dtype))
        if self.row.mean is None:
            return x
        if self.running_mean is not None and not self._uses_batch_statistics:
            return x - self.running_mean.view(self._channel_shape)
        mean = x.mean(self._mean_dims, keepdim=True)
        if self.running_mean is not None:
            self._update(self.running_mean, mean, momentum)
        return x - mean

    def _rstd(self, z: Tensor, momentum: float) -> Tensor:
        if self.running_var is not None and not self._uses_batch_statistics:
            return torch.rsqrt(self.running_var.view(self._channel_shape) + self.row.eps)
        value, rstd = functional.moment_and_rstd(z, self._scale_dims, self.row.divisor, self.row.eps)
        if self.running_var is not None:
            size = functional.count(z, self._scale_dims)
            bessel = size / (size - 1) if self.row.running_variance == "unbiased" else 1.0
            self._update(self.running_var, value * bessel, momentum)
        return rstd

    @torch.no_grad()
    def _update(self, running: Tensor, value: Tensor, momentum: float) -> None:
        if self.training:
            running.lerp_(value.flatten().to(running.dtype), momentum)

    def _penalty(self, z: Tensor, form: functional.PenaltyForm) -> Tensor:
        return functional.regnorm_penalty(z, form=form, over=self._penalty_dims, unbiased=self.row.penalty_unbiased)

    def _fused(self, x: Tensor, momentum: float) -> Tensor | None:
        """Torch's native kernel, where the row is one of its layers and the kernel is exact."""
        if self.row.fused is None or self.row.eps == 0:  # the batch kernel refuses eps=0
            return None
        if differentiating_by_transform() and not torch.compiler.is_compiling():
            return None
        like = next((t for t in (self.weight, self.running_mean) if t is not None), x)
        if self.row.fused == "batch_norm":
            # With half-precision parameters the kernel rounds its statistics to half as well.
            exact = like.dtype == functional.accumulation_dtype(x.dtype)
            return self._batch_norm(x, momentum) if exact else None
        if like.dtype != x.dtype:
            return None  # the layer kernels do not take mixed dtypes on every device
        if self.ndim == 4:
            # One group is all of (C, H, W), and unlike layer_norm its weight is per channel.
            return F.group_norm(x, 1, self.weight, self.bias, self.row.eps) if self.channel_dim == 1 else None
        return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.row.eps)

    def _batch_norm(self, x: Tensor, momentum: float) -> Tensor | None:
        if self.channel_dim not in (1, self.ndim - 1) or self.row.running_variance == "biased":
            return None
        flat = x if self.channel_dim == 1 else x.reshape(-1, self.num_features)
        return F.batch_norm(
            flat,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self._uses_batch_statistics,
            momentum,
            self.row.eps,
        ).view(x.shape)

    def _count_batch(self) -> float:
        """Count a training batch and return the weight of its statistics in the running ones."""
        if not (self.training and self.num_batches_tracked is not None):
            return 0.0
        self.num_batches_tracked.add_(1)
        if self.row.momentum is None:  # cumulative average, as in torch
            return 1.0 / float(self.num_batches_tracked)
        return self.row.momentum

    def _per_channel(self, value: Tensor | None) -> Tensor | None:
        return None if value is None else value.view(self._channel_shape)

    def _check(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if x.ndim != self.ndim or shape[self.channel_dim] != self.num_features:
            layout = ["*"] * self.ndim
            layout[self.channel_dim] = str(self.num_features)
            raise ValueError(
                f"This {self.row.name} site normalizes inputs of shape ({', '.join(layout)}), but the input has shape "
                f"{shape}; make the site with num_features, ndim and channel_dim of its input."
            )
        if not x.is_floating_point():
            raise ValueError(
                f"A {self.row.name} site normalizes floating-point inputs, but the input is {x.dtype}; convert it."
            )
        values = x.numel() // self.num_features
        if self.row.couples_batch and self._uses_batch_statistics and values == 1:
            raise ValueError(
                f"{self.row.name} needs more than one value per channel for its batch statistics, but the input has "
                f"shape {shape}; use a larger batch, or a normalizer that does not couple the batch."
            )

    def extra_repr(self) -> str:
        """Row, features and layout."""
        row = self.row
        return f"{row.name}, {self.num_features}, ndim={self.ndim}, eps={row.eps}, affine={row.elementwise_affine}"


def _dims(over: functional.Over | None, ndim: int, channel_dim: int) -> tuple[int, ...]:
    return () if over is None else functional.reduced_dims(over, ndim, channel_dim)
