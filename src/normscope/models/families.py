"""The families by name: how a study asks for a network that fits its data, with options as a file can hold them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import nn

from normscope.models.building import ActivationFactory
from normscope.models.cifar_resnet import CifarResNet
from normscope.models.deep_linear import DeepLinear
from normscope.models.deep_mlp import DeepMLP
from normscope.models.mlp import MLP
from normscope.models.protocol import NormalizerLike
from normscope.models.recurrent import Recurrent
from normscope.models.resnet import ResNet
from normscope.models.transformer import Transformer
from normscope.models.vgg import VGG
from normscope.models.wideresnet import WideResNet

Shape: TypeAlias = tuple[int, ...]

_KINDS = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of networks, and what a study may say about it.

    Attributes:
        name: what a study calls it.
        takes: the examples it is made for, in words.
        axes: how many axes the shape of such an example may have; None for any number.
        options: name of each option and the type of its value.
        required: those of the options that have no default.
        construct: (shape, num_classes, normalizer=, generator=, activation_factory=, **options) -> the network.
    """

    name: str
    takes: str
    axes: tuple[int, ...] | None
    options: Mapping[str, type]
    required: tuple[str, ...] = ()
    construct: Callable[..., nn.Module]

    def build(
        self,
        shape: Shape,
        num_classes: int,
        *,
        normalizer: NormalizerLike,
        generator: torch.Generator,
        activation_factory: ActivationFactory | None = None,
        **options: Any,
    ) -> nn.Module:
        """The network for such examples.

        Args:
            shape: of one example: (F,), (C, H, W), (T, F), or (T,) for a text of T tokens.
            num_classes: outputs; for a text the size of its vocabulary.
            normalizer: injected.
            generator: of the weights.
            activation_factory: (num_features, channel_dim) -> the module in place of each ReLU (GELU); None for those.
            options: some of `self.options`, all of `self.required`; what is left out has the constructor's default.

        Raises:
            ValueError: an unknown option (the close ones are named), a missing one, one of another type; a shape that
                the family cannot take; whatever the constructor refuses.
            TypeError: `normalizer` is not one, or `activation_factory` makes no module.
        """
        if self.axes is not None and len(shape) not in self.axes:
            raise ValueError(
                f"the family {self.name} takes {self.takes}, got examples of shape {tuple(shape)}; use mlp."
            )
        for option, value in options.items():
            self._check(option, value)
        missing = [option for option in self.required if option not in options]
        if missing:
            raise ValueError(f"the family {self.name} needs the option {missing[0]}; give {', '.join(self.required)}.")
        return self.construct(
            shape,
            num_classes,
            normalizer=normalizer,
            generator=generator,
            activation_factory=activation_factory,
            **options,
        )

    def _check(self, option: str, value: object) -> None:
        if option not in self.options:
            raise ValueError(f"Unknown option {option!r} of the family {self.name}; {_nearest(option, self.options)}.")
        kind = self.options[option]
        fits = isinstance(value, (int, float) if kind is float else kind)
        if not fits or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"Option {option} of the family {self.name} must be {_KINDS[kind]}, got {value!r}.")


