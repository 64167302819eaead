"""Is a product right? Finite differences of gradients in float64, and symmetry, on a few examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from normscope.curvature.backward import pull_back_or_zero
from normscope.curvature.machinery import GGN, Kind
from normscope.curvature.parameters import Layout
from normscope.curvature.products import Product, differentiable_outputs
from normscope.curvature.risk import Risk, gradient

# Relative. A right product misses finite differences by rounding over the step, which the best of the steps keeps near
# 1e-7; a rule that is wrong misses them by percents.
TOLERANCE = 1e-3
SYMMETRY_TOLERANCE = 1e-4
# Relative to the parameters. Small first: no unit of a piecewise linear network may change sides within the step. The
# smallest come last, since they leave few digits: networks with a million units have one that near to its kink.
_STEPS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-10, 1e-11)
# No step is small enough where a unit is on its kink itself, as behind a dead patch with a bias of zero: differences
# are then taken this far off in every coordinate, relative to the parameters' root mean square, by the same rules.
_MOVES = (0.0, 1e-3, 2e-3)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """How far a product is from finite differences, and from symmetry.

    Attributes:
        finite_difference: ‖Hv - (g(θ + εv) - g(θ - εv)) / 2ε‖ / ‖Hv‖ for the best of several steps ε.
        symmetry: |<u, Hv> - <v, Hu>| / (‖u‖ ‖Hv‖ + ‖v‖ ‖Hu‖).
        examples: how many examples it was checked on.
        worst: the parameter with the largest share of the error.
        moved: how far from the parameters both were found, relative to their root mean square: 0, unless the gradient
            jumps where they are.
    """

    finite_difference: float
    symmetry: float
    examples: int
    worst: str
    moved: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether both are within tolerance."""
        return self.finite_difference <= TOLERANCE and self.symmetry <= SYMMETRY_TOLERANCE


@final
class Checker:
    """Compares products of one risk with finite differences, which are computed once."""

    def __init__(self, kind: Kind, risk: Risk, *, examples: int) -> None:
        self._kind, self._risk, self._examples = kind, risk, examples
        self._places: dict[float, _Place] = {}

    def __call__(self, prepare: Callable[[Risk], Product]) -> Check:
        """Check the product that is prepared for the risk; near by where it fails on finite differences alone.

        A wrong rule is wrong near by too. A product that is not finite, or not symmetric, is looked at no further.
        """
        first = self._check(prepare, _MOVES[0])
        if first.passed or not math.isfinite(first.finite_difference) or first.symmetry > SYMMETRY_TOLERANCE:
            return first
        near = (self._check(prepare, move) for move in _MOVES[1:])
        return next((check for check in near if check.passed), first)

    def _check(self, prepare: Callable[[Risk], Product], move: float) -> Check:
        if move not in self._places:
            risk = self._risk.moved(_shifted(self._risk.values, move)) if move else self._risk
            self._places[move] = _Place(self._kind, risk)
        place = self._places[move]
        symmetry, error, worst = place.compare(prepare(place.risk))
        return Check(finite_difference=error, symmetry=symmetry, examples=self._examples, worst=worst, moved=move)


class _Place:
    """A risk where its parameters are, with two directions and the finite differences along the second."""

    def __init__(self, kind: Kind, risk: Risk) -> None:
        self.risk = risk
        self._reference = _ggn_difference if kind is GGN else _hessian_difference
        generator = torch.Generator().manual_seed(1)
        self._u, self._v = (_direction(risk.values, generator) for _ in range(2))
        self._differences: dict[float, list[Tensor]] = {}

    def compare(self, product: Product) -> tuple[float, float, str]:
        """Asymmetry, relative error for the best step, and the parameter with the largest share of it."""
        Hu, Hv = product(self._u), product(self._v)
        u, v, hu, hv = map(Layout.flatten, (self._u, self._v, Hu, Hv))
        scale = float(u.norm() * hv.norm() + v.norm() * hu.norm())
        symmetry = 0.0 if scale == 0 else float((u @ hv - v @ hu).abs()) / scale
        return symmetry, *self._error(Hv)

    def _error(self, Hv: Sequence[Tensor]) -> tuple[float, str]:
        best, worst = float("inf"), self.risk.layout.names[0]
        for step in _STEPS:
            difference = self._difference(step)
            errors = [float((a - b).norm()) for a, b in zip(Hv, difference, strict=True)]
            size = max(float(Layout.flatten(Hv).norm()), float(Layout.flatten(difference).norm()))
            total = math.hypot(*errors)
            relative = 0.0 if total == 0 else total / size
            if relative < best:
                best, worst = relative, self.risk.layout.names[errors.index(max(errors))]
            if best < TOLERANCE / 100:
                break
        return best, worst

    def _difference(self, step: float) -> list[Tensor]:
        if step not in self._differences:
            values = self.risk.values
            unit = max(float(Layout.flatten(values).norm()), 1.0) / float(Layout.flatten(self._v).norm())
            self._differences[step] = self._reference(self.risk, self._v, step * unit)
        return self._differences[step]


def _shifted(values: Sequence[Tensor], move: float) -> list[Tensor]:
    """The parameters, each coordinate moved by a normal number times `move` times their root mean square."""
    flat = Layout.flatten(values)
    scale = move * float(flat.norm()) / math.sqrt(flat.numel())
    return _moved(values, _direction(values, torch.Generator().manual_seed(2)), scale)


def _hessian_difference(risk: Risk, v: Sequence[Tensor], step: float) -> list[Tensor]:
    ahead, behind = (gradient(risk, _moved(risk.values, v, sign * step)) for sign in (1, -1))
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def _ggn_difference(risk: Risk, v: Sequence[Tensor], step: float) -> list[Tensor]:
    r"""J'uᵀ by a backward pass, u the difference of the loss's slopes along Jv, itself a difference of outputs."""
    leaves = [value.detach().requires_grad_() for value in risk.values]

    def outputs_at(values: Sequence[Tensor]) -> list[Tensor]:
        return risk.call([value.requires_grad_() for value in values], lambda m: differentiable_outputs(risk, m)[0])

    ahead, behind = (outputs_at(_moved(risk.values, v, sign * step)) for sign in (1, -1))
    pushed = [(a.detach() - b.detach()) / (2 * step) for a, b in zip(ahead, behind, strict=True)]

    def work(model: nn.Module) -> list[Tensor]:
        outputs, rebuild = differentiable_outputs(risk, model)

        def slopes(sign: int) -> list[Tensor]:
            points = [(o.detach() + sign * step * p).requires_grad_() for o, p in zip(outputs, pushed, strict=True)]
            return pull_back_or_zero([risk.loss_of(rebuild(points))], points)

        curved = [(a - b) / (2 * step) for a, b in zip(slopes(1), slopes(-1), strict=True)]
        return pull_back_or_zero(outputs, leaves, curved)

    return risk.call(leaves, work)


def _moved(values: Sequence[Tensor], v: Sequence[Tensor], step: float) -> list[Tensor]:
    return [value + step * direction for value, direction in zip(values, v, strict=True)]


def _direction(values: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device) for value in values]
