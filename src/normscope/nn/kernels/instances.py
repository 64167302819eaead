r"""A kernel for (N, C, P) in few passes over memory: every statistic from those of one channel of one example.

The mean m and the variance v over P, both (N, C), determine every moment over the batch, the layer or the instance, so

.. math:: z_{ncp} = a_{nc}\,(x_{ncp} - m_{nc}) + o_{nc}, \qquad (a, o) = f(m, v)

where f is a small function of (N, C) numbers. With g the gradient of z,

.. math:: \frac{\partial L}{\partial x} = a g + \frac{1}{P}\left(\bar m - a \sum_p g\right) + \frac{2\bar v}{P}(x - m),
   \qquad (\bar m, \bar v) = \left(\textstyle\sum_p g (x - m),\ \sum_p g\right) \frac{\partial (a, o)}{\partial (m, v)}

and the small derivative is autograd's. On a CPU a fresh large tensor costs more than several passes over an old one:
the forward allocates y alone, the backward the gradient alone, and x is all that is kept of its size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from normscope.nn.kernels.passes import Passes
from normscope.nn.kernels.pattern import Pattern, reduced
from normscope.nn.kernels.second_order import gradients_of_composition


class _Standardizer(NamedTuple):
    factor: Tensor  # (N, C), a
    offset: Tensor  # (N, C), o
    mean: Tensor | None
    moment: Tensor


def _standardizer(m: Tensor, v: Tensor, pattern: Pattern, positions: int) -> _Standardizer:
    """(a, o) from the mean and variance of each channel of each example."""
    mean = None if pattern.mean is None else _average(m, pattern.mean)
    centered = m if mean is None else m - mean
    about = centered - _average(centered, pattern.scale) if pattern.recenters else centered
    moment = _average(v + about.square(), pattern.scale)
    if pattern.moment == "norm":
        dims = reduced(pattern.scale, 2)
        moment = moment * (positions * torch.Size(m.shape[d] for d in dims).numel())
    rstd = torch.rsqrt(moment + pattern.eps)
    return _Standardizer(rstd.expand_as(m), centered * rstd, mean, moment)


def _average(value: Tensor, axes: Any) -> Tensor:
    return value if axes == "instance" else value.mean(reduced(axes, 2), keepdim=True)


class Instances(torch.autograd.Function):
    """The kernel; see the module. Under a second derivative its gradient is that of the composition."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern, passes: Passes
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """The fields of `Normalized`."""
        m, v, scratch = passes.moments(x)
        factor, offset, mean, moment = _standardizer(m, v, pattern, x.shape[2])
        penalty = neurons = None
        if pattern.penalty is not None:  # it is of z, before the weight
            neurons = _mean_over_examples(x, m, factor, offset)
            penalty = pattern.penalty_of(neurons, len(x))
        whole = factor if weight is None else factor * weight
        y = passes.scaled(x, m, whole, _affine(offset, weight, bias), scratch)
        ctx.save_for_backward(x, m, v, weight, bias, neurons)
        ctx.pattern, ctx.passes = pattern, passes
        ctx.mark_non_differentiable(*(t for t in (mean, moment) if t is not None))
        return y, penalty, mean, moment

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight and bias."""
        x, m, v, weight, bias, neurons = ctx.saved_tensors
        of_y, of_penalty = gradients[:2]
        pattern, passes = ctx.pattern, ctx.passes
        if torch.is_grad_enabled():
            inputs = gradients_of_composition(x, weight, bias, pattern, len(x), of_y, of_penalty)
            return *inputs, None, None
        positions = x.shape[2]
        with torch.enable_grad():
            leaves = m.detach().requires_grad_(), v.detach().requires_grad_()
            factor, offset, *_ = _standardizer(*leaves, pattern, positions)
        a, o = factor.detach(), offset.detach()
        total, against, scratch = passes.sums(of_y, x, m)
        dw = None if weight is None else (against * a).addcmul_(total, o).sum(0).to(weight.dtype)
        db = None if bias is None else total.sum(0).to(bias.dtype)
        of_a, of_o = (against, total) if weight is None else (against * weight, total * weight)
        if neurons is not None:
            pull = pattern.pull(neurons, of_penalty, len(x))
            pulled = pull.sum(1)
            of_a = of_a + _along_positions(pull, x).addcmul_(m, pulled, value=-1)
            of_o = of_o + pulled
        dm, dv = torch.autograd.grad((factor, offset), leaves, (of_a, of_o), allow_unused=True, materialize_grads=True)
        of_x = dv * (2 / positions)
        constant = (dm.addcmul(a, of_o, value=-1) / positions).addcmul_(of_x, m, value=-1)
        dx = passes.combined(of_y, x, a if weight is None else a * weight, of_x, constant, scratch)
        if neurons is not None:
            dx.addcmul_(pull, a.unsqueeze(2))
        return dx, dw, db, None, None


def _mean_over_examples(x: Tensor, m: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """(C, P): mean of z over the examples, one product of a row and a matrix for each channel, z never made."""
    weighted = torch.bmm(factor.t().unsqueeze(1), x.transpose(0, 1)).squeeze(1)
    constant = (offset - factor * m).sum(0)
    return weighted.add_(constant.unsqueeze(1)).div_(len(x))


def _along_positions(pull: Tensor, x: Tensor) -> Tensor:
    """(N, C): sum over the positions of pull (C, P) times x."""
    return torch.bmm(x.transpose(0, 1), pull.unsqueeze(2)).squeeze(2).t()


def _affine(z: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift z (N, C) by the channel."""
    if weight is None:
        return z if bias is None else z + bias
    return z * weight if bias is None else torch.addcmul(bias, z, weight)
