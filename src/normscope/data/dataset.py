"""What a loaded data set is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their classes, in a fixed random order.

    Attributes:
        inputs: (N, C, H, W) images or (N, F) features; float32, standardized.
        targets: (N,) classes; int64.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"A split needs one target per input, got {len(self.inputs)} and {len(self.targets)}.")

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device | str) -> Split:
        """Return the same split on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three disjoint splits of one classification problem.

    Attributes:
        name: as it was asked for.
        train, validation, test: to fit, to choose by, to report.
        num_classes: targets are 0 ... num_classes - 1.
        classes: their names.
        sha256: of the values read, before standardization, with the classes and the division into splits.
        note: what was decided in loading, such as which splits were cut from the training split.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    classes: tuple[str, ...]
    sha256: str
    note: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W) or (F,)."""
        return tuple(self.train.inputs.shape[1:])
