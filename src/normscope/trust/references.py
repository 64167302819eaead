"""What a reference is: from what is given, all of it in float64, to the output of the affine layer and the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
import torch.nn.functional as F
from torch import Tensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One forward pass of a block: its parameters by name, its past, its input and its mode."""

    state: Mapping[str, Tensor]
    seen: tuple[Tensor, ...]  # inputs of the train-mode forward passes before, oldest first
    x: Tensor
    training: bool
    options: Mapping[str, Any]

    @property
    def ndim(self) -> int:
        """Axes of input and output."""
        return self.x.ndim

    @property
    def batch(self) -> tuple[int, ...]:
        """Every axis but the channels'."""
        return {2: (0,), 3: (0, 1), 4: (0, 2, 3)}[self.ndim]

    @property
    def layer(self) -> tuple[int, ...]:
        """The axes of one example; of tokens, of one token."""
        return {2: (1,), 3: (2,), 4: (1, 2, 3)}[self.ndim]

    @property
    def eps(self) -> float:
        """What is added within the root."""
        return float(self.options["eps"])

    @property
    def positions(self) -> tuple[int, ...]:
        """The axes of one channel of one example."""
        return {2: (), 3: (1,), 4: (2, 3)}[self.ndim]

    def per_channel(self, name: str, default: float) -> Tensor:
        """A parameter of the site, shaped to multiply its output."""
        value = self.state.get(f"site.{name}")
        if value is None:
            return torch.tensor(default, dtype=self.x.dtype, device=self.x.device)
        return value.reshape(-1, 1, 1) if self.ndim == 4 else value

    def scaled(self, y: Tensor) -> Tensor:
        """Weight and bias of each channel, where the row has them."""
        return y * self.per_channel("weight", 1.0) + self.per_channel("bias", 0.0)

    def affine(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """The plain affine layer."""
        weight = self.state["affine.weight"] if weight is None else weight
        bias = self.state["affine.bias"]
        return F.conv2d(x, weight, bias) if self.ndim == 4 else F.linear(x, weight, bias)


Reference: TypeAlias = Callable[[Given], Tensor]


@final
@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a row.

    Attributes:
        formulas: that its block must equal.
        reads: options that the formulas read, besides eps and the affine; of all others they have the default.
        variants: options under which the row is compared as well.
    """

    formulas: tuple[Reference, ...]
    reads: frozenset[str] = frozenset({"eps", "affine"})
    variants: tuple[Mapping[str, Any], ...] = ()
