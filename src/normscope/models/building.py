"""Affine layers drawn from a generator, and the checks every constructor shares."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import nn

# kaiming_normal_'s names for gain sqrt(2) (He et al. 2015, arXiv:1502.01852) and gain 1 (LeCun et al. 1998).
Gain = Literal["relu", "linear"]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def linear(in_features: int, out_features: int, *, gain: Gain, bias: bool, generator: torch.Generator) -> nn.Linear:
    """An `nn.Linear` with weights from N(0, gain^2 / in_features) and a bias of zero."""
    return _draw(nn.Linear(in_features, out_features, bias=bias, device="meta"), gain, generator)


def conv3x3(in_channels: int, out_channels: int, *, stride: int, bias: bool, generator: torch.Generator) -> nn.Conv2d:
    """A padded 3x3 `nn.Conv2d` with weights from N(0, 2 / (9 in_channels)) and a bias of zero."""
    layer = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=bias, device="meta")
    return _draw(layer, "relu", generator)


def require_positive(**arguments: int) -> None:
    """Raise ValueError for the first argument that is not a positive integer."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def _draw(layer: Layer, gain: Gain, generator: torch.Generator) -> Layer:
    # Coming from the meta device, the layer has drawn nothing from the global random state.
    layer = layer.to_empty(device=generator.device)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=gain, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
