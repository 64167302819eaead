"""The passes of `instances` as Triton kernels: x is read twice and y written once; g and x read twice, dx written once.

Statistics are taken in float32 whatever the dtype of x. Where ``TRITON_INTERPRET=1`` they run on the CPU, for tests.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Elements of one tile; a tile holds several channels where these have few positions.
_TILE = 2048


@triton.jit  # type: ignore[untyped-decorator]
def _moments(x, mean, variance, instances, positions, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < instances
    total = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, positions, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (columns < positions)[None, :]
        tile = tl.load(x + rows[:, None] * positions + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(tile, axis=1)
    m = total / positions
    squares = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, positions, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (columns < positions)[None, :]
        tile = tl.load(x + rows[:, None] * positions + columns[None, :], mask=mask, other=0.0).to(tl.float32)
        d = tl.where(mask, tile - m[:, None], 0.0)
        squares += tl.sum(d * d, axis=1)
    tl.store(mean + rows, m, mask=inside)
    tl.store(variance + rows, squares / positions, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _scaled(x, mean, factor, offset, y, instances, positions, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < instances
    m = tl.load(mean + rows, mask=inside, other=0.0)
    a = tl.load(factor + rows, mask=inside, other=0.0)
    o = tl.load(offset + rows, mask=inside, other=0.0)
    for start in range(0, positions, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (columns < positions)[None, :]
        at = rows[:, None] * positions + columns[None, :]
        tile = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        tl.store(y + at, ((tile - m[:, None]) * a[:, None] + o[:, None]).to(y.dtype.element_ty), mask=mask)


@triton.jit  # type: ignore[untyped-decorator]
def _sums(g, x, mean, total, against, instances, positions, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < instances
    m = tl.load(mean + rows, mask=inside, other=0.0)
    of_g = tl.zeros([ROWS], dtype=tl.float32)
    of_gx = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, positions, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (columns < positions)[None, :]
        at = rows[:, None] * positions + columns[None, :]
        tile = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        slope = tl.load(g + at, mask=mask, other=0.0).to(tl.float32)
        of_g += tl.sum(slope, axis=1)
        of_gx += tl.sum(slope * (tile - m[:, None]), axis=1)
    tl.store(total + rows, of_g, mask=inside)
    tl.store(against + rows, of_gx, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _combined(g, x, of_g, of_x, constant, dx, instances, positions, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < instances
    a = tl.load(of_g + rows, mask=inside, other=0.0)
    p = tl.load(of_x + rows, mask=inside, other=0.0)
    q = tl.load(constant + rows, mask=inside, other=0.0)
    for start in range(0, positions, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        mask = inside[:, None] & (columns < positions)[None, :]
        at = rows[:, None] * positions + columns[None, :]
        tile = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        slope = tl.load(g + at, mask=mask, other=0.0).to(tl.float32)
        value = slope * a[:, None] + tile * p[:, None] + q[:, None]
        tl.store(dx + at, value.to(dx.dtype.element_ty), mask=mask)


class TritonPasses:
    """The passes as Triton kernels; they need no scratch."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Passes`."""
        m, v = _numbers(x), _numbers(x)
        _launch(_moments, x, x, m, v)
        return m, v, None

    def scaled(self, x: Tensor, m: Tensor, factor: Tensor, offset: Tensor, scratch: Tensor | None) -> Tensor:  # noqa: ARG002
        """See `Passes`."""
        y = torch.empty_like(x)
        _launch(_scaled, x, x, m, factor.contiguous(), offset.contiguous(), y)
        return y

    def sums(self, g: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Passes`."""
        total, against = _numbers(x), _numbers(x)
        _launch(_sums, x, g.contiguous(), x, m, total, against)
        return total, against, None

    def combined(
        self,
        g: Tensor,
        x: Tensor,
        of_g: Tensor,
        of_x: Tensor,
        constant: Tensor,
        scratch: Tensor | None,  # noqa: ARG002
    ) -> Tensor:
        """See `Passes`."""
        dx = torch.empty_like(x)
        numbers = (of_g.contiguous(), of_x.contiguous(), constant.contiguous())
        _launch(_combined, x, g.contiguous(), x, *numbers, dx)
        return dx


def _numbers(x: Tensor) -> Tensor:
    return torch.empty(x.shape[:2], device=x.device, dtype=torch.float32)


def _launch(kernel: Any, x: Tensor, *arguments: Any) -> None:
    instances, positions = x.shape[0] * x.shape[1], x.shape[2]
    block = min(triton.next_power_of_2(positions), _TILE)
    rows = _TILE // block
    kernel[(triton.cdiv(instances, rows),)](*arguments, instances, positions, ROWS=rows, BLOCK=block)
