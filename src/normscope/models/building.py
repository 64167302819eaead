"""Affine layers drawn from a generator, activations, and the checks every constructor shares."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# kaiming_normal_'s names for gain sqrt(2) (He et al. 2015, arXiv:1502.01852) and gain 1 (LeCun et al. 1998).
Gain = Literal["relu", "linear"]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.Embedding)

# (num_features, channel_dim) of the values that arrive -> the module that acts on them.
ActivationFactory: TypeAlias = Callable[[int, int], nn.Module]


def linear(in_features: int, out_features: int, *, gain: Gain, bias: bool, generator: torch.Generator) -> nn.Linear:
    """An `nn.Linear` with weights from N(0, gain^2 / in_features) and a bias of zero."""
    layer = nn.Linear(in_features, out_features, bias=bias, device="meta")
    return _draw(layer, generator, _kaiming(gain, generator))


def xavier_linear(in_features: int, out_features: int, *, bias: bool, generator: torch.Generator) -> nn.Linear:
    """An `nn.Linear` with weights from U(-a, a), a^2 = 6 / (in_features + out_features), and a bias of zero.

    Source: Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16.
    """
    layer = nn.Linear(in_features, out_features, bias=bias, device="meta")
    return _draw(layer, generator, lambda weight: nn.init.xavier_uniform_(weight, generator=generator))


def conv2d(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int, bias: bool, generator: torch.Generator
) -> nn.Conv2d:
    """An `nn.Conv2d` of odd kernel size k, padded by k // 2, with weights from N(0, 2 / (k^2 in_channels))."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias, device="meta"
    )
    return _draw(layer, generator, _kaiming("relu", generator))


def conv3x3(in_channels: int, out_channels: int, *, stride: int, bias: bool, generator: torch.Generator) -> nn.Conv2d:
    """A padded 3x3 `nn.Conv2d` with weights from N(0, 2 / (9 in_channels)) and a bias of zero."""
    return conv2d(in_channels, out_channels, 3, stride=stride, bias=bias, generator=generator)


def embedding(vocabulary: int, features: int, *, generator: torch.Generator) -> nn.Embedding:
    """An `nn.Embedding` with weights from N(0, 1)."""
    layer = nn.Embedding(vocabulary, features, device="meta")
    return _draw(layer, generator, lambda weight: nn.init.normal_(weight, generator=generator))


def drawn(layer: Layer, generator: torch.Generator, initialize: Callable[[Tensor], object]) -> Layer:
    """A layer made on the meta device, on the generator's device with weights from `initialize` and a bias of zero."""
    return _draw(layer, generator, initialize)


def make_activation(
    factory: ActivationFactory | None,
    num_features: int,
    *,
    channel_dim: int,
    default: Callable[[Tensor], Tensor] = F.relu,
) -> Callable[[Tensor], Tensor]:
    """What acts on `num_features` channels along `channel_dim`: `default`, or the module that the factory makes.

    The default is a function and no module, so that a network without a factory has the state dict it always had.

    Raises:
        TypeError: as `activation_module`.
    """
    return default if factory is None else activation_module(factory, num_features, channel_dim=channel_dim)


def activation_module(factory: ActivationFactory, num_features: int, *, channel_dim: int) -> nn.Module:
    """The module that the factory makes for `num_features` channels along `channel_dim`.

    Raises:
        TypeError: the factory is not callable, or makes something other than a module.
    """
    if not callable(factory):
        raise TypeError(
            f"activation_factory is a function of (num_features, channel_dim), got {factory!r}. "
            "Pass for instance lambda num_features, channel_dim: nn.Tanh()."
        )
    module = factory(num_features, channel_dim)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"activation_factory must make an nn.Module, got {type(module).__name__}. "
            "Wrap a function in a module first."
        )
    return module


def require_positive(**arguments: int) -> None:
    """Raise ValueError for the first argument that is not a positive integer."""
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")


def require_one_of(allowed: Collection[object], **arguments: object) -> None:
    """Raise ValueError for the first argument that is none of `allowed`."""
    for name, value in arguments.items():
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}.")


def require_probability(**arguments: float) -> None:
    """Raise ValueError for the first argument that is not a probability below 1."""
    for name, value in arguments.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} is a probability in [0, 1), got {value!r}.")


def _kaiming(gain: Gain, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    return lambda weight: nn.init.kaiming_normal_(weight, nonlinearity=gain, generator=generator)


def _draw(layer: Layer, generator: torch.Generator, initialize: Callable[[Tensor], object]) -> Layer:
    # Coming from the meta device, the layer has drawn nothing from the global random state.
    layer = layer.to_empty(device=generator.device)
    initialize(layer.weight)
    bias = getattr(layer, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
    return layer
