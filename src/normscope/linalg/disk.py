"""A basis in a file: memory for one block of columns, whatever the number of vectors."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import Basis, Scratch, working_memory

_BLOCK_BYTES = 1 << 26


@final
@dataclass(frozen=True, slots=True)
class OnDisk:
    """Vectors in an unnamed file within `folder`, in the operator's type; it vanishes with the basis.

    Every product is followed by two readings of all vectors so far (four where digits were lost), so the disk's speed
    or the memory left for its cache sets the pace.

    Memory: one block of 64 MiB, or of one column where that is more, and `working_memory`.
    Disk: ``num_vectors * size * itemsize`` bytes.
    """

    folder: Path

    def allocate(self, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> Basis:
        """An empty file; blocks come back on `device`.

        Raises:
            ValueError: the folder does not exist.
        """
        if not self.folder.is_dir():
            raise ValueError(f"The folder for a basis exists, but {str(self.folder)!r} does not. Make it first.")
        return FileBasis(self.folder, size, num_vectors, dtype=dtype, device=device)

    def memory(self, size: int, num_vectors: int, dtype: torch.dtype) -> int:
        """Bytes of memory a Lanczos run needs, the products themselves excluded."""
        return num_vectors * _columns(size, num_vectors, dtype) * dtype.itemsize + working_memory(size, dtype)


@final
class FileBasis:
    """Rows one after the other in a file. Plain reads, not a mapping: pages of a mapping would count as memory."""

    def __init__(self, folder: Path, size: int, num_vectors: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.count = 0
        self.columns = _columns(size, num_vectors, dtype)
        self.dtype = dtype
        self.device = device
        self.scratch = Scratch(self.columns, dtype=dtype, device=device)
        self._block = torch.empty(num_vectors * self.columns, dtype=dtype)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (it lives as long as the basis)
        weakref.finalize(self, self._file.close)

    def append(self, v: Tensor) -> None:
        """Write `v` after the rows in use."""
        self._file.seek(self.count * self.size * self.dtype.itemsize)
        rest = _bytes(v.to(device="cpu", dtype=self.dtype).contiguous())
        while rest:
            rest = rest[self._file.write(rest) :]
        self.count += 1

    def clear(self) -> None:
        """Forget all rows; the file keeps its length."""
        self.count = 0

    def block(self, columns: slice) -> Tensor:
        """Those columns of the rows in use, read back."""
        width = columns.stop - columns.start
        rows = self._block[: self.count * width].view(self.count, width)
        for index, row in enumerate(rows):
            self._file.seek((index * self.size + columns.start) * self.dtype.itemsize)
            rest = _bytes(row)
            while rest:
                rest = rest[self._file.readinto(rest) :]
        return rows.to(self.device)


def _columns(size: int, num_vectors: int, dtype: torch.dtype) -> int:
    return max(1, min(size, _BLOCK_BYTES // (num_vectors * dtype.itemsize)))


def _bytes(v: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    return memoryview(v.view(torch.uint8).numpy().data)
