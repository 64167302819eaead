"""How the experiments of this paper are put together: deep networks of one width, several seeds at a time."""

from __future__ import annotations

from normscope.study import Data, Experiment, Measurement, Model, Norm
from normscope_papers.common.experiments import Scalar, identifier, network

NAME = "depth-limits"

DEPTHS = (5, 10, 20, 50, 100, 200, 500, 1000)
"""Of every figure whose axis is the depth of the network, in the authors' code."""

BEGINNING = 12
"""The number of the weight that figure E2's rate, over ten layers, ends at; it begins at 2, the first square one."""

UNIT = Norm("bnl2")
"""The paper's operator: every feature is divided by its norm over the batch."""

ROOT = Norm("bnl2", {"moment": "rms"})
"""The same times the square root of the number of samples, the default of the authors' code."""

STANDARD = Norm("batchnorm")
"""What torch calls batch normalization: with subtraction of the mean, gain and shift, and running statistics."""


def spelled(**facts: Scalar) -> str:
    """What sets an experiment apart, as its condition says it.

    >>> spelled(activation="sin", exponent=0.4, layers=100)
    'activation=sin exponent=0.4 layers=100'
    """
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in facts.items()
    )


def deep(depth: int, width: int, **options: Scalar) -> Model:
    """A network with so many hidden layers."""
    return network("deep_mlp", depth=depth, width=width, **options)


def untrained(
    *,
    data: str,
    max_train: int | None,
    model: Model,
    norm: Norm,
    seeds: int,
    batch_size: int,
    measurements: tuple[Measurement, ...],
    **facts: Scalar,
) -> Experiment:
    """Networks at initialization with seeds 0, 1, ..., in float64; each seed has its own weights and its own batch."""
    condition = spelled(**facts)
    return Experiment(
        id=identifier(condition, norm.label),
        data=Data(name=data, max_train=max_train),
        model=model,
        norm=norm,
        seed=0,
        condition=condition,
        batch_size=batch_size,
        measurements=measurements,
        dtype="float64",
        replicas=seeds,
    )
