"""From an experiment's names to the objects they stand for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.data import Dataset
from normscope.models import NormalizerLike, family
from normscope.nn import switches
from normscope.nn.plugins import External
from normscope.study.experiment import Experiment, Norm


@dataclass(frozen=True)
class Network:
    """A model ready to be trained or measured; `at_step` is called before each step of training, counted from 1."""

    model: nn.Module
    penalized: bool
    at_step: Callable[[int], None]


def row(norm: Norm) -> ns.Normalizer | External:
    """The row of the table, with the recipe's options."""
    options = dict(norm.options)
    if "name" in options:  # would be taken for the argument of that name
        raise ValueError(f"{norm.name} has no option 'name'; leave it out.")
    return ns.normalizer(norm.name, **options)


def network(experiment: Experiment, dataset: Dataset, *, generator: torch.Generator) -> Network:
    """The experiment's model for this data set, normalizer and switches injected, on the data's device.

    Its weights are drawn in the experiment's dtype, so that orthogonal ones are so to that dtype's rounding.
    """
    device = dataset.train.inputs.device
    normalizer = row(experiment.norm)
    with _default(experiment.dtype):
        if not experiment.switches:
            model = _build(experiment, dataset, normalizer, generator=generator)
            return Network(model.to(device), normalizer.penalized, lambda _step: None)
        chosen = [switches.switch(asked.name, **asked.options) for asked in experiment.switches]
        switched = switches.apply(normalizer, chosen, generator=generator)
        factory = switched.activation_factory
        inner = _build(experiment, dataset, switched, generator=generator, activation_factory=factory)
        model = switched.around(inner, dataset.num_classes).to(device)
    return Network(model, _is_penalized(model), lambda step: switched.at_step(model, step))


def cast(inputs: Tensor, experiment: Experiment) -> Tensor:
    """Inputs in the experiment's dtype; tokens stay what they are."""
    return inputs.to(_DTYPES[experiment.dtype]) if inputs.is_floating_point() else inputs


def cross_entropy(outputs: Tensor, targets: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    r"""Cross-entropy in nats, of examples or of the tokens that count (those with a target that is not negative: -100).

    Shape: (N, K) and (N,), or (N, T, K) and (N, T).
    """
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction=reduction)


def data_loss(outputs: Tensor, targets: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    r"""What a network is trained for: `cross_entropy` of classes, and of real targets the squared distance.

    .. math:: \frac1N \sum_n \|f(x_n) - y_n\|_2^2

    Shape: (N, K) and (N, K) where targets are real.
    """
    if not targets.is_floating_point():
        return cross_entropy(outputs, targets, reduction=reduction)
    distances = (outputs - targets).square().flatten(1).sum(1)
    return distances.mean() if reduction == "mean" else distances.sum()


_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@contextlib.contextmanager
def _default(name: str) -> Iterator[None]:
    """Floating-point tensors made within have this dtype, where they are given none."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(_DTYPES[name])
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _build(
    experiment: Experiment,
    dataset: Dataset,
    normalizer: NormalizerLike,
    *,
    generator: torch.Generator,
    activation_factory: Callable[[int, int], nn.Module] | None = None,
) -> nn.Module:
    return family(experiment.model.family).build(
        dataset.input_shape,
        dataset.num_classes,
        normalizer=normalizer,
        generator=generator,
        activation_factory=activation_factory,
        **experiment.model.options,
    )


def _is_penalized(model: nn.Module) -> bool:
    return any(getattr(module, "penalized", False) for module in model.modules())
