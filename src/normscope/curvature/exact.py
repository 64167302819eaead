"""Functions of torch whose second derivative is missing or wrong, computed from others whose derivatives are right.

Found in torch 2.13 by finite differences of gradients in float64: the backward passes of `group_norm`, `silu` and
`mish` have no forward-mode derivative, fused attention has no second derivative at all, and that of `_weight_norm` is
wrong. tests/curvature/test_exact.py holds each of these facts, so that a release that mends one shows up there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,  # noqa: ARG001
) -> Tensor:
    """`torch.nn.functional.group_norm` from primitives. Shape (N, C, *), C a multiple of `num_groups`."""
    if input.shape[0] * input.shape[1] < 1 or input.shape[1] % num_groups:
        return F.group_norm(input, num_groups, weight, bias, eps)  # torch's own error
    grouped = input.reshape(input.shape[0], num_groups, -1)
    variance, mean = torch.var_mean(grouped, 2, correction=0, keepdim=True)
    normalized = ((grouped - mean) * torch.rsqrt(variance + eps)).reshape(input.shape)
    per_channel = (1, -1, *(1,) * (input.ndim - 2))
    if weight is not None:
        normalized = normalized * weight.view(per_channel)
    return normalized if bias is None else normalized + bias.view(per_channel)


def silu(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001
    r"""`torch.nn.functional.silu` from primitives, :math:`x \sigma(x)`."""
    return input * torch.sigmoid(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001
    r"""`torch.nn.functional.mish` from primitives, :math:`x \tanh(\log(1 + e^x))`."""
    return input * torch.tanh(F.softplus(input))


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    r"""`torch._weight_norm` from primitives, :math:`g v / \|v\|` with the norm over all axes but `dim` (-1: all)."""
    dims = tuple(axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim)
    return v * (g * torch.rsqrt(v.square().sum(dims, keepdim=True)))


_RULES: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.group_norm: group_norm,
    torch.group_norm: group_norm,
    F.silu: silu,
    torch._C._nn.silu: silu,
    F.mish: mish,
    torch._C._nn.mish: mish,
    torch._weight_norm: weight_norm,
}


class _ExactRules(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _RULES.get(func, func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def exact_rules() -> Iterator[None]:
    """Whatever runs inside computes these functions in the exact way, attention by its mathematical kernel."""
    with sdpa_kernel(SDPBackend.MATH), _ExactRules():
        yield
