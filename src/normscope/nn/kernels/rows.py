r"""A kernel for (N, C) and, with P positions, for what the moments of an instance do not determine.

With :math:`z = (x - \mu) r`, :math:`r` the reciprocal of the divisor, :math:`g` the gradient of z and n the number of
values of a divisor (1 for "norm")

.. math:: \frac{\partial L}{\partial (x - \mu)} = r \left(g - \frac{u}{n} \sum g z\right)

where u is z about its own mean for "std", z for "rms" and "norm", and the sign of z for "l1"; the mean's own gradient
subtracts from this its mean. Of the size of x, only x is kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normscope.nn.functional import count
from normscope.nn.kernels.pattern import Pattern, reduced
from normscope.nn.kernels.second_order import gradients_of_composition


class Rows(torch.autograd.Function):
    """The kernel; see the module. Under a second derivative its gradient is that of the composition."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern, examples: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """The fields of `Normalized`."""
        dims = pattern.scale_dims(x.ndim)
        mean = own = None
        if pattern.mean is not None:
            mean = x.mean(pattern.mean_dims(x.ndim), keepdim=True)
        z = None if mean is None else x - mean
        if pattern.recenters:
            own = (x if z is None else z).mean(dims, keepdim=True)
            z = x - own if z is None else z.sub_(own)
        order = 1 if pattern.moment == "l1" else 2
        moment = torch.linalg.vector_norm(x if z is None else z, order, dims, keepdim=True)
        if order == 2:
            moment = moment.square_()
        if pattern.moment != "norm":
            moment = moment.div_(count(x, dims))
        rstd = (moment + pattern.eps).reciprocal_() if order == 1 else (moment + pattern.eps).rsqrt_()
        if own is not None and z is not None:
            torch.addcmul(own * rstd, z, rstd, out=z)
        else:
            z = x * rstd if z is None else z.mul_(rstd)
        penalty = neurons = None
        if pattern.penalty is not None:
            neurons = z.view(examples, -1).mean(0)
            penalty = pattern.penalty_of(neurons, examples)
        ctx.save_for_backward(x, mean, own, rstd, weight, bias, neurons)
        ctx.pattern, ctx.examples = pattern, examples
        ctx.mark_non_differentiable(*(t for t in (mean, moment) if t is not None))
        w, b = (None if t is None else _rows(t, x.ndim) for t in (weight, bias))
        return affine_(z, w, b), penalty, mean, moment

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight and bias."""
        x, mean, own, rstd, weight, bias, neurons = ctx.saved_tensors
        of_y, of_penalty = gradients[:2]
        pattern: Pattern = ctx.pattern
        if torch.is_grad_enabled():
            inputs = gradients_of_composition(x, weight, bias, pattern, ctx.examples, of_y, of_penalty)
            return *inputs, None, None
        dims, batch = pattern.scale_dims(x.ndim), reduced("batch", x.ndim)
        z = x * rstd if mean is None else (x - mean).mul_(rstd)
        db = None if bias is None else of_y.sum(batch)
        product = of_y * z
        dw = None if weight is None else product.sum(batch)
        if neurons is None:
            along = _contract(product, weight, dw, pattern, dims)
            dx = torch.mul(of_y, rstd if weight is None else rstd * _rows(weight, x.ndim), out=product)
        else:
            dx = of_y.clone() if weight is None else of_y * _rows(weight, x.ndim)
            dx.view(ctx.examples, -1).add_(pattern.pull(neurons, of_penalty, ctx.examples))
            along = torch.mul(dx, z, out=product).sum(dims, keepdim=True)
            dx.mul_(rstd)
        if pattern.moment != "norm":
            along = along / count(x, dims)
        if own is not None:
            z.addcmul_(own, rstd, value=-1)
        dx.addcmul_(z.sign_() if pattern.moment == "l1" else z, along * rstd, value=-1)
        if mean is not None:
            dx.sub_(dx.mean(pattern.mean_dims(x.ndim), keepdim=True))
        return dx, dw, db, None, None


def _contract(
    product: Tensor, weight: Tensor | None, dw: Tensor | None, pattern: Pattern, dims: tuple[int, ...]
) -> Tensor:
    """Sum of weight * product over the divisor's axes."""
    if weight is None or dw is None:
        return product.sum(dims, keepdim=True)
    if pattern.scale == "batch":
        return _rows(weight * dw, product.ndim)
    by_channel = product if product.ndim == 2 else product.sum(2)
    along = (by_channel @ weight).unsqueeze(1) if pattern.scale == "layer" else by_channel * weight
    return along if product.ndim == 2 else along.unsqueeze(2)


def _rows(value: Tensor, ndim: int) -> Tensor:
    return value.view(1, -1, *(1,) * (ndim - 2))


def affine_(z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift z in place; weight and bias in the shape that broadcasts to it."""
    if weight is not None and bias is not None:
        return torch.addcmul(bias, z, weight, out=z)
    if weight is not None:
        z.mul_(weight)
    return z if bias is None else z.add_(bias)
