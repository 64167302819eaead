"""The gradient by each layer's weight: its size, its growth with depth, and whether it turns the weight or bends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.gradients import parameter_gradients
from normscope.probes.matrices import unit_scale
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.similarity import log_norm
from normscope.probes.tap import Select, check_select
from normscope.probes.weights import selected_weights, weight_matrices
from normscope.subject import Subject


@final
@dataclass(frozen=True, kw_only=True)
class WeightGradientNorm(Probe):
    r"""Log size of the loss's gradient by each layer's weight, by depth.

    .. math:: \log \left\| \frac{\partial L}{\partial W^l} \right\|_F

    natural, so that a thousand layers of explosion fit on an axis. Sums of squares are scaled and in float64: whatever
    gradients the model's dtype holds have a finite log norm. A gradient that overflows the dtype itself, in float32
    where the log norm approaches 88, gives inf, or NaN where it went on from there: measure the model in float64, which
    holds 709. A weight that the loss does not depend on has -inf.

    Args:
        select: the layers that a function of (name, module) chooses, or the "last" listed; all if None.
        mode: "train" or "eval".

    Returns:
        Reading "weight_gradient_norm", axes ("layer",) in the order the model lists its parameters, in nats: the mean
        over batches of the log norm, with its standard error. A layer is read by all its parameters of two or more axes
        as one vector. One forward and one backward pass per batch.

    Source: Meterez et al. 2024, arXiv:2310.02012, theorem 5 and figures 2, 3 and 5.
    """

    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        labels, samples = _log_norms(subject, self.select, generator)
        return _reading("weight_gradient_norm", "nats", labels, samples)


@final
@dataclass(frozen=True, kw_only=True)
class ExplosionRate(Probe):
    r"""Growth of gradients per layer, going back, over a stretch of layers that ends at each.

    .. math:: R_l = \frac{1}{k} \left( \log \left\| \frac{\partial L}{\partial W^{l - k}} \right\|_F -
              \log \left\| \frac{\partial L}{\partial W^l} \right\|_F \right)

    Positive where gradients explode. The source's equation 165 has the opposite sign, its figure E1 this one.

    Args:
        gap: k.
        select: layers, as in `WeightGradientNorm`; choose those of one shape, as norms go with shapes too.
        mode: "train" or "eval".

    Returns:
        Reading "explosion_rate", axes ("layer",), labeled by l, from the layer number k + 1 on; in nats per layer, with
        standard errors over batches. Not finite where one of the two is not.

    Raises:
        ValueError: there are not more than k layers.

    Source: Meterez et al. 2024, arXiv:2310.02012, appendix E.
    """

    gap: int = 10
    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        if isinstance(self.gap, bool) or not isinstance(self.gap, int) or self.gap < 1:
            raise ValueError(f"`gap` is a number of layers, at least 1, but {self.gap!r} arrived. Pass 10, say.")
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        layers = len(selected_weights(subject.model, self.select))
        if layers <= self.gap:
            raise ValueError(
                f"A rate over {self.gap} layers takes more than {self.gap} layers with weights, but "
                f"{type(subject.model).__name__} has {layers}. Pass a smaller gap."
            )
        labels, samples = _log_norms(subject, self.select, generator)
        rates = [(norms[: -self.gap] - norms[self.gap :]) / self.gap for norms in samples]
        return _reading("explosion_rate", "nats/layer", labels[self.gap :], rates)


@final
@dataclass(frozen=True, kw_only=True)
class GradientSymmetry(Probe):
    r"""How much of a gradient step turns a square weight, and how much bends it.

    .. math:: B = \frac{\partial L}{\partial W} W^\top, \qquad \left\| \tfrac12 (B + B^\top) \right\|_F, \quad
              \left\| \tfrac12 (B - B^\top) \right\|_F

    Of an orthogonal W the antisymmetric part is the gradient along the orthogonal group, which keeps W orthogonal to
    first order in the step; the symmetric part leads away from it. In a linear network with orthogonal weights and
    batch normalization without subtraction, once activations are isometric, the antisymmetric norm is the same in every
    layer, and the square of the symmetric one shrinks, going back a layer, by 2 / (d + 2) on average over weights.

    Args:
        select: the layers that a function of (name, module) chooses, or the "last" listed; all if None. Those that are
            not square, as (out, in * k * k) for a convolution, are left out.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_symmetry", axes ("part", "layer") with parts "symmetric" and "antisymmetric"; standard errors
        over batches. Norms are of the loss's unit: of W, in which B is linear, they are free of scale.

    Raises:
        ValueError: no chosen weight is square, or one is not a parameter but made of some.
    """

    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        squares = _square_weights(subject, self.select, seed=draw_seed(generator))
        stand_in = StandIn.of(subject, differentiate=frozenset(squares.values()))
        samples = []
        for batch in subject.batches():
            gradients = parameter_gradients(stand_in, batch, seed=draw_seed(generator))
            parts = [_parts(gradients[name], stand_in.parameters[name]) for name in squares.values()]
            samples.append(torch.stack(parts, dim=1))
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="gradient_symmetry",
            unit="1",
            axes=("part", "layer"),
            values=values,
            stderr=stderr,
            labels={"part": ("symmetric", "antisymmetric"), "layer": tuple(squares)},
        )


def _log_norms(subject: Subject, select: Select, generator: torch.Generator) -> tuple[tuple[str, ...], list[Tensor]]:
    """The layers and, for each batch, the log norm of the gradient by each."""
    layers = selected_weights(subject.model, select)
    stand_in = StandIn.of(subject, differentiate=frozenset(name for names in layers.values() for name in names))
    samples = []
    for batch in subject.batches():
        gradients = parameter_gradients(stand_in, batch, seed=draw_seed(generator))
        samples.append(torch.stack([log_norm(*(gradients[name] for name in names)) for names in layers.values()]))
    return tuple(layers), samples


def _reading(name: str, unit: str, labels: tuple[str, ...], samples: list[Tensor]) -> Reading:
    values, stderr = mean_over_batches(samples)
    return Reading(name=name, unit=unit, axes=("layer",), values=values, stderr=stderr, labels={"layer": labels})


def _square_weights(subject: Subject, select: Select, *, seed: int) -> dict[str, str]:
    """Names of the parameters that are square as matrices, by layer."""
    layers = selected_weights(subject.model, select)
    squares = {}
    for label, weight in weight_matrices(StandIn.of(subject), layers, seed=seed).items():
        if weight.shape[0] != weight.shape[1]:
            continue
        # A layer without an attribute `weight` gives parameters by their names.
        names = layers.get(label, (label,))
        made = label in layers and [name.rpartition(".")[2] for name in names] != ["weight"]
        if made:
            raise ValueError(
                f"A gradient is split where the weight is a parameter, but {label!r} makes its weight of "
                f"{', '.join(names)}. Leave it out by select=lambda name, module: ..."
            )
        (squares[label],) = names
    if not squares:
        raise ValueError(
            f"A gradient is split where the weight is square, but {', '.join(layers)} have none that is. "
            "Measure a network of one width."
        )
    return squares


def _parts(gradient: Tensor, weight: Tensor) -> Tensor:
    """Frobenius norms of the symmetric and the antisymmetric part of (dL/dW) Wᵀ: (2,), float64."""
    largest = gradient.abs().amax().double()
    product = unit_scale(gradient.flatten(1)) @ weight.detach().flatten(1).double().mT
    halves = torch.stack([product + product.mT, product - product.mT]) / 2
    return largest * halves.square().sum((1, 2)).sqrt()
