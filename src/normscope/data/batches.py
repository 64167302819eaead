"""Batches of a split: endless and shuffled to train on, all of it once and evenly to evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from normscope.data.dataset import Split

Batch: TypeAlias = tuple[Tensor, Tensor]


def shuffled_batches(split: Split, batch_size: int, *, generator: torch.Generator) -> Iterator[Batch]:
    """Yield (inputs, targets) for ever, in a new order each epoch; an epoch's short last batch is dropped.

    Dropped, because a batch normalizer computes another function on a smaller batch.

    Args:
        split: what to draw from, without replacement within an epoch.
        batch_size: examples of every batch.
        generator: of the orders.

    Raises:
        ValueError: batch_size is not between 1 and the number of examples.
    """
    if not 1 <= batch_size <= len(split):
        raise ValueError(
            f"batch_size must be between 1 and the {len(split)} examples of the split, got {batch_size}. "
            "Ask for smaller batches or more examples."
        )
    return _epochs(split, batch_size, generator)


def even_batches(split: Split, batch_size: int) -> list[Batch]:
    """Cut a split, in order, into the fewest parts of at most `batch_size` whose sizes differ by at most one.

    So that statistics of the batch, where evaluation uses them, never come from a tiny last batch. The parts are
    views; a mean over all examples weights each part by its length.

    Raises:
        ValueError: batch_size is less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    parts = max(1, -(-len(split) // batch_size))
    return list(zip(split.inputs.tensor_split(parts), split.targets.tensor_split(parts), strict=True))


def _epochs(split: Split, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
    whole = len(split) - len(split) % batch_size
    while True:
        order = torch.randperm(len(split), generator=generator, device=generator.device).to(split.targets.device)
        for rows in torch.split(order[:whole], batch_size):
            yield split.inputs[rows], split.targets[rows]
