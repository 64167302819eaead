"""Inner products and norms of long vectors, accumulated in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

# Entries converted to float64 at a time. On a CPU a piece stays in the cache, six to ten times faster than converting
# whole activations; elsewhere a piece is large enough that launching kernels costs nothing.
_CPU_PIECE, _DEVICE_PIECE = 1 << 15, 1 << 23


def inner_products(a: Tensor, b: Tensor) -> Tensor:
    """⟨a, a⟩, ⟨a, b⟩ and ⟨b, b⟩ of two tensors of one shape seen as vectors: shape (3,), float64."""
    total = torch.zeros(3, dtype=torch.float64, device=a.device)
    for x, y in zip(_pieces(a), _pieces(b), strict=True):
        total += torch.stack((x @ x, x @ y, y @ y))
    return total


def cosine(products: Tensor) -> Tensor:
    """⟨a, b⟩ / (‖a‖ ‖b‖) from `inner_products`, shape (..., 3) to (...); NaN where a vector is zero or not finite.

    One root of one product, so that two equal vectors give exactly 1.
    """
    aa, ab, bb = products.unbind(-1)
    return ab / (aa * bb).sqrt()


def norm(a: Tensor) -> Tensor:
    """‖a‖₂ of a tensor seen as a vector: 0-dim, float64, so that squares neither underflow nor overflow."""
    return torch.stack([x @ x for x in _pieces(a)]).sum().sqrt()


def log_norm(*parts: Tensor) -> Tensor:
    """The natural logarithm of ‖a‖₂ of tensors seen as one vector: 0-dim, float64.

    Divided by the largest entry before it is squared, so that nothing overflows that the tensors themselves can hold.
    -inf where all is zero, inf where an entry is infinite, NaN where one is.
    """
    largest = torch.stack([part.detach().abs().amax() for part in parts]).amax().double()
    if not 0 < largest < math.inf:
        return largest.log()
    scaled = [piece / largest for part in parts for piece in _pieces(part)]
    return largest.log() + torch.stack([x @ x for x in scaled]).sum().log() / 2


def _pieces(a: Tensor) -> Iterator[Tensor]:
    size = _CPU_PIECE if a.device.type == "cpu" else _DEVICE_PIECE
    return (piece.double() for piece in torch.split(a.detach().reshape(-1), size))
