"""The four passes over memory that `instances` is made of, from torch's operations.

x and g are (N, C, P); what belongs to one channel of one example is (N, C).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Passes(Protocol):
    """What a device has to supply. `scratch` is memory of x's size that the next pass may write into, or None."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean and biased variance over P, and x less its mean as scratch."""

    def scaled(self, x: Tensor, m: Tensor, factor: Tensor, offset: Tensor, scratch: Tensor | None) -> Tensor:
        """Return factor (x - m) + offset; scratch, where it is memory, holds x - m."""

    def sums(self, g: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Sums of g and of g (x - m) over P; scratch of no meaning."""

    def combined(
        self, g: Tensor, x: Tensor, of_g: Tensor, of_x: Tensor, constant: Tensor, scratch: Tensor | None
    ) -> Tensor:
        """Return of_g g + of_x x + constant."""


class TorchPasses:
    """The passes from torch's operations, in place wherever memory is at hand: a fresh large tensor is what costs."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Passes`."""
        m = x.mean(2)
        centered = x - m.unsqueeze(2)
        return m, torch.linalg.vector_norm(centered, dim=2).square_().div_(x.shape[2]), centered

    def scaled(self, x: Tensor, m: Tensor, factor: Tensor, offset: Tensor, scratch: Tensor | None) -> Tensor:
        """See `Passes`."""
        centered = x - m.unsqueeze(2) if scratch is None else scratch
        return torch.addcmul(offset.unsqueeze(2), centered, factor.unsqueeze(2), out=centered)

    def sums(self, g: Tensor, x: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """See `Passes`."""
        scratch, total = g * x, g.sum(2)
        return total, scratch.sum(2).addcmul_(m, total, value=-1), scratch

    def combined(
        self, g: Tensor, x: Tensor, of_g: Tensor, of_x: Tensor, constant: Tensor, scratch: Tensor | None
    ) -> Tensor:
        """See `Passes`."""
        out = torch.empty_like(x) if scratch is None else scratch
        torch.addcmul(constant.unsqueeze(2), x, of_x.unsqueeze(2), out=out)
        return out.addcmul_(g, of_g.unsqueeze(2))
