"""Which kernel computes a row on this input, if any."""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn.distributed import synchronization
from normscope.nn.kernels import compiled
from normscope.nn.kernels.instances import Instances
from normscope.nn.kernels.passes import Passes, TorchPasses
from normscope.nn.kernels.pattern import Axes, Normalized, Pattern
from normscope.nn.kernels.rows import Rows
from normscope.nn.modes import differentiating_by_transform

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer

# Below this many positions the (N, C) numbers of `Instances` are no longer small beside x.
_FEWEST_POSITIONS = 16
_PLAIN = (Tensor, nn.Parameter)
_CUDA_DTYPES = {torch.float32, torch.bfloat16, torch.float16}
_AXES = {None, "batch", "layer", "instance"}


def pattern_of(row: Normalizer, ndim: int, *, penalized: bool) -> Pattern | None:
    """The row as a pattern, statistics from the input at hand; None where it has none.

    Args:
        row: a row of moments.
        ndim: axes of the input.
        penalized: whether the penalty is wanted.
    """
    # With one position, a layer and its channels are the same.
    mean, scale = ("layer" if over == "channels" and ndim < 4 else over for over in (row.mean, row.scale))
    if scale is None or not {mean, scale} <= _AXES or row.divisor == "linf":
        return None
    if "instance" in (mean, scale) and ndim < 4:
        return None
    penalty: Literal["biased", "unbiased"] | None = None
    if penalized and row.penalty is not None:
        if row.penalty != "A" or row.penalty_over != "neuron":
            return None
        penalty = "unbiased" if row.penalty_unbiased else "biased"
    return Pattern(cast("Axes | None", mean), cast("Axes", scale), row.divisor, row.eps, penalty)


def torch_groups(row: Normalizer, num_features: int, num_groups: int | None, ndim: int) -> int | None:
    """Groups of the group norm of torch's that the row is, or None; instance norm has one for each channel."""
    if row.mean != row.scale or row.divisor != "std":
        return None
    return num_features if row.mean == "instance" and ndim == 4 else num_groups


def of_groups(
    x: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float, channel_dim: int
) -> Tensor | None:
    """Torch's group norm, of (N, C, H, W) or of each row of (*, C); None where the composition has to.

    Args:
        x: (N, C), (N, T, C) or (N, C, H, W), not empty.
        num_groups: how many groups; as many as channels make instance norm.
        weight: (C,), or None.
        bias: (C,), or None.
        eps: added to the variance.
        channel_dim: the channel axis.
    """
    if not _suits(x, weight, bias) or any(t is not None and t.dtype != x.dtype for t in (weight, bias)):
        return None
    if x.ndim == 4:
        return F.group_norm(x, num_groups, weight, bias, eps) if channel_dim == 1 else None
    if channel_dim != x.ndim - 1:
        return None
    rows = x.reshape(-1, x.shape[-1])
    return F.group_norm(rows, num_groups, weight, bias, eps).view(x.shape)


def fused(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern, channel_dim: int
) -> Normalized | None:
    """Compute the pattern in few passes over memory, or return None where the composition has to.

    A kernel is exact under reverse mode, however often it is nested; a second derivative is the composition's. It steps
    aside for torch.func, forward mode, torch.compile and export, for statistics over several processes, for tensor
    subclasses, for dtypes that the kernel has not, and for memory not contiguous in (N, C, H, W) or (*, C).

    Args:
        x: (N, C), (N, T, C) or (N, C, H, W), not empty.
        weight: (C,), or None.
        bias: (C,), or None.
        pattern: what is taken over what; the layer of (N, T, C) is one token.
        channel_dim: the channel axis; a kernel has 1 of four and the last of two or three.
    """
    if not x.is_contiguous() or not _suits(x, weight, bias):
        return None
    if channel_dim == x.ndim - 1 and x.ndim <= 3:
        return _over_rows(x, weight, bias, pattern)
    if channel_dim != 1 or x.ndim != 4:
        return None
    flat = x.flatten(2)
    if pattern.moment == "l1" or flat.shape[2] < _FEWEST_POSITIONS:
        if x.is_cuda:
            return None
        result = Normalized(*Rows.apply(flat, weight, bias, pattern, len(x)))  # type: ignore[no-untyped-call]
    else:
        passes = _passes(x.device.type)
        if passes is None or (pattern.penalty is not None and x.dtype in (torch.float16, torch.bfloat16)):
            return None
        result = Normalized(*Instances.apply(flat, weight, bias, pattern, passes))  # type: ignore[no-untyped-call]
    return result._replace(y=result.y.view_as(x))


def _over_rows(x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern) -> Normalized | None:
    if x.is_cuda:
        return None
    kernel = compiled.CompiledRows if compiled.available(x) else Rows
    rows = x if x.ndim == 2 else x.view(-1, x.shape[-1])
    result = Normalized(*kernel.apply(rows, weight, bias, pattern, len(x)))  # type: ignore[no-untyped-call]
    return result if rows is x else result._replace(y=result.y.view_as(x))


def suits_cpu(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether a closed form from torch's operations may be taken: on a CPU, where `fused` would not step aside.

    Args:
        x: the input, of any memory format.
        parameters: of the same dtype, contiguous, or None.
    """
    return x.device.type == "cpu" and _suits(x, *parameters)


def _suits(x: Tensor, *parameters: Tensor | None) -> bool:
    if differentiating_by_transform() or torch.compiler.is_compiling() or synchronization() is not None:
        return False
    present = [t for t in parameters if t is not None]
    if type(x) not in _PLAIN or any(type(t) not in _PLAIN or not t.is_contiguous() for t in present):
        return False
    if x.is_cuda:
        return all(t.dtype in _CUDA_DTYPES for t in (x, *present))
    kept = x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and kept and all(t.dtype == x.dtype for t in present)


@functools.cache
def _passes(device: str) -> Passes | None:
    """The passes that the device has; Triton comes with torch's builds for CUDA."""
    if device == "cpu":
        return TorchPasses()
    if device != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from normscope.nn.kernels.triton_passes import TritonPasses

    return TritonPasses()
