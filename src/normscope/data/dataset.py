"""What a loaded data set is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor

if TYPE_CHECKING:
    from normscope.data.streamed import StreamSplit

Task: TypeAlias = Literal["classification", "language", "regression"]


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and what is to be predicted of them, in a fixed random order.

    Attributes:
        inputs: (N, C, H, W) images or (N, F) features, float32, standardized; or (N, T) tokens, int64.
        targets: (N,) classes, or (N, T) next tokens; int64. Of a regression (N, K) real numbers.
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
    """Three disjoint splits of one problem: to name the class of an example, or each next token of a text.

    Attributes:
        name: as it was asked for.
        train, validation, test: to fit, to choose by, to report.
        num_classes: targets are 0 ... num_classes - 1; of a text, the size of its vocabulary.
        classes: their names; of a text, its tokens.
        sha256: of the values read, before standardization, with the classes and the division into splits.
        note: what was decided in loading, such as which splits were cut from the training split.
        task: "classification", "language" for a text, or "regression" of `num_classes` real numbers.
        streamed: every training example, read as it is needed, where `train` holds some of them; see `hold`.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    classes: tuple[str, ...]
    sha256: str
    note: str
    task: Task = "classification"
    streamed: StreamSplit[Any] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example: (C, H, W), (F,) or (T,)."""
        return tuple(self.train.inputs.shape[1:])