def family(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none (the close ones are named).
    """
    if name not in FAMILIES:
        raise ValueError(f"Unknown family {name!r}; {_nearest(name, FAMILIES)}.")
    return FAMILIES[name]


def _mlp(shape: Shape, num_classes: int, **arguments: Any) -> MLP:
    return MLP(math.prod(shape), num_classes, **arguments)


def _deep_mlp(shape: Shape, num_classes: int, **arguments: Any) -> DeepMLP:
    return DeepMLP(math.prod(shape), num_classes, **arguments)


def _wrn(shape: Shape, num_classes: int, **arguments: Any) -> WideResNet:
    named = {"widen_factor" if name == "width" else name: value for name, value in arguments.items()}
    return WideResNet(shape[0], num_classes, **named)


def _resnet(shape: Shape, num_classes: int, **arguments: Any) -> ResNet:
    return ResNet(shape[0], num_classes, **arguments)


def _transformer(shape: Shape, num_classes: int, *, max_length: int | None = None, **arguments: Any) -> Transformer:
    if max_length is not None and max_length < shape[0]:
        raise ValueError(
            f"max_length must be at least the length of the examples, {shape[0]}, got {max_length}; leave it out."
        )
    return Transformer(num_classes, max_length=shape[0] if max_length is None else max_length, **arguments)


def _recurrent(
    shape: Shape,
    num_classes: int,
    *,
    activation_factory: ActivationFactory | None,
    hidden: int = 128,
    **arguments: Any,
) -> Recurrent:
    if activation_factory is not None:
        raise ValueError(
            "the family recurrent has gates and no ReLU that an activation_factory could replace; leave it out."
        )
    if len(shape) == 1:  # a text: tokens are embedded in as many numbers as the state has
        return Recurrent(hidden, num_classes, hidden=hidden, vocabulary=num_classes, **arguments)
    in_features = shape[1] if len(shape) == 2 else shape[0] * shape[2]
    return Recurrent(in_features, num_classes, hidden=hidden, **arguments)


def _cifar_resnet(shape: Shape, num_classes: int, **arguments: Any) -> CifarResNet:
    return CifarResNet(shape[0], num_classes, **arguments)


def _vgg(shape: Shape, num_classes: int, **arguments: Any) -> VGG:
    return VGG(shape[0], num_classes, **arguments)


def _deep_linear(
    shape: Shape, num_classes: int, *, activation_factory: ActivationFactory | None, **arguments: Any
) -> DeepLinear:
    if activation_factory is not None:
        raise ValueError("the family deep_linear has no activation that a factory could replace; leave it out.")
    return DeepLinear(math.prod(shape), num_classes, **arguments)


_ROWS = (
    Family(
        name="mlp",
        takes="features",
        axes=None,
        options={"depth": int, "width": int},
        required=("depth", "width"),
        construct=_mlp,
    ),
    Family(
        name="wrn",
        takes="images",
        axes=(3,),
        options={"depth": int, "width": int, "skips": bool, "dropout": float},
        construct=_wrn,
    ),
    Family(
        name="resnet",
        takes="images",
        axes=(3,),
        options={"depth": int, "width": int, "stem": str, "zero_init_last": bool},
        construct=_resnet,
    ),
    Family(
        name="transformer",
        takes="texts",
        axes=(1,),
        options={"depth": int, "dim": int, "heads": int, "hidden": int, "dropout": float, "max_length": int},
        construct=_transformer,
    ),
    Family(
        name="recurrent",
        takes="texts, sequences and images",
        axes=(1, 2, 3),
        options={"cell": str, "hidden": int, "layers": int},
        construct=_recurrent,
    ),
    Family(
        name="cifar_resnet",
        takes="images",
        axes=(3,),
        options={"depth": int, "width": int, "norm_at": str, "shortcut": str, "init": str},
        construct=_cifar_resnet,
    ),
    Family(
        name="vgg",
        takes="images",
        axes=(3,),
        options={"depth": int, "width": int},
        construct=_vgg,
    ),
    Family(
        name="deep_linear",
        takes="features",
        axes=None,
        options={"depth": int, "width": int},
        construct=_deep_linear,
    ),
    Family(
        name="deep_mlp",
        takes="features",
        axes=None,
        options={
            "depth": int,
            "width": int,
            "weights": str,
            "activation": str,
            "gain": float,
            "gain_exponent": float,
            "bias": bool,
        },
        required=("depth", "width"),
        construct=_deep_mlp,
    ),
)
FAMILIES: Mapping[str, Family] = MappingProxyType({row.name: row for row in _ROWS})


def _nearest(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}" if close else f"choose from {', '.join(words)}"
