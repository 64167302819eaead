"""The kernel of rows.py for (N, C) from a compiled library, where ``normscope.nn.kernels.build`` has made it."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from normscope.nn.kernels.pattern import Pattern
from normscope.nn.kernels.second_order import gradients_of_composition

_AXES = {None: 0, "batch": 1, "layer": 2}
_MOMENTS = {"std": 0, "rms": 1, "norm": 2, "l1": 3}
_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
# Up to this many elements torch itself stays with one thread; above it the library's one would lose to several.
_ONE_THREAD = 2**15


@functools.cache
def _load() -> ctypes.CDLL | None:
    from normscope.nn.kernels.build import library  # not above: python -m runs that module as the main one

    path = library()
    if not path.exists():
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:  # made on another machine
        return None
    for dtype in ("float32", "float64"):
        forward = [_POINTER] * 3 + [_INTEGER] * 6 + [ctypes.c_double] + [_POINTER] * 6
        getattr(loaded, f"forward_{dtype}").argtypes = forward
        getattr(loaded, f"backward_{dtype}").argtypes = [_POINTER] * 7 + [_INTEGER] * 6 + [_POINTER] * 3
        for name in ("forward", "backward"):
            getattr(loaded, f"{name}_{dtype}").restype = None
    loaded.tanh_float32.argtypes, loaded.tanh_float32.restype = [_POINTER, _INTEGER, ctypes.c_float, _POINTER], None
    return loaded


def available(x: Tensor) -> bool:
    """Whether the library is there and would not keep x from more threads."""
    return (x.numel() <= _ONE_THREAD or torch.get_num_threads() == 1) and _load() is not None


def tanh(x: Tensor, slope: float, *, out: Tensor) -> None:
    """Hyperbolic tangent of slope times x, by the library for float32: torch's own is several times slower on a CPU.

    Args:
        x: any shape.
        slope: a finite number.
        out: where it is written; as x, dtype and memory format included.
    """
    contiguous = x.is_contiguous() and out.is_contiguous()
    loaded = _load() if x.dtype == torch.float32 and contiguous and available(x) else None
    if loaded is None:
        torch.mul(x, slope, out=out).tanh_()
    else:
        loaded.tanh_float32(_address(x), x.numel(), slope, _address(out))


class CompiledRows(torch.autograd.Function):
    """The kernel; x is (N, C). Under a second derivative its gradient is that of the composition."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, pattern: Pattern, examples: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """The fields of `Normalized`."""
        rows, columns = x.shape
        layout = (rows, columns, examples, _AXES[pattern.mean], _AXES[pattern.scale], _MOMENTS[pattern.moment])
        y = torch.empty_like(x)
        mean = None if pattern.mean is None else x.new_empty(_reduced(pattern.mean, x))
        moment = x.new_empty(_reduced(pattern.scale, x))
        rstd = torch.empty_like(moment)
        own = torch.empty_like(moment) if pattern.recenters else None
        neurons = None if pattern.penalty is None else x.new_empty(x.numel() // examples)
        call = getattr(_load(), "forward_float32" if x.dtype == torch.float32 else "forward_float64")
        outputs = (y, mean, own, moment, rstd, neurons)
        call(*map(_address, (x, weight, bias)), *layout, pattern.eps, *map(_address, outputs))
        penalty = None
        if neurons is not None:
            penalty = pattern.penalty_of(neurons, examples)
        ctx.save_for_backward(x, mean, own, rstd, weight, bias, neurons)
        ctx.pattern, ctx.layout = pattern, layout
        ctx.mark_non_differentiable(*(t for t in (mean, moment) if t is not None))
        return y, penalty, mean, moment

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by x, weight and bias."""
        x, mean, own, rstd, weight, bias, neurons = ctx.saved_tensors
        of_y, of_penalty = gradients[:2]
        examples = ctx.layout[2]
        if torch.is_grad_enabled():
            inputs = gradients_of_composition(x, weight, bias, ctx.pattern, examples, of_y, of_penalty)
            return *inputs, None, None
        pull = None
        if neurons is not None:
            pull = ctx.pattern.pull(neurons, of_penalty, examples)
        of_y = of_y.contiguous()
        dx = torch.empty_like(x)
        dw, db = (None if t is None else torch.empty_like(t) for t in (weight, bias))
        call = getattr(_load(), "backward_float32" if x.dtype == torch.float32 else "backward_float64")
        given = (of_y, x, weight, mean, own, rstd, pull)
        call(*map(_address, given), *ctx.layout, *map(_address, (dx, dw, db)))
        return dx, dw, db, None, None


def _reduced(axes: str, x: Tensor) -> tuple[int, int]:
    return (1, x.shape[1]) if axes == "batch" else (len(x), 1)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
