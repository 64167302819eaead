"""Where the vectors of a Krylov basis live, and how they are read back: in blocks of columns.

A basis of m vectors is one matrix (m, size). Everything done with it (`orthogonal`) walks over blocks of columns, so
that no second copy is made and memory and disk look alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor

# A recursion itself holds, beside the basis: the product and its two latest vectors in float64, one of them in `dtype`.
_WORKING_FLOAT64 = 3
_WORKING_DTYPE = 1
# Few large pieces of work rather than many small ones: threads that wait for each other, and an accelerator's launches,
# cost by the piece. At 2^18 columns the scratch for a block is small beside any basis it would pay to block.
_COLUMNS = 1 << 18


@final
class Scratch:
    """Room for one block's part of a vector; what is in it never outlives a pass.

    Taken once a basis: the page faults of a fresh one cost more than what is done with it.
    """

    def __init__(self, width: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.narrow = torch.empty(width, dtype=dtype, device=device)  # in the type in which blocks come back
        self.wide = torch.empty(width, dtype=torch.float64, device=device)


class Basis(Protocol):
    """Orthonormal vectors, `count` of them so far."""

    @property
    def size(self) -> int:
        """Length of a vector."""

    @property
    def count(self) -> int:
        """Number of vectors."""

    @property
    def columns(self) -> int:
        """Number of columns that are read at a time."""

    @property
    def dtype(self) -> torch.dtype:
        """The type in which blocks come back."""

    @property
    def device(self) -> torch.device:
        """Where blocks come back."""

    @property
    def scratch(self) -> Scratch:
        """For whoever walks over the blocks."""

    def append(self, v: Tensor) -> None:
        """Store one more vector, (size,)."""

    def clear(self) -> None:
        """Forget all vectors and keep the room for them."""

    def block(self, columns: slice) -> Tensor:
        """Those columns of all vectors, (count, number of columns); to be read only, and before the next call."""


class Storage(Protocol):
    """Chooses where a basis lives."""

    def allocate(self, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> Basis:
        """An empty basis with room for `num_vectors` vectors of length `size` and type `dtype`."""

    def memory(self, size: int, num_vectors: int, dtype: torch.dtype) -> int:
        """Bytes of memory a Lanczos run needs with this storage, the products themselves excluded."""


def blocks(basis: Basis) -> Iterator[tuple[slice, Tensor]]:
    """All blocks of columns in order, each with the columns it covers."""
    for start in range(0, basis.size, basis.columns):
        columns = slice(start, min(start + basis.columns, basis.size))
        yield columns, basis.block(columns)


def working_memory(size: int, dtype: torch.dtype) -> int:
    """Bytes that Lanczos holds beside its basis."""
    return size * (_WORKING_FLOAT64 * torch.float64.itemsize + _WORKING_DTYPE * dtype.itemsize)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InMemory:
    """The whole basis in memory, in the operator's type or, where `dtype` is given, in that one.

    Memory: ``num_vectors * size * itemsize`` bytes, and `working_memory`.
    """

    dtype: torch.dtype | None = None

    def allocate(self, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> Basis:
        """An empty basis on `device`."""
        return MatrixBasis(torch.empty(num_vectors, size, dtype=self.dtype or dtype, device=device), count=0)

    def memory(self, size: int, num_vectors: int, dtype: torch.dtype) -> int:
        """Bytes of memory a Lanczos run needs, the products themselves excluded."""
        return num_vectors * size * (self.dtype or dtype).itemsize + working_memory(size, dtype)


@final
class MatrixBasis:
    """The first `count` rows of a matrix (capacity, size); blocks are views of it."""

    def __init__(self, rows: Tensor, *, count: int) -> None:
        self.rows = rows
        self.count = count
        self.columns = _COLUMNS
        self.scratch = Scratch(min(self.columns, self.size), dtype=self.dtype, device=self.device)

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self.rows.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the rows."""
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.rows.device

    def append(self, v: Tensor) -> None:
        """Copy `v` into the next row."""
        self.rows[self.count].copy_(v)
        self.count += 1

    def clear(self) -> None:
        """Forget all rows."""
        self.count = 0

    def block(self, columns: slice) -> Tensor:
        """A view of those columns of the rows in use."""
        return self.rows[: self.count, columns]


def fixed(vectors: Tensor | None, *, size: int, dtype: torch.dtype, device: torch.device) -> MatrixBasis:
    """Given orthonormal rows (k, size) as a basis, without a copy where the type fits; an empty one for None.

    Raises:
        ValueError: the rows have another length.
    """
    if vectors is None:
        return MatrixBasis(torch.empty(0, size, dtype=dtype, device=device), count=0)
    if vectors.ndim != 2 or vectors.shape[1] != size:
        raise ValueError(
            f"Vectors to be orthogonal to have the shape (k, {size}), but {tuple(vectors.shape)} arrived. Stack rows."
        )
    return MatrixBasis(vectors.to(dtype=dtype, device=device), count=len(vectors))
