"""The networks, rates and schedules of this paper and of Santurkar et al., and how their layers are counted."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from normscope.study import Data, Experiment, Measurement, Model, Norm, Optimizer, Schedule
from normscope_papers.common.experiments import Scalar, Stages, measured, named, network, untrained

NAME = "understanding-batch-norm"

NETWORK = "cifar_resnet"
PAIR = named("batchnorm", "none")
"""Batch norm everywhere and nowhere: `none` leaves every site an identity, and the convolutions without bias."""

VGG, DEEP_LINEAR = "vgg", "dln"
"""The conditions of the item `smoothness`: its two networks. In `covariate-shift` the VGG has none."""

NOISY = "noisy batch norm"
"""The condition of batch norm with noise behind it."""

BLOCKS = r"blocks\.\d+"
"""The outputs of all residual blocks, as a regular expression of module names."""

READOUT = "readout"
"""The module that gives the logits: the last layer."""

CONTROL = "batch norm"
"""The condition of the network with batch norm beside initializations without."""


def residual(*, depth: int, width: int, **options: Scalar) -> Model:
    """The CIFAR ResNet with 6n + 2 layers."""
    return network(NETWORK, depth=depth, width=width, **options)


def block(layer: int, *, depth: int) -> str:
    """The name of the residual block that holds this layer, the stem being layer 1 and the readout layer `depth`.

    >>> block(80, depth=110)
    'blocks.39'

    Raises:
        ValueError: no block holds it.
    """
    if not 2 <= layer < depth:
        raise ValueError(f"layers of blocks lie between 2 and {depth - 1} in a network of depth {depth}, got {layer}.")
    return f"blocks.{(layer - 2) // 2}"


def convolution(layer: int, *, depth: int) -> str:
    """The name of the convolution that is this layer.

    >>> convolution(55, depth=110)
    'blocks.26.conv2'

    Raises:
        ValueError: it is none of a block.
    """
    return f"{block(layer, depth=depth)}.conv{layer % 2 + 1}"


def layer_of(module: str) -> int:
    """The layer that a block begins with, or that a convolution is: the inverse of the two above.

    >>> layer_of("blocks.39"), layer_of("blocks.26.conv2")
    (80, 55)
    """
    place = int(module.split(".")[1])
    return 2 * place + 2 + module.endswith("conv2")


def he_sgd(lr: float, *, weight_decay: float) -> Optimizer:
    """SGD with heavy-ball momentum 0.9, as He et al. train."""
    return Optimizer(lr=lr, options={"momentum": 0.9, "nesterov": False, "weight_decay": weight_decay})


def plain_sgd(lr: float, *, weight_decay: float) -> Optimizer:
    """SGD without momentum, as Santurkar et al. train."""
    return Optimizer(lr=lr, options={"momentum": 0.0, "nesterov": False, "weight_decay": weight_decay})


def stepped(steps: int) -> Schedule:
    """The rate divided by ten after half and after three quarters of the steps."""
    return Schedule(name="piecewise", options={"boundaries": (steps // 2, 3 * steps // 4), "factors": (1.0, 0.1, 0.01)})


def patient(training: Experiment) -> Experiment:
    """The training with a bound of 1e6 nats on its loss: deep networks without batch norm begin near the usual 1e3."""
    assert training.training is not None
    return msgspec.structs.replace(training, training=msgspec.structs.replace(training.training, diverged_loss=1e6))


def at_least(least: int, **fields: int) -> None:
    """Refuse a field below its least value; ValueError names it."""
    for name, value in fields.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")


def along_gradient(probe: str, *at: int, low: float, high: float, points: int) -> Measurement:
    """A measurement at so many step sizes along the gradient, at these steps of training; ValueError for one alone."""
    at_least(2, points=points)
    return measured(probe, *at, low=low, high=high, points=points)


def spread(steps: int, points: int) -> tuple[int, ...]:
    """So many steps evenly from 0 to the last, both among them; ValueError for one alone."""
    at_least(2, points=points)
    return tuple(sorted({round(share * steps / (points - 1)) for share in range(points)}))


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The fields of an item that looks at untrained ResNets; the command line may set each of them.

    Attributes:
        init: the rule by which weights are drawn.
        seeds: 0, 1, ...
    """

    data: str
    max_train: int | None
    norms: tuple[Norm, ...]
    depth: int
    width: int
    init: str
    batch_size: int
    seeds: int

    def study(self, *measurements: Measurement) -> Stages:
        """Every normalizer from every seed, with these measurements."""
        experiments = untrained(
            data=Data(name=self.data, max_train=self.max_train),
            model=residual(depth=self.depth, width=self.width, init=self.init),
            norms=self.norms,
            seeds=self.seeds,
            batch_size=self.batch_size,
            measurements=measurements,
        )
        return experiments, None
