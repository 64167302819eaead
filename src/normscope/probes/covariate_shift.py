"""How much a layer's gradient changes when the layers below it have already taken their step."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from normscope.isolation import Mode, StandIn, copy, draw_seed
from normscope.probes.gradients import parameter_gradients
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.similarity import cosine, inner_products, norm
from normscope.probes.step import check_learning_rate, differentiable_stand_in, moved
from normscope.probes.weights import layer_weights
from normscope.subject import Batch, Inputs, Subject


@final
@dataclass(frozen=True, kw_only=True)
class CovariateShift(Probe):
    r"""Change of a layer's gradient by the step of the layers below it: internal covariate shift.

    .. math:: \|G_i - G'_i\|_2, \qquad \cos(G_i, G'_i), \qquad
              G_i = \nabla_{W_i} L(W_1, \dots, W_k), \quad
              G'_i = \nabla_{W_i} L(W_1', \dots, W_{i-1}', W_i, \dots, W_k)

    with :math:`W' = W - \eta \nabla_W L`, one step of plain gradient descent, on the same minibatch throughout. The
    layers are those that own parameters of two or more axes, in the order in which they begin to run; below a layer is
    whatever begins to run before it, and steps with all its parameters, biases and normalizers' gains included.

    Args:
        lr: η.
        mode: "train" or "eval".

    Returns:
        Reading "covariate_shift", axes ("quantity", "layer") with quantities "distance" and "cosine", standard errors
        over batches. Distance 0 and cosine 1 at the first layer. NaN where a gradient is zero (cosine) or not finite.
        One forward pass, and a forward and backward pass per batch and layer.

    Raises:
        ValueError: a learning rate that is not positive and finite.

    Source: Santurkar et al., "How does batch normalization help optimization?", arXiv:1805.11604, definition 2.1.
    """

    lr: float = 0.1
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_learning_rate(self.lr)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = differentiable_stand_in(subject)
        seed = draw_seed(generator)
        places = _places(StandIn.of(subject), subject.batch[0], seed=seed)
        weights = layer_weights(subject.model)
        layers = dict(sorted(weights.items(), key=lambda layer: places[layer[1][0]]))
        samples = []
        for batch in subject.batches():
            seed = draw_seed(generator)
            gradients = parameter_gradients(stand_in, batch, seed=seed)
            columns = []
            for names in layers.values():
                below = {name: g for name, g in gradients.items() if places[name] < places[names[0]]}
                stepped = gradients
                if below:
                    stepped = _gradients(moved(stand_in, below, self.lr), names, batch, seed=seed)
                columns.append(_compared([gradients[name] for name in names], [stepped[name] for name in names]))
            samples.append(torch.stack(columns, dim=1))
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="covariate_shift",
            unit="1",
            axes=("quantity", "layer"),
            values=values,
            stderr=stderr,
            labels={"quantity": ("distance", "cosine"), "layer": tuple(layers)},
        )


def _places(stand_in: StandIn, inputs: Inputs, *, seed: int) -> dict[str, int]:
    """For each parameter, when the module that owns it begins to run; of one that never runs, the module around it."""
    entered: dict[str, int] = {}

    def work(model: nn.Module) -> None:
        with contextlib.ExitStack() as stack:
            for name, module in stand_in.subject.model.named_modules():
                stack.callback(module.register_forward_pre_hook(partial(_note, entered, name)).remove)
            stand_in.outputs(model, inputs)

    stand_in.run(work, seed=seed)
    return {name: _place(name, entered) for name in stand_in.parameters}


def _note(entered: dict[str, int], name: str, _module: nn.Module, _args: tuple[Any, ...]) -> None:
    entered.setdefault(name, len(entered))


def _place(parameter: str, entered: Mapping[str, int]) -> int:
    inside, parametrized, _ = parameter.partition(".parametrizations.")
    owner = inside if parametrized else parameter.rpartition(".")[0]
    while owner and owner not in entered:
        owner = owner.rpartition(".")[0]
    return entered.get(owner, 0)


def _gradients(stand_in: StandIn, names: Sequence[str], batch: Batch, *, seed: int) -> dict[str, Tensor]:
    """The gradient by these parameters alone."""
    parameters = {
        name: copy(value).requires_grad_() if name in names else value.detach()
        for name, value in stand_in.parameters.items()
    }
    return parameter_gradients(StandIn(subject=stand_in.subject, parameters=parameters), batch, seed=seed)


def _compared(before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
    """‖G - G'‖ and cos(G, G') of gradients seen as one vector each: (2,), float64."""
    distance = torch.stack([norm(a - b) for a, b in zip(before, after, strict=True)]).square().sum().sqrt()
    products = torch.stack([inner_products(a, b) for a, b in zip(before, after, strict=True)]).sum(0)
    return torch.stack([distance, cosine(products)])
