r"""Power normalization's approximate backward pass, with x kept and numbers per channel.

With r the reciprocal divisor, h the gradient of y and :math:`\psi_B^2` the batch's quadratic mean, everything is a sum
over the batch and a combination of h and x with one factor per channel:

.. math::
    \frac{\partial L}{\partial x} = w r\, h - \nu r^2 x, \qquad
    \nu \leftarrow \nu (1 - m_b r^2 \psi_B^2) + m_b \tfrac1B w r \textstyle\sum h x, \qquad
    \frac{\partial L}{\partial w} = r \sum h x .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from normscope.nn.distributed import Synchronization
from normscope.nn.functional import count, scale_and_shift, second_moment
from normscope.nn.kernels.choice import suits_cpu


def quadratic_mean(x: Tensor, dims: tuple[int, ...], channel_dim: int) -> Tensor:
    """Mean of the squares over `dims`, all axes but the channels', which are kept; without a square of x's size.

    Args:
        x: in the accumulation dtype, not empty.
        dims: all axes but channel_dim.
        channel_dim: the channel axis.
    """
    if not suits_cpu(x) or channel_dim not in (1, x.ndim - 1):
        return second_moment(x, dims, "rms")
    if x.ndim == 4 and channel_dim == 1 and x.is_contiguous():
        by_example: Tensor = torch.linalg.vector_norm(x, 2, (2, 3), keepdim=True).square_()
        return by_example.sum(0, keepdim=True) / count(x, dims)
    # Torch's statistics of a batch are one pass, and v + m^2 loses no digit.
    channels = x.shape[channel_dim]
    mean, variance = torch.batch_norm_update_stats(x if channel_dim == 1 else x.reshape(-1, channels), None, None, 0.0)
    return variance.addcmul_(mean, mean).view([channels if d == channel_dim else 1 for d in range(x.ndim)])


@dataclass(frozen=True, slots=True)
class Place:
    """What is the same in every call of a site.

    Attributes:
        dims: the axes that the means are over.
        count: how many values a mean is made of, over all processes that share statistics.
        momentum: of the running projection.
        name: the row's, for messages.
        synchronization: these processes, or None.
    """

    dims: tuple[int, ...]
    count: Tensor | int
    momentum: float
    name: str
    synchronization: Synchronization | None


class Approximate(torch.autograd.Function):
    """y = w r x + b, with that backward pass; `projection` (nu, (C,)) is read and written there.

    weight, bias, rstd and moment have the shape that broadcasts to x; the last two are without a gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        rstd: Tensor,
        moment: Tensor,
        projection: Tensor,
        place: Place,
    ) -> Tensor:
        """Return y, in the dtype of x or wider."""
        ctx.save_for_backward(x, weight, rstd, moment)
        # Not saved for backward: of two calls of one site each takes what it finds, and the first to come writes.
        ctx.projection, ctx.place = projection, place
        ctx.bias_dtype = None if bias is None else bias.dtype
        return scale_and_shift(x, rstd, weight, bias)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight and bias; then the running projection's next value."""
        place: Place = ctx.place
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            raise RuntimeError(
                f"The backward pass of {place.name} is not a derivative, so it has none itself; make the row with "
                "derivative='true', or do without create_graph=True."
            )
        x, weight, rstd, moment = ctx.saved_tensors
        nu = ctx.projection.to(x.dtype).view(rstd.shape)
        product = h * x
        along = product.sum(place.dims, keepdim=True) * rstd
        dw = None if weight is None else along.to(weight.dtype)
        db = None if ctx.bias_dtype is None else h.sum(place.dims, keepdim=True).to(ctx.bias_dtype)
        of_z, factor = (along, rstd) if weight is None else (along * weight, rstd * weight)
        # Into the product's memory: a fresh large tensor costs more than the passes.
        pulled = nu * rstd.square()
        dx = torch.mul(h, factor, out=product).addcmul_(x, pulled, value=-1)
        total = of_z if place.synchronization is None else place.synchronization.sum(of_z)
        change = total / place.count - pulled * moment
        ctx.projection.add_(change.flatten(), alpha=place.momentum)  # last: nu may be the very buffer
        return dx, dw, db, None, None, None, None
