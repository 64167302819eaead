"""Weights of affine layers as functions of what is learned in their place.

Each is computed in float32 or wider and has the dtype of what is learned: in half precision the squares of small
weights vanish.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normscope.nn.functional import accumulation_dtype, count


def weight_norm(v: Tensor, g: Tensor) -> Tensor:
    r"""Weight with norm and direction apart: :math:`w_c = g_c\, v_c / \|v_c\|_2`, c the output channel (axis 0).

    From primitives on purpose: the double backward of torch's fused ``torch._weight_norm`` is wrong.

    Args:
        v: (out, ...), direction.
        g: (out, 1, ...), norm.

    Source: Salimans and Kingma 2016, arXiv:1602.07868, equation 2.
    """
    wide = v.to(accumulation_dtype(v.dtype))
    return (wide * (g / wide.square().sum(tuple(range(1, v.ndim)), keepdim=True).sqrt())).to(v.dtype)


def unit_norm(v: Tensor, eps: float) -> Tensor:
    r"""Weight whose every output channel c (axis 0) has norm 1: :math:`v_c / \sqrt{\|v_c\|_2^2 + \epsilon}`.

    Source: Arpit et al. 2016, arXiv:1603.01431, section 3.
    """
    wide = v.to(accumulation_dtype(v.dtype))
    return (wide * torch.rsqrt(wide.square().sum(tuple(range(1, v.ndim)), keepdim=True) + eps)).to(v.dtype)


def standardized_weight(v: Tensor, eps: float, *, fan_in_scale: bool) -> Tensor:
    r"""Weight of mean 0 and variance 1 (or 1 / fan-in) over the fan-in I of each output channel c (axis 0).

    .. math:: \hat w_c = \frac{v_c - \bar v_c}{\sqrt{\tfrac1I\sum (v_c - \bar v_c)^2 + \epsilon}}
        \;\left[\frac{1}{\sqrt I}\right]

    Source: Qiao et al. 2019, arXiv:1903.10520, equation 5; the factor in brackets: Brock et al. 2021,
    arXiv:2101.08692, equation 1 without its fixed gain.
    """
    dims = tuple(range(1, v.ndim))
    wide = v.to(accumulation_dtype(v.dtype))
    centered = wide - wide.mean(dims, keepdim=True)
    rstd = torch.rsqrt(centered.square().mean(dims, keepdim=True) + eps)
    return (centered * (rstd / count(v, dims) ** 0.5 if fan_in_scale else rstd)).to(v.dtype)
