"""Power normalization: the running quadratic mean in the forward pass, and the backward pass made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from normscope.nn import distributed, functional
from normscope.nn.kernels.power_norm import Approximate, Place, quadratic_mean
from normscope.nn.layout import Layout, description, furnish
from normscope.nn.modes import differentiating_by_transform

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer


@final
class PowerNorm(nn.Module):
    r"""Divide by the root of the running quadratic mean, in train mode too; no mean is subtracted.

    .. math::
        \hat x = \frac{x}{\sqrt{\psi^2 + \epsilon}}, \quad y = w_c \hat x + b_c, \qquad
        \psi^2 \leftarrow \psi^2 + m (\psi_B^2 - \psi^2), \quad \psi_B^2 = \tfrac1B\sum x^2

    where :math:`\psi^2` is that of the batches before, and the update follows its use. The backward pass is not the
    derivative of this (:math:`\psi` depends on what came before) but the paper's approximation: with
    :math:`g = w_c\,\partial L/\partial y` and a running :math:`\nu` per channel, 0 at first,

    .. math::
        \frac{\partial L}{\partial x} = \frac{g - \nu \hat x}{\sqrt{\psi^2 + \epsilon}}, \qquad
        \nu \leftarrow \nu\Big(1 - m_b \tfrac1B\sum\hat x^2\Big) + m_b \tfrac1B\sum g\,\hat x .

    ``derivative="true"`` differentiates the forward: :math:`g / \sqrt{\psi^2 + \epsilon}`. During the first `warmup`
    batches (0; the authors' code has it, up to 8000) the divisor is the batch's own :math:`\psi_B`, which couples the
    examples, with the same approximate backward pass, or with ``derivative="true"`` its derivative. The means are over
    everything but the channels. In eval mode the division is by the running quadratic mean.

    Shape: (N, C), (N, T, C) or (N, C, H, W) as `ndim` says, in and out; dtype kept, statistics in float32 or wider.

    Attributes:
        weight, bias: (C,), present if the row's `elementwise_affine` is on.
        running_quadratic_mean: (C,), :math:`\psi^2`, 1 at first.
        running_projection: (C,), :math:`\nu`; written by the backward pass.
        num_batches_tracked: batches seen.

    Raises:
        ValueError: wrong shape or dtype.
        RuntimeError: the approximate backward pass under torch.func, forward-mode differentiation or create_graph.

    Source: Shen et al. 2020, arXiv:2003.07845, algorithm 2. The authors' code divides the gradient by the batch's
    :math:`\psi_B` where the paper has the running one, and scales each token before; here it is as in the paper.
    """

    row: Normalizer
    layout: Layout
    weight: Tensor | None
    bias: Tensor | None
    running_quadratic_mean: Tensor
    running_projection: Tensor
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
        self.register_buffer("running_quadratic_mean", torch.ones(num_features, device=device, dtype=dtype))
        self.register_buffer("running_projection", torch.zeros(num_features, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long, device=device))

    @staticmethod
    def couples(row: Normalizer) -> bool:
        """Whether a site of this row couples the examples of a batch in train mode: while it warms up."""
        return bool(row.setting("warmup") > 0)

    @property
    def couples_batch(self) -> bool:
        """Whether an example's output depends on other examples in the mode the module is in now."""
        return self.training and self.row.couples_batch and bool(self.num_batches_tracked < self.row.setting("warmup"))

    @property
    def surrogate_backward(self) -> bool:
        """Whether the backward pass, in the mode the module is in now, is not the derivative of the forward."""
        return self.row.surrogate_backward and self.training

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        self.layout.check(x)
        weight, bias = self.layout.per_channel(self.weight), self.layout.per_channel(self.bias)
        if x.numel() == 0:
            return functional.scale_and_shift(x, None, weight, bias).to(x.dtype)
        self._check_derivative()
        wide = x.to(functional.accumulation_dtype(x.dtype))
        moment = functional.before_update(self.running_quadratic_mean).to(wide.dtype)
        rstd = torch.rsqrt(moment + self.row.eps).view(self.layout.channel_shape)
        if self.training:
            moment, rstd = self._trained(wide, rstd)
            if self.surrogate_backward:
                rstd = rstd.detach()
                if torch.is_grad_enabled() and wide.requires_grad:
                    count, synchronization = distributed.count(wide, self._dims), distributed.synchronization()
                    momentum = self.row.setting("backward_momentum")
                    place = Place(self._dims, count, momentum, self.row.name, synchronization)
                    arguments = (wide, weight, bias, rstd, moment, self.running_projection, place)
                    y: Tensor = Approximate.apply(*arguments)  # type: ignore[no-untyped-call]
                    return y.to(x.dtype)
        return functional.scale_and_shift(wide, rstd, weight, bias).to(x.dtype)

    def _trained(self, x: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's quadratic mean, taken into the running one, and the divisor's reciprocal for this batch."""
        if warmup := self.row.setting("warmup"):
            moment, of_batch = distributed.moment_and_rstd(x, self._dims, "rms", self.row.eps)
            rstd = torch.where(self.num_batches_tracked < warmup, of_batch, rstd)
        elif distributed.synchronization() is not None:
            moment = distributed.mean(x.detach().square(), self._dims)
        else:
            moment = quadratic_mean(x.detach(), self._dims, self.layout.channel_dim)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            functional.average_into(self.running_quadratic_mean, moment, self.num_batches_tracked, self.row.momentum)
        return moment.detach(), rstd

    def _check_derivative(self) -> None:
        if self.surrogate_backward and differentiating_by_transform() and not torch.compiler.is_compiling():
            raise RuntimeError(
                f"The backward pass of {self.row.name} is a recursion over training steps, which torch.func and "
                "forward-mode differentiation cannot run; make the row with derivative='true', or use eval mode."
            )

    def extra_repr(self) -> str:
        """Row, features and layout."""
        return description(self.row, self.layout)
