"""The mathematics of the table: what is averaged over which axes, as pure functions of tensors.

Every normalizer of the table is one composition of these: subtract a mean, divide by the root of a moment, scale and
shift each channel. Statistics are taken in float32 or wider; the output has the dtype of the input.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from normscope.nn.modes import differentiating_by_transform

Over = Literal["batch", "layer", "channels", "instance", "group"]
Moment = Literal["std", "rms", "norm", "l1", "linf"]
PenaltyForm = Literal["A", "B", "C", "D"]


def reduced_dims(over: Over, ndim: int, channel_dim: int) -> tuple[int, ...]:
    """Axes that a statistic reduces.

    ========  =======  =========  ============  =================================
    over      (N, C)   (N, T, C)  (N, C, H, W)  one number for
    ========  =======  =========  ============  =================================
    batch     N        N, T       N, H, W       each channel
    layer     C        C          C, H, W       each example (each token)
    channels  C        C          C             each position of each example
    instance  (none)   T          H, W          each channel of each example
    group     C/G      C/G        C/G, H, W     each group of a layer's channels
    ========  =======  =========  ============  =================================

    The axes of "group" are those of an input whose channel axis is split in two, (G, C/G).

    Source: "Is Batch Norm unique?", table 1 and appendix B (n_l = W H C); Wu and He 2018, arXiv:1803.08494, figure 2.
    """
    if over == "group":
        return tuple(d for d in range(1, ndim + 1) if d != channel_dim) if ndim == 4 else (channel_dim + 1,)
    if over == "instance":
        return tuple(d for d in range(1, ndim) if d != channel_dim)
    if over == "batch":
        return tuple(d for d in range(ndim) if d != channel_dim)
    if over == "layer" and ndim == 4:
        return (1, 2, 3)
    return (channel_dim,)


def num_groups(num_features: int, asked: int | None, *, ndim: int) -> int:
    """Return how many groups `num_features` channels make.

    Exactly `asked`; or, where that is None, 32, or the largest smaller number that divides the channels and leaves
    enough in a group (1 for 5 channels): two of images; where a group has no positions, the paper's 16, since two
    values normalized are +1 and -1.

    Raises:
        ValueError: `asked` does not divide the channels.

    Source: Wu and He 2018, arXiv:1803.08494, section 4.1 (table 3: 32 groups, or 16 channels in a group).
    """
    if asked is None:
        least = 2 if ndim == 4 else 16
        return next(g for g in range(32, 0, -1) if num_features % g == 0 and (g == 1 or num_features >= least * g))
    if num_features % asked:
        raise ValueError(
            f"num_groups must divide the channels, but {num_features} channels do not make {asked} groups; choose a "
            "divisor, or leave num_groups out."
        )
    return asked


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that statistics are taken in: at least float32."""
    return torch.promote_types(dtype, torch.float32)


def average_into(running: Tensor, value: Tensor, num_batches: Tensor, momentum: float | None) -> None:
    """Take one more value into a running statistic (C,), in place: with weight `momentum`, or 1/t if that is None.

    `num_batches` is t, the new one counted; it stays a tensor, so that neither a compiler nor a device waits for it.
    """
    weight = (1 / num_batches).to(value) if momentum is None else momentum
    running.copy_(torch.lerp(running.to(value.dtype), value.flatten(), weight))


def before_update(buffer: Tensor) -> Tensor:
    """A copy of a buffer that this forward pass reads first and writes later: what autograd saves must not change.

    Torch 2.13's compiler (inductor) sees through a copy: rather than save what was computed from the buffer it saves
    the buffer, and computes again in the backward pass, when it is written. Results of reductions it saves.
    """
    return buffer.expand(8, *buffer.shape).amax(0) if torch.compiler.is_compiling() else buffer.clone()


def second_moment(x: Tensor, dims: tuple[int, ...], moment: Moment) -> Tensor:
    r"""Square of the divisor, before eps, with the reduced axes kept.

    .. math:: \text{std: } \tfrac1n\sum (x-\bar x)^2 \qquad \text{rms: } \tfrac1n\sum x^2 \qquad \text{norm: } \sum x^2
    """
    if moment == "std":
        # Two passes: exact to rounding on any mean, and on a CPU five times faster than torch.var's single one.
        x = x - x.mean(dims, keepdim=True)
    total = _sum_of_squares(x, dims)
    return total if moment == "norm" else total / count(x, dims)


def moment_and_rstd(x: Tensor, dims: tuple[int, ...], moment: Moment, eps: float) -> tuple[Tensor, Tensor]:
    r"""Return the second moment and :math:`(\text{moment} + \epsilon)^{-1/2}`; differentiate the latter alone.

    Under reverse mode the gradient is taken in closed form, with x saved and nothing else of its size; a transform or
    a compiler gets primitives. Of "l1" and "linf" it is the first moment, :math:`\tfrac1n\sum |x|` or
    :math:`\max |x|`, and :math:`(\text{moment} + \epsilon)^{-1}`: without a derivative where an x is 0 ("l1"), or where
    two share the largest magnitude ("linf"); autograd then takes the mean of the one-sided ones.
    """
    if moment in ("l1", "linf"):
        value = x.abs().mean(dims, keepdim=True) if moment == "l1" else x.abs().amax(dims, keepdim=True)
        return value, (value + eps).reciprocal()
    if differentiating_by_transform() or torch.compiler.is_compiling():
        value = second_moment(x, dims, moment)
        return value, torch.rsqrt(value + eps)
    value, rstd = _Rstd.apply(x, dims, moment, eps)  # type: ignore[no-untyped-call]
    return value, rstd


