"""The loss and its gradient along one step of gradient descent, on the batch that the step is taken on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, copy, draw_seed
from normscope.probes.gradients import loss_and_gradients
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.similarity import norm
from normscope.probes.weights import all_parameters
from normscope.subject import Batch, Subject

_HALF_DECADES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)


@final
@dataclass(frozen=True, kw_only=True)
class RelativeLoss(Probe):
    r"""The loss after a plain gradient step, relative to the loss before it, by the size of the step.

    .. math:: r(\eta) = \frac{L(\theta - \eta \nabla L(\theta))}{L(\theta)}

    L is that of one minibatch, the same in all three places; the step moves all parameters, frozen ones too.

    Args:
        step_sizes: η, in units of the learning rate.
        mode: "train" or "eval".

    Returns:
        Reading "relative_loss", axes ("step_size",), standard errors over batches. Infinite where the loss after the
        step is infinite or no number, which is a result, and where only the loss before it is 0; NaN where that is not
        finite, or both are 0. One forward and backward pass per batch and a forward pass per size.

    Raises:
        ValueError: no step size, or one that is not positive and finite.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, figure 3, where r > 1000 is called
    divergence.
    """

    step_sizes: tuple[float, ...] = _HALF_DECADES
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_step_sizes("step_sizes", self.step_sizes)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = differentiable_stand_in(subject)
        samples = []
        for batch in subject.batches():
            seed = draw_seed(generator)
            loss, gradients = loss_and_gradients(stand_in, batch, seed=seed)
            stepped = [
                _loss(constant(moved(stand_in, gradients, size)), batch, seed=seed) if loss.isfinite() else torch.nan
                for size in self.step_sizes
            ]
            samples.append(torch.tensor(stepped, dtype=torch.float64) / loss.double().cpu())
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="relative_loss",
            unit="1",
            axes=("step_size",),
            values=values,
            stderr=stderr,
            labels={"step_size": step_labels(self.step_sizes)},
        )


@final
@dataclass(frozen=True, kw_only=True)
class LossAlongGradient(Probe):
    r"""Loss and gradient along the line of the gradient, by the size of the step, on the batch the gradient is of.

    With :math:`g = \nabla L(\theta)` and :math:`g_\eta = \nabla L(\theta - \eta g)`, by all parameters:

    .. math:: L(\theta - \eta g), \qquad \|g - g_\eta\|_2, \qquad \beta(\eta) = \frac{\|g - g_\eta\|_2}{\eta \|g\|_2}

    The source draws the range over η of the first (loss variation) and of the second (gradient predictiveness), and the
    maximum over η of the third (effective smoothness); they are left to whoever reads. Where the gradient changes by
    about its own size the third is about 1/η, and its maximum tells the smallest step, not the network.

    Args:
        step_sizes: η, in units of the learning rate; the direction is not normalized.
        mode: "train" or "eval".

    Returns:
        Reading "loss_along_gradient", axes ("quantity", "step_size") with quantities "loss" (in the loss's own unit),
        "gradient_distance" and "smoothness"; standard errors over batches. Infinite where the loss or the gradient
        after the step is infinite or no number, which is a result; NaN where loss or gradient before it are not finite,
        and the smoothness where that gradient is 0. A forward and backward pass per batch and size, and one more.

    Raises:
        ValueError: no step size, or one that is not positive and finite.

    Source: Santurkar et al., "How does batch normalization help optimization?", arXiv:1805.11604, figure 4.
    """

    step_sizes: tuple[float, ...] = _HALF_DECADES
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_step_sizes("step_sizes", self.step_sizes)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = differentiable_stand_in(subject)
        samples = [self._along(stand_in, batch, seed=draw_seed(generator)) for batch in subject.batches()]
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="loss_along_gradient",
            unit="1",
            axes=("quantity", "step_size"),
            values=values,
            stderr=stderr,
            labels={
                "quantity": ("loss", "gradient_distance", "smoothness"),
                "step_size": step_labels(self.step_sizes),
            },
        )

    def _along(self, stand_in: StandIn, batch: Batch, *, seed: int) -> Tensor:
        """Rows loss, gradient_distance and smoothness; columns the step sizes."""
        loss, gradients = loss_and_gradients(stand_in, batch, seed=seed)
        size = gradient_norm(gradients)
        if not math.isfinite(loss.item() + size):
            return torch.full((3, len(self.step_sizes)), torch.nan, dtype=torch.float64)
        columns = []
        for step in self.step_sizes:
            there, moved_gradients = loss_and_gradients(moved(stand_in, gradients, step), batch, seed=seed)
            change = gradient_norm({name: gradients[name] - moved_gradients[name] for name in gradients})
            smoothness = _finite_or_inf(change) / step / size if size else math.nan
            columns.append([_finite_or_inf(there.item()), _finite_or_inf(change), smoothness])
        return torch.tensor(columns, dtype=torch.float64).T


def differentiable_stand_in(subject: Subject) -> StandIn:
    """A stand-in whose gradient is taken by all parameters."""
    return StandIn.of(subject, differentiate=frozenset(all_parameters(subject.model)))


def moved(stand_in: StandIn, gradients: Mapping[str, Tensor], step: float) -> StandIn:
    """The stand-in at θ - step g, in the parameters that g has; a parameter requires a gradient where it did.

    A step of 0 leaves them as they are, also where the gradient is not finite.
    """
    parameters = {}
    for name, parameter in stand_in.parameters.items():
        there = copy(parameter)
        if name in gradients and step:
            there.sub_(gradients[name], alpha=step)
        parameters[name] = there.requires_grad_(parameter.requires_grad)
    return StandIn(subject=stand_in.subject, parameters=parameters, dtype=stand_in.dtype)


def constant(stand_in: StandIn) -> StandIn:
    """The stand-in with parameters that require no gradient, so that a forward pass records none by them.

    Not `torch.no_grad`, under which a model that differentiates within its forward (a force, a residual) raises.
    """
    parameters = {name: parameter.detach() for name, parameter in stand_in.parameters.items()}
    return StandIn(subject=stand_in.subject, parameters=parameters, dtype=stand_in.dtype)


def gradient_norm(gradients: Mapping[str, Tensor]) -> float:
    """‖g‖₂ of all parameters' gradients as one vector, accumulated in float64."""
    return math.hypot(*(norm(gradient).item() for gradient in gradients.values()))


def check_step_sizes(field: str, sizes: tuple[float, ...]) -> None:
    """Refuse an empty tuple, and sizes that are not positive and finite.

    Raises:
        ValueError: on such sizes.
    """
    if not sizes or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(
            f"`{field}` are positive finite numbers, at least one, but {sizes!r} arrived. Try (0.01, 0.1)."
        )


def check_learning_rate(lr: float) -> None:
    """Refuse a learning rate that is not positive and finite.

    Raises:
        ValueError: on such a rate.
    """
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"`lr` is positive and finite, but {lr} arrived. Try 0.1.")


def step_labels(sizes: tuple[float, ...]) -> tuple[str, ...]:
    """One label per size, from which `float` gives it back."""
    return tuple(str(float(size)) for size in sizes)


def _loss(stand_in: StandIn, batch: Batch, *, seed: int) -> float:
    """The loss on the batch, infinite where it is no number."""
    return _finite_or_inf(stand_in.run(lambda model: stand_in.loss(model, batch), seed=seed).item())


def _finite_or_inf(value: float) -> float:
    return value if math.isfinite(value) else math.inf
