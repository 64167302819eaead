"""Models that do to themselves what a forward can, for the contract of probes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.probes import Subject


class Writer(nn.Module):
    """Does what a forward can do to itself: counts, caches, draws, renorms a weight, overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 8, max_norm=0.1)
        self.norm = nn.BatchNorm1d(8)
        self.calls = 0
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache = x
        draw = torch.rand(()) + random.random() + np.random.random()
        x.mul_(2)
        return F.relu(self.norm(x + self.table(torch.arange(len(x)) % 4)), inplace=True) + 0 * draw


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(F.relu(self.norm(self.layer(x)))))


class Dictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(8, 8), nn.LayerNorm(8)

    def forward(self, *, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"logits": self.norm(self.layer(features)).masked_fill(mask, 0.0)}


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU()
    )


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "norms": norms,
    "frozen": lambda: norms().requires_grad_(False),
    "plain": lambda: nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8)),
    "dropout": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 8)),
    "bare": lambda: nn.Linear(8, 8),
    "tied": tied,
    "shared": Shared,
    "writer": Writer,
    "dictionary": Dictionary,
}


def subject_of(name: str, *, batches: int = 4) -> Subject:
    """A model with float64 random weights, a mixed mode, gradients and running statistics of its own, and batches."""
    draw = torch.Generator().manual_seed(7)
    model = MODELS[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / 2)
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)

    def batch() -> tuple[Any, Tensor]:
        x = torch.randn(16, 8, generator=draw, dtype=torch.float64)
        y = torch.randint(8, (16,), generator=draw)
        return ({"features": x, "mask": x > 2} if name == "dictionary" else x), y

    return Subject(
        model,
        F.cross_entropy,
        batch(),
        more=[batch() for _ in range(batches - 1)],
        forward=(lambda model, inputs: model(**inputs)["logits"]) if name == "dictionary" else None,
    )
