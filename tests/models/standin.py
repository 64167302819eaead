"""The smallest normalizer that meets the Protocol, so that the models are tested without `normscope.nn`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn


class Site(nn.Module):
    """Each example (each token) divided by its root mean square, then a gain and a shift per channel."""

    def __init__(self, num_features: int, ndim: int) -> None:
        super().__init__()
        shape = (num_features, *[1] * (ndim - 2)) if ndim != 3 else (num_features,)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.normalizer_site = "standin"
        self.ndim = ndim
        self.dims = (-1,) if ndim == 3 else tuple(range(1, ndim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == self.ndim
        rms = x.square().mean(self.dims, keepdim=True).add(1e-5).sqrt()
        return x / rms * self.weight + self.bias


@dataclass
class StandIn:
    """Records the affine layers it was shown, and in which order relative to its sites."""

    name: str = "standin"
    couples_batch: bool = False
    seen: list[nn.Module] = field(default_factory=list)
    before: list[nn.Module] = field(default_factory=list)  # what was asked for with order="norm_affine"

    def site(self, num_features, ndim=4, *, channel_dim=None, order="affine_norm"):
        assert channel_dim is None
        return self._noted(Site(num_features, ndim), order)

    def affine(self, layer, *, order="affine_norm"):
        self.seen.append(layer)
        return self._noted(layer, order)

    def _noted(self, module, order):
        assert order in ("affine_norm", "norm_affine")
        if order == "norm_affine":
            self.before.append(module)
        return module


def sites(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "normalizer_site")]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def affine_layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
