"""Initial weights by name, for the families whose initialization is itself what is studied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from normscope.models.building import drawn

Init: TypeAlias = Literal["xavier", "he", "he_fan_out", "lecun", "small"]
Initializer: TypeAlias = Callable[[Tensor, torch.Generator], object]

_SMALL = 0.01  # standard deviation of Krizhevsky, Sutskever and Hinton 2012

# With fan_in = k^2 in_channels and fan_out = k^2 out_channels; k = 1 for a linear layer.
INITIALIZERS: Mapping[str, Initializer] = MappingProxyType(
    {
        # U(-a, a), a^2 = 6 / (fan_in + fan_out): Glorot and Bengio 2010, eq. 16.
        "xavier": lambda weight, generator: nn.init.xavier_uniform_(weight, generator=generator),
        # N(0, 2 / fan_in) and N(0, 2 / fan_out): He et al. 2015, arXiv:1502.01852, eq. 10 and 14.
        "he": lambda weight, generator: nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator),
        "he_fan_out": lambda weight, generator: nn.init.kaiming_normal_(
            weight, mode="fan_out", nonlinearity="relu", generator=generator
        ),
        # N(0, 1 / fan_in): LeCun et al. 1998, "Efficient BackProp", eq. 16.
        "lecun": lambda weight, generator: nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator),
        "small": lambda weight, generator: nn.init.normal_(weight, 0.0, _SMALL, generator=generator),
    }
)


def initialized_linear(
    in_features: int, out_features: int, *, init: Init, bias: bool, generator: torch.Generator
) -> nn.Linear:
    """An `nn.Linear` with weights drawn by `INITIALIZERS[init]` and a bias of zero."""
    layer = nn.Linear(in_features, out_features, bias=bias, device="meta")
    return drawn(layer, generator, lambda weight: INITIALIZERS[init](weight, generator))


def initialized_conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    init: Init,
    bias: bool,
    generator: torch.Generator,
) -> nn.Conv2d:
    """An `nn.Conv2d` of odd kernel size k, padded by k // 2, drawn by `INITIALIZERS[init]`, with a bias of zero."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias, device="meta"
    )
    return drawn(layer, generator, lambda weight: INITIALIZERS[init](weight, generator))
