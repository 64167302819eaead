"""Scale and shift with one factor and one shift per channel, its gradient in one tensor of the input's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normscope.nn import functional
from normscope.nn.kernels.choice import suits_cpu


def scale_and_shift(x: Tensor, factor: Tensor, shift: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    r"""Return :math:`y = a_c x + b_c`, in closed form where a kernel may be taken.

    Args:
        x: in the accumulation dtype.
        factor: in the shape that broadcasts to x.
        shift: in that shape, or None.
        dims: the axes that the two are broadcast along.
    """
    if not suits_cpu(x, factor, shift):
        return functional.scale_and_shift(x, None, factor, shift)
    y: Tensor = _ScaleShift.apply(x, factor, shift, dims)  # type: ignore[no-untyped-call]
    return y


class _ScaleShift(torch.autograd.Function):
    """x is kept; the product that the factor's gradient sums lends its memory to the gradient by x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, shift: Tensor | None, dims: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, factor)
        ctx.dims = dims
        return functional.scale_and_shift(x, None, factor, shift)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, factor = ctx.saved_tensors
        of_x, of_factor, of_shift, _ = ctx.needs_input_grad
        product = g * x if of_factor else None
        d_factor = None if product is None else product.sum(ctx.dims, keepdim=True)
        d_shift = g.sum(ctx.dims, keepdim=True) if of_shift else None
        if not of_x:
            return None, d_factor, d_shift, None
        # These are primitives: differentiated again they are exact, if nothing is overwritten.
        reused = None if torch.is_grad_enabled() else product
        return torch.mul(g, factor, out=reused), d_factor, d_shift, None
