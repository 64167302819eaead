"""Batch renormalization: batch statistics, corrected towards the running ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn import distributed, functional, kernels
from normscope.nn.layout import Layout, description, furnish

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer

CountT = TypeVar("CountT", Tensor, float)


@final
class BatchRenorm(nn.Module):
    r"""Normalize by the batch's mean and deviation, and correct by what sets them apart from the running ones.

    .. math::
        y = w_c \Big(\frac{x - \mu_B}{\sigma_B} r + d\Big) + b_c, \quad
        r = \mathrm{clip}\Big(\frac{\sigma_B}{\sigma}, \frac1{r_t}, r_t\Big), \quad
        d = \mathrm{clip}\Big(\frac{\mu_B - \mu}{\sigma}, -d_t, d_t\Big), \quad
        \sigma_B = \sqrt{\tfrac1m\sum(x - \mu_B)^2 + \epsilon}

    with r and d constants in the backward pass (``derivative="true"`` differentiates them too). The bounds grow with
    the batches t seen before this one: :math:`r_t` is 1 and :math:`d_t` 0 up to `start` of them (there it is batch
    normalization), then they grow in a straight line to `r_max` and `d_max` within `r_ramp` and `d_ramp` more. The
    running statistics take the batch's after they were used. In eval mode :math:`y = w_c (x - \mu)/\sigma + b_c`.

    Shape: (N, C), (N, T, C) or (N, C, H, W) as `ndim` says, in and out; dtype kept, statistics in float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on.
        running_mean: (C,), of the batches' means; torch's meaning.
        running_std: (C,), of the batches' deviations, eps included; the paper averages these and not variances.
        num_batches_tracked: batches seen; the bounds depend on it, so a resumed run goes on where it was.

    Raises:
        ValueError: wrong shape or dtype; batch statistics of a single value.

    Source: Ioffe 2017, arXiv:1702.03275, algorithm 1; the bounds' schedule from its section 4.
    """

    row: Normalizer
    layout: Layout
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_std: Tensor
    num_batches_tracked: Tensor

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
        self._dims = functional.reduced_dims("batch", ndim, channel_dim)
        self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
        self.register_buffer("running_std", torch.ones(num_features, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=device))

    @staticmethod
    def couples(_row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode."""
        return True

    @property
    def couples_batch(self) -> bool:
        """Whether an example's output depends on other examples in the mode the module is in now."""
        return self.training

    @property
    def surrogate_backward(self) -> bool:
        """Whether the backward pass, in the mode the module is in now, is not the derivative of the forward."""
        return self.row.surrogate_backward and self.training

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        self.layout.check(x)
        weight, bias = self.layout.per_channel(self.weight), self.layout.per_channel(self.bias)
        if x.numel() == 0:
            return functional.scale_and_shift(x, None, weight, bias).to(x.dtype)
        if self.training:
            if distributed.synchronization() is None:
                self.layout.check_batch(x)
            if self._suits(x):
                return self._by_batch_norm(x)
        wide = x.to(functional.accumulation_dtype(x.dtype))
        z = self._renormalized(wide) if self.training else (wide - self._running_mean) / self._running_std
        return functional.scale_and_shift(z, None, weight, bias).to(x.dtype)

    def _suits(self, x: Tensor) -> bool:
        fast = self.row.surrogate_backward and self.row.eps > 0 and self.layout.channel_dim in (1, x.ndim - 1)
        return fast and kernels.suits_cpu(x, self.weight, self.bias, self.running_mean)

    def _by_batch_norm(self, x: Tensor) -> Tensor:
        """The same as torch's batch norm of weight w r and bias w d + b, r and d constants; any derivative is exact."""
        flat = x if self.layout.channel_dim == 1 else x.reshape(-1, self.layout.num_features)
        mean, variance = torch.batch_norm_update_stats(flat.detach(), None, None, 0.0)
        std = variance.add_(self.row.eps).sqrt_()
        r_max, d_max = self._bounds(float(self.num_batches_tracked), lambda share: min(max(share, 0.0), 1.0))
        r = (std / self.running_std).clamp_(1 / r_max, r_max)
        d = (mean - self.running_mean).div_(self.running_std).clamp_(-d_max, d_max)
        factor = r if self.weight is None else self.weight * r
        shift = functional.scale_and_shift(d, None, self.weight, self.bias)
        self._update(mean, std)
        return F.batch_norm(flat, None, None, factor, shift, True, 0.0, self.row.eps).view(x.shape)

    def _renormalized(self, x: Tensor) -> Tensor:
        mean = distributed.mean(x, self._dims)
        z = x - mean
        rstd = distributed.moment_and_rstd(z, self._dims, "rms", self.row.eps)[1]
        # A tensor, so that neither a compiler nor a device waits for it.
        seen = functional.before_update(self.num_batches_tracked).to(x.dtype)
        std, r_max, d_max = rstd.reciprocal(), *self._bounds(seen, _clamped)
        r = torch.clamp(std / self._running_std, r_max.reciprocal(), r_max)
        d = torch.clamp((mean - self._running_mean) / self._running_std, -d_max, d_max)
        if self.row.surrogate_backward:
            r, d = r.detach(), d.detach()
        y = torch.addcmul(d, z, rstd * r)
        self._update(mean, std)
        return y

    def _bounds(self, seen: CountT, clamp: Callable[[CountT], CountT]) -> tuple[CountT, CountT]:
        """r_t and d_t for as many batches as were seen; `clamp` to between 0 and 1."""
        setting = self.row.setting
        after = seen - int(setting("start"))

        def share(ramp: int) -> CountT:
            return clamp(after / ramp if ramp else after + 1)

        r_max, d_max = float(setting("r_max")), float(setting("d_max"))
        return 1 + (r_max - 1) * share(setting("r_ramp")), d_max * share(setting("d_ramp"))

    @torch.no_grad()
    def _update(self, mean: Tensor, std: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        for running, value in ((self.running_mean, mean), (self.running_std, std)):
            functional.average_into(running, value, self.num_batches_tracked, self.row.momentum)

    @property
    def _running_mean(self) -> Tensor:
        return functional.before_update(self.running_mean).view(self.layout.channel_shape)

    @property
    def _running_std(self) -> Tensor:
        return functional.before_update(self.running_std).view(self.layout.channel_shape)

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)


def _clamped(share: Tensor) -> Tensor:
    return share.clamp(0, 1)
