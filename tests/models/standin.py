"""The smallest normalizer that meets the Protocol, so that the models are tested without `normscope.nn`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


class Site(nn.Module):
    """Each example divided by its root mean square, then a gain and a shift per channel."""

    def __init__(self, num_features: int, ndim: int) -> None:
        super().__init__()
        shape = (num_features, *[1] * (ndim - 2))
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.normalizer_site = "standin"
        self.ndim = ndim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == self.ndim
        rms = x.square().mean(tuple(range(1, x.ndim)), keepdim=True).add(1e-5).sqrt()
        return x / rms * self.weight + self.bias


@dataclass
class StandIn:
    """Records the affine layers it was shown."""

    name: str = "standin"
    couples_batch: bool = False
    seen: list[nn.Module] = field(default_factory=list)

    def site(self, num_features, ndim=4, *, channel_dim=None, order="affine_norm"):
        assert channel_dim is None
        assert order == "affine_norm"
        return Site(num_features, ndim)

    def affine(self, layer, *, order="affine_norm"):
        self.seen.append(layer)
        return layer


def sites(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "normalizer_site")]
