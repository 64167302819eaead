"""Pieces of a batch small enough to stay in a processor's cache while several passes go over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

# 1 MB of float32. Fewer would cost more in calls than in memory.
_ELEMENTS = 2**18


def chunks(x: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of all tensors along axis 0, of so many examples each that x has about a quarter of a million elements.

    Args:
        x: not empty.
        others: tensors with as many examples.
    """
    examples = max(1, _ELEMENTS * len(x) // x.numel())
    if examples >= len(x):
        yield (x, *others)
        return
    yield from zip(*(torch.split(t, examples) for t in (x, *others)), strict=True)


def total(parts: Sequence[Tensor]) -> Tensor:
    """The sum of what the chunks came to, each a tensor of the same shape."""
    return parts[0] if len(parts) == 1 else torch.stack(tuple(parts)).sum(0)
