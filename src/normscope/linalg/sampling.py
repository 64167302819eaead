"""Random vectors with uncorrelated entries of mean zero and variance one."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Distribution(Protocol):
    """Draws a vector (size,) whose second moment E[z z^T] is the identity."""

    def __call__(self, size: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
        """A float64 vector on `device`, drawn on the generator's own device."""


def gaussian(size: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Normal entries; normalized, the direction is uniform on the sphere, whatever the eigenvectors."""
    return torch.randn(size, generator=generator, device=generator.device, dtype=torch.float64).to(device)


def rademacher(size: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Signs; among independent entries they give the trace its least variance (Hutchinson 1990)."""
    bits = torch.randint(0, 2, (size,), generator=generator, device=generator.device, dtype=torch.int8)
    return bits.to(device).to(torch.float64).mul_(2).sub_(1)
