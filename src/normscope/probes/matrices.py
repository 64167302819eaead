"""Many matrices of few shapes: one decomposition for all of a shape, and what a site's output is as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, final

import torch
from torch import Tensor, nn

from normscope.probes.tap import channel_axis

_PIECE = 1 << 24  # entries that wait for their turn: 128 MiB


@final
class Batched:
    """Collects matrices by label and applies a function to all of equal shape at once.

    `function(matrices, *kind)` takes (B, rows, columns), float64, to (B, ...); matrices of another `kind`, or on
    another device, are taken in another call. A thousand layers of one shape are one call, unless they need more memory
    than a piece.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._waiting: dict[tuple[Any, ...], dict[str, Tensor]] = {}
        self._results: dict[str, Tensor | None] = {}

    def add(self, label: str, matrix: Tensor, *kind: Hashable) -> None:
        """Take a matrix in; it is converted to float64, and not kept otherwise."""
        key = (tuple(matrix.shape), matrix.device, *kind)
        waiting = self._waiting.setdefault(key, {})
        waiting[label] = matrix.detach().double()
        self._results[label] = None
        if len(waiting) * matrix.numel() >= _PIECE:
            self._apply(key)

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._results.clear()

    def results(self) -> dict[str, Tensor]:
        """What the function made of each matrix, in the order in which they were added."""
        for key in list(self._waiting):
            self._apply(key)
        return {label: result for label, result in self._results.items() if result is not None}

    def _apply(self, key: tuple[Any, ...]) -> None:
        waiting = self._waiting.pop(key)
        _, _, *kind = key
        self._results.update(zip(waiting, self._function(torch.stack(list(waiting.values())), *kind), strict=True))


def where_finite(matrices: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """`function` of the matrices, (B, rows, columns) to (B,); NaN for those that hold an entry that is not finite.

    Decompositions raise on such a matrix, and a batch of them on all that are with it.
    """
    finite = matrices.isfinite().flatten(1).all(1)
    return function(matrices.where(finite[:, None, None], 0.0)).masked_fill(~finite, torch.nan)


def unit_scale(matrix: Tensor) -> Tensor:
    """The matrix over its largest entry, float64, so that squares neither overflow nor underflow; zeros stay zeros."""
    matrix = matrix.detach().double()
    largest = matrix.abs().amax()
    return matrix / largest.where(largest != 0, 1.0)


def samples_by_features(label: str, module: nn.Module, value: Tensor) -> Tensor:
    """What a site computes as a matrix: a row for each example and position, a column for each channel.

    Raises:
        ValueError: it has no axis but one.
    """
    if value.ndim < 2:
        raise ValueError(
            f"A site is read as a matrix of examples and channels, but {label!r} has the shape {tuple(value.shape)}. "
            "Leave it out by select=lambda name, module: ..."
        )
    moved = value.detach().movedim(channel_axis(module, value.ndim), -1)
    return moved.reshape(-1, moved.shape[-1])
