"""How far the gradient of a minibatch lies from that of all examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from normscope.curvature.batches import examples, num_examples
from normscope.curvature.coupling import coupling_layers
from normscope.curvature.parameters import Layout
from normscope.curvature.risk import Risk
from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.gradients import differentiable
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading
from normscope.probes.step import check_learning_rate, constant, differentiable_stand_in
from normscope.subject import Batch, Subject

# Relative, of a batch's loss and the mean over its examples; in half precision the rounding of one loss.
_TOLERANCE = 1e-4


@final
@dataclass(frozen=True, kw_only=True)
class GradientNoise(Probe):
    r"""Expected squared error of a step of stochastic gradient descent, by the size of its minibatches.

    With :math:`\ell_i` the loss of example i alone, :math:`\ell` the mean over all N examples and α the learning rate,

    .. math:: C = \frac1N \sum_i \|\nabla \ell_i - \nabla \ell\|^2, \qquad
              E \Big\| \alpha \nabla \ell - \frac{\alpha}{B} \sum_{i \in \mathcal B} \nabla \ell_i \Big\|^2
              = \frac{\alpha^2}{B} C

    for B examples drawn with replacement; it is the source's bound, and exact. Without replacement it is this times
    :math:`(N - B) / (N - 1)`, exactly too. C is the sum over all examples of the subject, not an estimate.

    Where examples meet (batch statistics in train mode) an example has no gradient of its own: such a model is refused,
    and in mode "eval" it is another function, without them.

    Args:
        lr: α.
        batch_sizes: B, each at most N.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_noise", axes ("quantity", "batch_size") with quantities "variance" (C, the same for all
        sizes), "bound" (with replacement) and "without_replacement". By all parameters, frozen ones included. No
        standard error: the examples of all batches are pooled. NaN where a loss or a gradient is not finite, or
        (without replacement) N is 1. One forward and backward pass per example.

    Raises:
        ValueError: the model couples the batch in this mode (the layers are named); the loss of a batch is not the mean
            of its examples'; a batch size is less than 1 or more than N; a learning rate that is not positive and
            finite.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, on the noise of
    stochastic gradient descent.
    """

    lr: float = 0.1
    batch_sizes: tuple[int, ...] = (1,)
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_learning_rate(self.lr)
        sizes = self.batch_sizes
        if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"`batch_sizes` are integers of at least 1, but {sizes!r} arrived. Pass (32, 128), say.")
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        count = sum(map(num_examples, subject.batches()))
        if max(self.batch_sizes) > count:
            raise ValueError(
                f"A minibatch holds at most all examples, {count} here, but size {max(self.batch_sizes)} was "
                "asked for. Leave it out of `batch_sizes`, or pass more examples."
            )
        stand_in = differentiable_stand_in(subject)
        spread = _Spread()
        for batch in subject.batches():
            whole = _loss(stand_in, batch, seed=draw_seed(generator))
            if not whole.isfinite():
                return self._reading(math.nan, count)
            if spread.count == 0:
                self._refuse_coupled(subject)
            mean = _add_examples(spread, stand_in, batch, seed=draw_seed(generator))
            _check_mean(whole, mean)
        return self._reading(spread.variance, count)

    def _reading(self, variance: float, count: int) -> Reading:
        bounds = [self.lr**2 * variance / size for size in self.batch_sizes]
        exact = [bound * _correction(count, size) for bound, size in zip(bounds, self.batch_sizes, strict=True)]
        return Reading(
            name="gradient_noise",
            unit="1",
            axes=("quantity", "batch_size"),
            values=torch.tensor([[variance] * len(bounds), bounds, exact], dtype=torch.float64),
            labels={
                "quantity": ("variance", "bound", "without_replacement"),
                "batch_size": tuple(map(str, self.batch_sizes)),
            },
        )

    def _refuse_coupled(self, subject: Subject) -> None:
        layout = Layout.of(subject.model, lambda _name, parameter: parameter.is_floating_point())
        layers = coupling_layers(Risk.of(subject, layout, mode=self.mode, dtype=None))
        if layers:
            more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
            named = ", ".join(name or "the model itself" for name in layers[:5])
            raise ValueError(
                f"An example has a gradient of its own where examples do not depend on each other, but {named}{more} "
                "couples the batch. Use mode='eval', or a normalizer that does not couple the batch."
            )


class _Spread:
    """Number, mean and summed squared distance from the mean of vectors that come one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None
        self.sum_of_squares = 0.0

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean."""
        return self.sum_of_squares / self.count

    def add(self, vector: Tensor) -> None:
        self.count += 1
        if self.mean is None:
            self.mean = torch.zeros_like(vector)
        deviation = vector - self.mean
        self.mean += deviation / self.count
        self.sum_of_squares += torch.dot(deviation, vector - self.mean).item()


def _add_examples(spread: _Spread, stand_in: StandIn, batch: Batch, *, seed: int) -> float:
    """Add the gradient of each example of a batch alone, flattened and in float64; return the mean of their losses."""
    parameters = [parameter for parameter in stand_in.parameters.values() if parameter.requires_grad]

    def work(model: nn.Module) -> float:
        total, count = 0.0, num_examples(batch)
        for index in range(count):
            loss = differentiable(stand_in.loss(model, examples(batch, index, index + 1)))
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            spread.add(torch.cat([gradient.flatten().double() for gradient in gradients]))
            total += loss.item()
        return total / count

    return stand_in.run(work, seed=seed)


def _loss(stand_in: StandIn, batch: Batch, *, seed: int) -> Tensor:
    fixed = constant(stand_in)
    return fixed.run(lambda model: fixed.loss(model, batch), seed=seed)


def _check_mean(loss: Tensor, mean: float) -> None:
    """Refuse a loss that is no mean over examples: the gradients of examples would not add up to the batch's."""
    whole = loss.item()
    tolerance = max(_TOLERANCE, torch.finfo(loss.dtype).eps) * max(abs(whole), abs(mean))
    if abs(whole - mean) > tolerance:
        raise ValueError(
            f"The loss of a batch is the mean over its examples, but it is {whole:.6g} and their mean {mean:.6g}. "
            "Let loss_fn return the mean, and weigh all examples alike."
        )


def _correction(count: int, size: int) -> float:
    return (count - size) / (count - 1) if count > 1 else math.nan
