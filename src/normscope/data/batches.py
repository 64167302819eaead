"""Batches of a split: endless and shuffled to train on, all of it once and evenly to evaluate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias, final

import torch
from torch import Tensor

from normscope.data.dataset import Split

Batch: TypeAlias = tuple[Tensor, Tensor]


@final
class ShuffledBatches(Iterator[Batch]):
    """Batches without end, in a new order each epoch; `shuffled_batches` makes them.

    Where it stands is the generator's state at the epoch's start and the number of batches taken since, so a training
    can go on in the middle of an epoch. The generator must serve these orders alone.
    """

    def __init__(self, split: Split, batch_size: int, generator: torch.Generator) -> None:
        self._split, self._batch_size, self._generator = split, batch_size, generator
        self._epoch_start, self._taken = generator.get_state(), 0
        self._order: Tensor | None = None

    def __next__(self) -> Batch:
        if self._order is None or self._taken == len(self._split) // self._batch_size:
            self._epoch_start, self._taken = self._generator.get_state(), 0
            self._order = self._draw()
        start = self._taken * self._batch_size
        rows = self._order[start : start + self._batch_size]
        self._taken += 1
        return self._split.inputs[rows], self._split.targets[rows]

    def state(self) -> dict[str, Tensor]:
        """Where it stands: `epoch_start`, the generator's state then (bytes), and `taken` (0-dim int64)."""
        return {"epoch_start": self._epoch_start.clone(), "taken": torch.tensor(self._taken)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, of the same split and batch size; the generator is set too.

        Raises:
            ValueError: it is beyond the end of an epoch.
        """
        taken = taken_of(state, len(self._split) // self._batch_size)
        self._generator.set_state(state["epoch_start"])
        self._epoch_start, self._taken = state["epoch_start"].clone(), taken
        self._order = self._draw() if taken else None

    def _draw(self) -> Tensor:
        order = torch.randperm(len(self._split), generator=self._generator, device=self._generator.device)
        return order.to(self._split.targets.device)


def shuffled_batches(split: Split, batch_size: int, *, generator: torch.Generator) -> ShuffledBatches:
    """Give (inputs, targets) for ever, in a new order each epoch; an epoch's short last batch is dropped.

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
    return ShuffledBatches(split, batch_size, generator)


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


def taken_of(state: Mapping[str, Tensor], most: int | None) -> int:
    """The number of batches taken that a state tells; ValueError where an epoch has not as many."""
    taken = int(state["taken"])
    if taken < 0 or (most is not None and taken > most):
        raise ValueError(f"the batches stand at {taken} of an epoch of {most}; they were of other data or batch_size.")
    return taken