class _Rstd(torch.autograd.Function):
    r"""The reciprocal of a standard deviation (root mean square, norm) r, with

    .. math:: \frac{\partial r}{\partial x} = -\frac{r^3}{n} (x - \bar x),

    where the mean is left out for rms and norm, and n = 1 for norm.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], moment: Moment, eps: float) -> tuple[Tensor, Tensor]:
        value = second_moment(x, dims, moment)
        rstd = torch.rsqrt(value + eps)
        ctx.save_for_backward(x, rstd)
        ctx.dims, ctx.moment = dims, moment
        ctx.mark_non_differentiable(value)
        return value, rstd

    @staticmethod
    def backward(ctx: Any, _of_value: Tensor, of_rstd: Tensor) -> tuple[Tensor, None, None, None]:
        x, rstd = ctx.saved_tensors  # rstd comes back as this function's output, so this may be differentiated again
        slope = -of_rstd * rstd**3
        if ctx.moment != "norm":
            slope = slope / count(x, ctx.dims)
        if ctx.moment != "std":
            return x * slope, None, None, None
        return torch.addcmul(-slope * x.mean(ctx.dims, keepdim=True), x, slope), None, None, None


def count(x: Tensor, dims: tuple[int, ...]) -> int:
    """Return how many elements one statistic over `dims` is made of."""
    size = 1
    for d in dims:
        size *= x.shape[d]
    return size


def _sum_of_squares(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    if dims == tuple(range(dims[0], x.ndim)) and x.is_contiguous():
        # One pass and no temporary. Not vector_norm: its second derivative at an all-zero example is NaN.
        flat = x.flatten(dims[0])
        total: Tensor = torch.linalg.vecdot(flat, flat)
        return total.reshape(*x.shape[: dims[0]], *(1 for _ in dims))
    return x.square().sum(dims, keepdim=True)


def center(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Subtract the mean over `dims`: the layer-input centering of PreLayerNorm, x - mean(x); dtype kept."""
    if differentiating_by_transform() or torch.compiler.is_compiling():
        return _centered(x, dims)
    return _Center.apply(x, dims)  # type: ignore[no-any-return, no-untyped-call]


class _Center(torch.autograd.Function):
    """Centering, which is its own transpose: the gradient is centered, and nothing is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...]) -> Tensor:
        ctx.dims = dims
        return _centered(x, dims)

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor, None]:
        return center(of_y, ctx.dims) if torch.is_grad_enabled() else _centered(of_y, ctx.dims), None


def _centered(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = x.mean(dims, keepdim=True, dtype=accumulation_dtype(x.dtype))
    return (x - mean).to(x.dtype)


def scale_and_shift(x: Tensor, rstd: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Return x * rstd * weight + bias, each factor optional and broadcastable to x, in one pass over x."""
    factor = weight if rstd is None else rstd if weight is None else rstd * weight
    if factor is None:
        return x if bias is None else x + bias
    return x * factor if bias is None else torch.addcmul(bias, x, factor)


def regnorm_penalty(
    z: Tensor,
    *,
    form: PenaltyForm = "A",
    over: tuple[int, ...] = (0,),
    unbiased: bool = False,
) -> Tensor:
    r"""RegNorm's penalty on the batch mean of one layer's normalized values.

    With :math:`\mu_i, \sigma_i^2` the mean and variance of neuron i over the axes `over` (the batch) and n neurons

    .. math::
        A = \tfrac1n\sum_i \mu_i^2,\quad B = 1-\tfrac1n\sum_i\sigma_i^2,\quad C = B^2,\quad
        D = -\log\tfrac1n\sum_i\sigma_i^2.

    A equals B when every example has root mean square 1 over the layer. All are zero exactly where every batch mean
    is. A is the mean cosine similarity between the examples of the batch, itself with itself included; N independent
    examples therefore give 1/N, and `unbiased` removes that floor from A: (N A - 1) / (N - 1).

    Args:
        z: values divided by their layer scale, (N, ...); taken in float32 or wider.
        form: which of the four (the paper's equation 3 is lost; A is the reconstruction, B its likely wording).
        over: axes of the batch statistics: (0,) per neuron, all but the channel axis per channel.
        unbiased: subtract the sampling floor 1/N (form A alone).

    Returns:
        0-dim tensor, unit 1; zero for an empty batch.

    Source: "Is Batch Norm unique?", equation 3 and appendix B, reconstructed.
    """
    z = z.to(accumulation_dtype(z.dtype))
    if z.numel() == 0:
        return z.sum()
    size = count(z, over)
    if form == "A":
        value = z.mean(over).square().mean()
        return (size * value - 1) / (size - 1) if unbiased else value
    kept = torch.var_mean(z, over, correction=0)[0].mean()
    if form == "B":
        return 1 - kept
    return (1 - kept).square() if form == "C" else -torch.log(kept)


def thresholded(x: Tensor, threshold: Tensor) -> Tensor:
    r"""Thresholded linear unit, :math:`\max(x, \tau)`, the threshold broadcastable to x; NaN goes through.

    Source: Singh and Krishnan 2019, arXiv:1911.09737, equation 9.
    """
    # Not torch.maximum: where the two are equal its gradient goes half to each, and ReLU's is 0.
    return torch.where(x <= threshold, threshold, x)
