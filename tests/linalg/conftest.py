"""Matrices of known spectrum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from normscope.linalg import DenseOperator


@pytest.fixture
def rotated(generator: torch.Generator) -> Callable[[Tensor], DenseOperator]:
    """Eigenvalues -> a dense float64 operator that has them, in random directions."""

    def make(eigenvalues: Tensor) -> DenseOperator:
        size = len(eigenvalues)
        noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
        Q = torch.linalg.qr(noise).Q
        matrix = Q * eigenvalues.double() @ Q.mT
        return DenseOperator((matrix + matrix.mT) / 2)

    return make


class Diagonal:
    """A diagonal operator that counts its products."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self.size = len(diagonal)
        self.dtype = diagonal.dtype
        self.device = diagonal.device
        self.products = 0

    def matvec(self, v: Tensor) -> Tensor:
        assert v.dtype == self.dtype
        self.products += 1
        return self.diagonal * v


@pytest.fixture
def diagonal() -> type[Diagonal]:
    return Diagonal


@pytest.fixture
def outliers() -> Tensor:
    """A spectrum like a network's Hessian: ten outliers from 1 to 50, three negative ones, a bulk near zero."""
    generator = torch.Generator().manual_seed(7)
    top = torch.tensor([1, 1.4, 2, 3, 4.5, 7, 11, 18, 30, 50.0], dtype=torch.float64)
    negative = torch.tensor([-0.6, -0.9, -1.5], dtype=torch.float64)
    noise = torch.randn(2987, generator=generator, dtype=torch.float64)
    narrow, middle, tail = noise[:1493] * 1e-3, noise[1493:2240] * 0.05, noise[2240:].square() * 0.1
    return torch.cat([top, negative, narrow, middle, tail])
