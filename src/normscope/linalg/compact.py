"""A basis in half precision: half the memory, at a loss of orthogonality that is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import Basis, Scratch, working_memory

# Blocks are widened into a buffer; kept small, it stays in a processor's cache.
_COLUMNS = 1 << 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HalfPrecision:
    r"""Vectors in float16, scaled by :math:`\sqrt{n}` so that their entries are of order one.

    Recursion and products still see the vectors in full precision; only what they are made orthogonal to is rounded.
    The rounding errors point nowhere in particular, so that a pair of spread-out vectors loses orthogonality to about
    :math:`2^{-12}/\sqrt{n}`, and one that sits on a few entries to :math:`2^{-12}`; `Tridiagonal.orthogonality` says
    what it came to, and the bounds contain it. (bfloat16, with three bits less and a range that is not needed, loses
    six times as much: 2.8e-3 against 4.6e-4 on a diagonal of 10^5 with ten outliers.)

    Memory: ``2 * num_vectors * size`` bytes, one block, and `working_memory`.
    """

    def allocate(self, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> Basis:
        """An empty basis on `device`."""
        return HalfBasis(size, num_vectors, dtype=dtype, device=device)

    def memory(self, size: int, num_vectors: int, dtype: torch.dtype) -> int:
        """Bytes of memory a Lanczos run needs, the products themselves excluded."""
        block = num_vectors * min(_COLUMNS, size) * dtype.itemsize
        return num_vectors * size * torch.float16.itemsize + block + working_memory(size, dtype)


@final
class HalfBasis:
    """Rows in float16 and one block in `dtype`."""

    def __init__(self, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.count = 0
        self.columns = min(_COLUMNS, size)
        self.dtype = dtype
        self.device = device
        self._scale = math.sqrt(size)
        self._rows = torch.empty(num_vectors, size, dtype=torch.float16, device=device)
        self.scratch = Scratch(self.columns, dtype=dtype, device=device)
        self._block = torch.empty(num_vectors * self.columns, dtype=dtype, device=device)

    def append(self, v: Tensor) -> None:
        """Scale and round `v` into the next row."""
        row = self._rows[self.count]
        for start in range(0, self.size, self.columns):
            row[start : start + self.columns] = v[start : start + self.columns] * self._scale
        self.count += 1

    def clear(self) -> None:
        """Forget all rows."""
        self.count = 0

    def block(self, columns: slice) -> Tensor:
        """Those columns of the rows in use, widened."""
        rows = self._rows[: self.count, columns]
        return self._block[: rows.numel()].view(rows.shape).copy_(rows).div_(self._scale)
