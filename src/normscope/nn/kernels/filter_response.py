r"""Filter response normalization in closed form, with x kept and, per channel and example, one number.

With :math:`r = (\mathrm{mean}\,x^2 + \epsilon + |\epsilon_l|)^{-1/2}`, n values of a mean, and g the gradient of y
where :math:`w r x + b > \tau`, else 0,

.. math::
    \frac{\partial L}{\partial x} = w r g - \frac{w r^3}{n}\,x \sum g x, \qquad
    \frac{\partial L}{\partial w} = \sum r g x, \qquad
    \frac{\partial L}{\partial |\epsilon_l|} = -\tfrac12 \sum w r^3 g x .
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from normscope.nn import functional
from normscope.nn.kernels.chunks import chunks, total
from normscope.nn.kernels.second_order import gradients_of


@dataclass(frozen=True, slots=True)
class Response:
    """What is taken over what.

    Attributes:
        dims: the axes of the positions; empty where there are none.
        batch_dims: all axes but the channels'.
        eps: added to the mean square.
    """

    dims: tuple[int, ...]
    batch_dims: tuple[int, ...]
    eps: float


def filter_response(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    threshold: Tensor | None,
    learned_eps: Tensor | None,
    response: Response,
) -> Tensor:
    """The reference, from the primitives of `functional`; parameters in the shape that broadcasts to x, 0-dim eps."""
    wide = x.to(functional.accumulation_dtype(x.dtype))
    rstd = _rstd(wide, learned_eps, response) if x.numel() else None
    y = functional.scale_and_shift(wide, rstd, weight, bias)
    return (y if threshold is None else functional.thresholded(y, threshold.to(y.dtype))).to(x.dtype)


def _rstd(x: Tensor, learned_eps: Tensor | None, response: Response) -> Tensor:
    if response.dims and learned_eps is None:
        return functional.moment_and_rstd(x, response.dims, "rms", response.eps)[1]
    square = x.square()
    moment = square.mean(response.dims, keepdim=True) if response.dims else square
    return torch.rsqrt(moment + _added(learned_eps, response, x.dtype))


def _added(learned_eps: Tensor | None, response: Response, dtype: torch.dtype) -> Tensor | float:
    return response.eps if learned_eps is None else response.eps + learned_eps.abs().to(dtype)


class FilterResponseKernel(torch.autograd.Function):
    """The kernel, of `filter_response`'s arguments. Under a second derivative its gradient is the reference's."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        threshold: Tensor | None,
        learned_eps: Tensor | None,
        response: Response,
    ) -> Tensor:
        """See `filter_response`."""
        y, added, kept = torch.empty_like(x), _added(learned_eps, response, x.dtype), []
        for x_, y_ in chunks(x, y):
            rstd = _reciprocal(x_, response.dims, added, scratch=y_)
            if response.dims:  # without positions it is as large as x, and cheap
                kept.append(rstd)
            _response(x_, rstd, weight, bias, out=y_)
            if threshold is not None:
                torch.maximum(y_, threshold, out=y_)
        ctx.save_for_backward(x, torch.cat(kept) if kept else None, weight, bias, threshold, learned_eps)
        ctx.response = response
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x and the parameters."""
        x, rstd, *parameters = ctx.saved_tensors
        response: Response = ctx.response
        if torch.is_grad_enabled():

            def composition(x: Tensor, *parameters: Tensor | None) -> list[Tensor]:
                weight, bias, threshold, learned_eps = parameters
                return [filter_response(x, weight, bias, threshold, learned_eps, response)]

            return *gradients_of(composition, (x, *parameters), [of_y]), None
        weight, bias, threshold, learned_eps = parameters
        batch, added = response.batch_dims, _added(learned_eps, response, x.dtype)
        dx, sums = torch.empty_like(x), []
        for x_, g, out, *kept in chunks(x, of_y, dx, *([] if rstd is None else [rstd])):
            r = kept[0] if kept else _reciprocal(x_, (), added, scratch=out)
            if threshold is None:
                out.copy_(g)
            else:
                _response(x_, r, weight, bias, out=out)
                torch.ops.aten.threshold_backward.grad_input(g, out.sub_(threshold), 0, grad_input=out)
            passed = out.sum(batch, keepdim=True)
            product = out * x_
            along = product.sum(response.dims, keepdim=True) if response.dims else product
            of_weight = along * r
            slope = of_weight * r.square()
            sums.append((of_weight.sum(batch, keepdim=True), passed, slope.sum(batch, keepdim=True)))
            out.mul_(r).addcmul_(x_, slope, value=-1 / functional.count(x, response.dims))
            if weight is not None:
                out.mul_(weight)
        dw, db, of_eps = (total(parts) for parts in zip(*sums, strict=True))
        d_threshold = None if threshold is None else of_y.sum(batch, keepdim=True).sub_(db)
        d_eps = None
        if learned_eps is not None:
            d_eps = (of_eps if weight is None else of_eps * weight).sum().mul_(-0.5 * learned_eps.sign())
        return dx, None if weight is None else dw, None if bias is None else db, d_threshold, d_eps, None


def _reciprocal(x: Tensor, dims: tuple[int, ...], added: Tensor | float, *, scratch: Tensor) -> Tensor:
    """r; `scratch`, of x's size, is written to where that is faster."""
    if not dims:
        return torch.mul(x, x).add_(added).rsqrt_()
    if dims[-1] == x.ndim - 1:  # across memory the norm is several times slower than a square and its sum
        squares: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim=True).square_()
    else:
        squares = torch.mul(x, x, out=scratch).sum(dims, keepdim=True)
    return squares.div_(functional.count(x, dims)).add_(added).rsqrt_()


def _response(x: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None, *, out: Tensor) -> None:
    factor = rstd if weight is None else rstd * weight
    if bias is None:
        torch.mul(x, factor, out=out)
    else:
        torch.addcmul(bias, x, factor, out=out)
