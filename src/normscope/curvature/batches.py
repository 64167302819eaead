"""Batches as operators take them: counted, weighted, sliced."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.subject import Batch

Weight: TypeAlias = Callable[[Batch], float]


def listed(batches: Iterable[Batch] | Batch) -> list[Batch]:
    """The batches as a list; one pair (inputs, targets) with tensor inputs is taken as one batch.

    Raises:
        ValueError: there is none.
    """
    if isinstance(batches, tuple) and len(batches) == 2 and isinstance(batches[0], Tensor):
        return [batches]
    found: list[Batch] = list(batches)
    if not found:
        raise ValueError("Curvature is taken on at least one batch, but none arrived. Pass [(inputs, targets), ...].")
    return found


def num_examples(batch: Batch) -> int:
    """Size of the first axis of the first tensor of the inputs.

    Raises:
        ValueError: the inputs hold no tensor with an axis.
    """
    for leaf in pytree.tree_leaves(batch[0]):
        if isinstance(leaf, Tensor) and leaf.ndim > 0:
            return leaf.shape[0]
    raise ValueError(
        "The examples of a batch are counted along the first axis of its inputs, but they hold no tensor with an axis. "
        "Pass weight=... to weigh the batches."
    )


def examples(batch: Batch, start: int, stop: int) -> Batch:
    """Examples `start` to `stop` of a batch: every tensor whose first axis counts examples is sliced along it."""
    count = num_examples(batch)

    def part(leaf: Any) -> Any:
        counted = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == count
        return leaf[start:stop] if counted else leaf

    inputs, targets = pytree.tree_map(part, batch)
    return inputs, targets


def chunks(batch: Batch, size: int) -> list[Batch]:
    """The batch in parts of at most `size` examples."""
    count = num_examples(batch)
    return [examples(batch, start, min(start + size, count)) for start in range(0, count, size)]
