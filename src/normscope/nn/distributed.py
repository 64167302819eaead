"""Statistics of the batch over all processes of data-parallel training: one sum over the processes each.

Within `synchronized()`, `mean` and `count` are those of the whole batch, spread over the processes; outside, those of
this process. A site whose batch statistics are taken by them is synchronized, to any order of derivatives.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor

from normscope.nn import functional
from normscope.nn.functional import Moment


@final
class Synchronization:
    """The processes that share statistics now, and how many sums over them were asked for.

    Attributes:
        reductions: number of sums, in this process, so far.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self.reductions = 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes; its gradient is the sum of their gradients."""
        self.reductions += 1
        return _Sum.apply(value, self._group)  # type: ignore[no-any-return, no-untyped-call]


class _Active(threading.local):
    """The synchronization of this thread's forward passes."""

    def __init__(self) -> None:
        self.stack: list[Synchronization] = []


_ACTIVE = _Active()


@contextlib.contextmanager
def synchronized(process_group: Any = None) -> Iterator[Synchronization]:
    """Take batch statistics over all processes in the forward passes within; backward passes may come later.

    Every process must run the same sites in the same order. Without initialized processes nothing changes.

    Args:
        process_group: the processes; None for all.
    """
    synchronization = Synchronization(process_group)
    spread = dist.is_available() and dist.is_initialized()
    if spread:
        _ACTIVE.stack.append(synchronization)
    try:
        yield synchronization
    finally:
        if spread:
            _ACTIVE.stack.pop()


def synchronization() -> Synchronization | None:
    """The one that is active now; None where statistics are this process's own."""
    return _ACTIVE.stack[-1] if _ACTIVE.stack else None


def count(x: Tensor, dims: tuple[int, ...]) -> Tensor | int:
    """How many values one statistic over `dims` is made of, over the processes where the batch axis is among them.

    On one process an integer; over several a 0-dim float64 tensor, so that nothing waits for a device.
    """
    size = 1
    for d in dims:
        size *= x.shape[d]
    active = synchronization()
    if active is None or 0 not in dims:
        return size
    return active.sum(torch.tensor(size, dtype=torch.float64, device=x.device))


def mean(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    r"""Mean over `dims`, kept as axes of size 1; over the processes too where the batch axis 0 is among them.

    .. math:: \bar x = \frac{\sum_p \sum_{i} x_{pi}}{\sum_p n_p}

    Processes may hold batches of different sizes.
    """
    active = synchronization()
    if active is None or 0 not in dims:
        return x.mean(dims, keepdim=True)
    total = active.sum(x.sum(dims, keepdim=True))
    return (total / count(x, dims)).to(x.dtype)


def moment_and_rstd(x: Tensor, dims: tuple[int, ...], moment: Moment, eps: float) -> tuple[Tensor, Tensor]:
    """`functional.moment_and_rstd` over the processes too, where the batch axis 0 is among `dims`.

    Raises:
        ValueError: "linf", a maximum and no sum.
    """
    active = synchronization()
    if active is None or 0 not in dims:
        return functional.moment_and_rstd(x, dims, moment, eps)
    if moment == "linf":
        raise ValueError("A maximum is not synchronized over processes, but p='inf' asks for one; use p=1 or p=2.")
    if moment == "l1":
        value = mean(x.abs(), dims)
        return value, (value + eps).reciprocal()
    about = x - mean(x, dims) if moment == "std" else x
    value = active.sum(about.square().sum(dims, keepdim=True)) if moment == "norm" else mean(about.square(), dims)
    return value, torch.rsqrt(value + eps)


class _Sum(torch.autograd.Function):
    """Sum over processes, which is its own transpose: each process's loss depends on every process's value."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(of_total, ctx.group), None  # type: ignore[no-untyped-call]
