"""Functions of torch whose second derivative is missing or wrong, computed from others whose derivatives are right.

Found in torch 2.13 by finite differences of gradients in float64: the backward passes of `group_norm`, `silu` and
`mish` have no forward-mode derivative, that of `hardsigmoid` has none at all, as have fused attention and the fused
recurrent kernels; the second derivative of `_weight_norm` is wrong; and `embedding` gives a padding row no gradient
although the gradients of others depend on it. tests/curvature/test_exact.py holds each of these facts, so that a
release that mends one shows up there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad
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


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:  # noqa: ARG001
    """`torch.nn.functional.hardsigmoid` from primitives."""
    return F.relu6(input + 3) / 6


def _by_native_kernels(recurrent: Callable[..., Any]) -> Callable[..., Any]:
    """A recurrent layer without the libraries whose fused kernels have no second derivative."""

    def native(*args: Any, **kwargs: Any) -> Any:
        with _switched_off(torch.backends.mkldnn), _switched_off(torch.backends.cudnn):
            return recurrent(*args, **kwargs)

    return native


@contextlib.contextmanager
def _switched_off(library: Any) -> Iterator[None]:
    enabled, library.enabled = library.enabled, False
    try:
        yield
    finally:
        library.enabled = enabled


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    r"""`torch._weight_norm` from primitives, :math:`g v / \|v\|` with the norm over all axes but `dim` (-1: all)."""
    dims = tuple(axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim)
    return v * (g * torch.rsqrt(v.square().sum(dims, keepdim=True)))


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,  # noqa: ARG001
    *,
    constants: Mapping[int, Tensor],
) -> Tensor:
    """`torch.nn.functional.embedding` with a dense gradient, its padding row a constant: no derivative sees it.

    `constants` maps the id of a weight to where its padding row is read, if not in the weight itself.
    """
    found = F.embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq)
    if padding_idx is None:
        return found
    own: Tensor = forward_ad.unpack_dual(weight).primal  # type: ignore[no-untyped-call]
    row = constants.get(id(weight), own)[padding_idx].detach()
    return torch.where((input == padding_idx % len(weight)).unsqueeze(-1), row, found)


_Rules: TypeAlias = Mapping[Callable[..., Any], Callable[..., Any]]
_RULES: _Rules = {
    F.group_norm: group_norm,
    torch.group_norm: group_norm,
    F.silu: silu,
    torch._C._nn.silu: silu,
    F.mish: mish,
    torch._C._nn.mish: mish,
    F.hardsigmoid: hardsigmoid,
    torch._weight_norm: weight_norm,
    **{layer: _by_native_kernels(layer) for layer in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
}


class _ExactRules(TorchFunctionMode):
    def __init__(self, rules: _Rules) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._rules.get(func, func)(*args, **(kwargs or {}))


@contextlib.contextmanager
def exact_rules(constants: Mapping[int, Tensor]) -> Iterator[None]:
    """Whatever runs inside computes these functions in the exact way, attention by its mathematical kernel.

    `constants` maps the id of a parameter to the values of its parts that are not differentiated by.
    """
    rules: _Rules = {**_RULES, F.embedding: functools.partial(embedding, constants=constants)}
    with sdpa_kernel(SDPBackend.MATH), _ExactRules(rules):
        yield
