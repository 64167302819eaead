r"""Dynamic tanh in closed form, with x kept and the tanh computed again for the gradient.

With :math:`t = \tanh(\alpha x)` and g the gradient of y,

.. math::
    \frac{\partial L}{\partial x} = \alpha w\, g (1 - t^2), \qquad
    \frac{\partial L}{\partial \alpha} = \sum w\, g (1 - t^2)\, x, \qquad
    \frac{\partial L}{\partial w} = \sum g\, t .
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normscope.nn import functional
from normscope.nn.kernels import compiled
from normscope.nn.kernels.chunks import chunks, total
from normscope.nn.kernels.rows import affine_
from normscope.nn.kernels.second_order import gradients_of


def dynamic_tanh(x: Tensor, alpha: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The reference, from torch's operations; weight and bias in the shape that broadcasts to x, alpha 0-dim."""
    wide = x.to(functional.accumulation_dtype(x.dtype))
    y = torch.tanh(alpha.to(wide.dtype) * wide)
    return functional.scale_and_shift(y, None, weight, bias).to(x.dtype)


class DynamicTanhKernel(torch.autograd.Function):
    """The kernel, of `dynamic_tanh`'s arguments and all axes but the channels'.

    Under a second derivative its gradient is that of the reference.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, alpha: Tensor, weight: Tensor | None, bias: Tensor | None, batch_dims: tuple[int, ...]
    ) -> Tensor:
        """See `dynamic_tanh`."""
        y, slope = torch.empty_like(x), float(alpha)
        for x_, y_ in chunks(x, y):
            compiled.tanh(x_, slope, out=y_)
            affine_(y_, weight, bias)
        ctx.save_for_backward(x, alpha, weight, bias)
        ctx.batch_dims = batch_dims
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, alpha, weight and bias."""
        x, alpha, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *gradients_of(lambda *given: [dynamic_tanh(*given)], (x, alpha, weight, bias), [of_y]), None
        batch, slope = ctx.batch_dims, float(alpha)
        dx, sums = torch.empty_like(x), []
        for x_, g, out in chunks(x, of_y, dx):
            compiled.tanh(x_, slope, out=out)
            product = g * out
            of_weight = product.sum(batch, keepdim=True)
            torch.ops.aten.tanh_backward.grad_input(g, out, grad_input=out)
            sums.append((of_weight, torch.mul(out, x_, out=product).sum(batch, keepdim=True)))
            out.mul_(slope if weight is None else weight * slope)
        dw, along = (total(parts) for parts in zip(*sums, strict=True))
        d_alpha = (along if weight is None else along * weight).sum()
        db = None if bias is None else of_y.sum(batch, keepdim=True)
        return dx, d_alpha, None if weight is None else dw, db, None
