"""The module that stands where a network normalizes: one algorithm for every row of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn import distributed, functional, kernels
from normscope.nn.layout import Layout, description, furnish
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

    row: Normalizer
    layout: Layout
    num_features: int
    ndim: int
    channel_dim: int
    normalizer_site: str
    penalized: bool
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
        furnish(self, row, Layout(row.name, num_features, ndim, channel_dim), device=device, dtype=dtype)
        self.num_groups = _num_groups(row, num_features, ndim)
        self._mean_dims = _dims(row.mean, ndim, channel_dim)
        self._scale_dims = _dims(row.scale, ndim, channel_dim)
        self._penalty_dims = (0,) if row.penalty_over == "neuron" else _dims("batch", ndim, channel_dim)
        self._channel_shape = self.layout.channel_shape
        if self.num_groups is not None:
            size = self._channel_shape
            grouped = (self.num_groups, num_features // self.num_groups)
            self._channel_shape = (*size[:channel_dim], *grouped, *size[channel_dim + 1 :])

        self._couples = row.couples_batch  # this and what follows is asked in every call, so found once
        self._native = None if row.eps == 0 else row.fused  # the batch kernel refuses eps=0
        self._per_example = not {"instance", "group"}.isdisjoint((row.mean, row.scale))
        self._torch_groups = kernels.torch_groups(row, num_features, self.num_groups, ndim)
        self._patterns = tuple(kernels.pattern_of(row, ndim, penalized=training) for training in (False, True))

        def buffer(value: float, *, wanted: bool) -> Tensor | None:
            wanted = wanted and row.evaluation == "running"
            return torch.full((num_features,), value, device=device, dtype=dtype) if wanted else None

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
        return self._couples and self._uses_batch_statistics

    @property
    def _uses_batch_statistics(self) -> bool:
        return self.training or not self.tracks_running_statistics

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x; in train mode also update running statistics and hand over the penalty, if the row has them."""
        self._check(x)
        if self.num_groups is None:
            return self._normalized(x)
        grouped: Tensor = x.unflatten(self.channel_dim, (self.num_groups, -1))  # type: ignore[no-untyped-call]
        return self._normalized(grouped).flatten(self.channel_dim, self.channel_dim + 1)

    def _normalized(self, x: Tensor) -> Tensor:
        if x.numel() == 0:  # no statistics to take; the affine keeps the graph
            return self._scaled_and_shifted(x, None).to(x.dtype)
        momentum = self._count_batch()
        if (fused := self._fused(x, momentum)) is not None or (fused := self._kernel(x, momentum)) is not None:
            return fused
        z, rstd = self._center(x, momentum), None
        if self.row.scale is not None:
            rstd = self._rstd(z, momentum)
        if self.row.penalty is not None and self.training:
            z, rstd = functional.scale_and_shift(z, rstd, None, None), None
            form, unbiased = self.row.penalty, self.row.penalty_unbiased
            record(self, functional.regnorm_penalty(z, form=form, over=self._penalty_dims, unbiased=unbiased))
        return self._scaled_and_shifted(z, rstd).to(x.dtype)

    def _scaled_and_shifted(self, x: Tensor, rstd: Tensor | None) -> Tensor:
        weight, bias = (None if p is None else p.view(self._channel_shape) for p in (self.weight, self.bias))
        return functional.scale_and_shift(x, rstd, weight, bias)

    def _center(self, x: Tensor, momentum: float) -> Tensor:
        """Subtract the row's mean; from here on everything is in the accumulation dtype."""
        x = x.to(functional.accumulation_dtype(x.dtype))
        if self.row.mean is None:
            return x
        if self.running_mean is not None and not self._uses_batch_statistics:
            return x - self.running_mean.view(self._channel_shape)
        mean = distributed.mean(x, self._mean_dims)
        if self.running_mean is not None:
            self._update(self.running_mean, mean, momentum)
        return x - mean

    def _rstd(self, z: Tensor, momentum: float) -> Tensor:
        if self.running_var is not None and not self._uses_batch_statistics:
            return torch.rsqrt(self.running_var.view(self._channel_shape) + self.row.eps)
        value, rstd = distributed.moment_and_rstd(z, self._scale_dims, self.row.divisor, self.row.eps)
        self._update_variance(value, distributed.count(z, self._scale_dims), momentum)
        return rstd

    def _update_variance(self, value: Tensor, size: Tensor | int, momentum: float) -> None:
        if self.running_var is not None:
            bessel = size / (size - 1) if self.row.running_variance == "unbiased" else 1.0
            self._update(self.running_var, value * bessel, momentum)

    def _update(self, running: Tensor, value: Tensor, momentum: float) -> None:
        if self.training:
            running.lerp_(value.detach().flatten().to(running.dtype), momentum)

    def _fused(self, x: Tensor, momentum: float) -> Tensor | None:
        """Torch's native kernel, where the row is one of its layers and the kernel is exact."""
        if self._native is None:
            return None
        if differentiating_by_transform() and not torch.compiler.is_compiling():
            return None
        like = next((t for t in (self.weight, self.running_mean) if t is not None), x)
        if self._native == "batch_norm":
            if distributed.synchronization() is not None:
                return None
            # With half-precision parameters the kernel rounds its statistics to half as well.
            exact = like.dtype == functional.accumulation_dtype(x.dtype)
            return self._batch_norm(x, momentum) if exact else None
        if like.dtype != x.dtype:
            return None  # the layer kernels do not take mixed dtypes on every device
        if self.ndim == 4:
            # One group is all of (C, H, W), and unlike layer_norm its weight is per channel.
            return F.group_norm(x, 1, self.weight, self.bias, self.row.eps) if self.channel_dim == 1 else None
        return F.layer_norm(x, (self.num_features,), self.weight, self.bias, self.row.eps)

    def _kernel(self, x: Tensor, momentum: float) -> Tensor | None:
        """A kernel of this package, where one computes the row from the statistics at hand; see `kernels`."""
        if not self._uses_batch_statistics:
            return None
        if self._torch_groups is not None:
            whole = x if self.num_groups is None else x.flatten(self.channel_dim, self.channel_dim + 1)
            y = kernels.of_groups(whole, self._torch_groups, self.weight, self.bias, self.row.eps, self.channel_dim)
            return None if y is None else y.view(x.shape)
        pattern = self._patterns[self.training]
        if pattern is None:
            return None
        result = kernels.fused(x, self.weight, self.bias, pattern, self.channel_dim)
        if result is None:
            return None
        if self.running_mean is not None and result.mean is not None:
            self._update(self.running_mean, result.mean, momentum)
        self._update_variance(result.moment, x.numel() // result.moment.numel(), momentum)
        if result.penalty is not None:
            record(self, result.penalty)
        return result.y

    def _batch_norm(self, x: Tensor, momentum: float) -> Tensor | None:
        if self.channel_dim not in (1, self.ndim - 1) or self.row.running_variance == "biased":
            return None
        flat = x if self.channel_dim == 1 else x.reshape(-1, self.num_features)
        running, affine = (self.running_mean, self.running_var), (self.weight, self.bias)
        y = F.batch_norm(flat, *running, *affine, self._uses_batch_statistics, momentum, self.row.eps)
        return y if flat is x else y.view(x.shape)

    def _count_batch(self) -> float:
        """Count a training batch and return the weight of its statistics in the running ones."""
        if not (self.training and self.num_batches_tracked is not None):
            return 0.0
        self.num_batches_tracked.add_(1)
        if self.row.momentum is None:  # cumulative average, as in torch
            return 1.0 / float(self.num_batches_tracked)
        return self.row.momentum

    def _check(self, x: Tensor) -> None:
        self.layout.check(x)
        if self.couples_batch:
            self.layout.check_batch(x)
        if not self._per_example or x.numel() == 0:
            return
        channels = 1 if self.num_groups is None else self.num_features // self.num_groups
        if x.numel() * channels == len(x) * self.num_features:
            what = "example and channel" if self.num_groups is None else "group of channels"
            raise ValueError(
                f"{self.row.name} needs more than one value per {what} for its statistics, but the input has shape "
                f"{tuple(x.shape)}; use it where there are positions, or a normalizer over more channels."
            )

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)

    @staticmethod
    def couples(row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""
        return "batch" in (row.mean, row.scale)


def _num_groups(row: Normalizer, num_features: int, ndim: int) -> int | None:
    """How many groups the channels make, or None for a row without groups; see `functional.num_groups`."""
    if "group" not in (row.mean, row.scale):
        return None
    return functional.num_groups(num_features, row.setting("num_groups"), ndim=ndim)


def _dims(over: functional.Over | None, ndim: int, channel_dim: int) -> tuple[int, ...]:
    return () if over is None else functional.reduced_dims(over, ndim, channel_dim)
