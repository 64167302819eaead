"""Badges on derivatives in float64: first, second, and the Hessian products of `normscope.curvature`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from normscope.curvature import HessianOperator
from normscope.isolation import Mode
from normscope.nn import Penalised, normalizer
from normscope.trust.bench import Bench
from normscope.trust.outcome import Badge, Finding, Outcome, inapplicable, judged
from normscope.trust.specimen import Layout, Row, as_function, block, draw, layouts_taken, loss_of

_STEP = 1e-5
# Central differences at that step are right to step^2 times a third derivative, and to rounding over the step.
_BOUND = 1e-6
_DIRECTIONS = 3


def _exact(check: Callable[[Row, Bench], Outcome]) -> Callable[[Row, Bench], Outcome]:
    """Look at a surrogate row's true derivative instead, where it has one, and say that the badge is not the row's."""

    @functools.wraps(check)
    def checked(row: Row, bench: Bench) -> Outcome:
        if not getattr(row, "surrogate_backward", None):
            return check(row, bench)
        reason = "its backward is a surrogate by definition"
        if "derivative" not in getattr(row, "options", {}):
            return inapplicable(reason)
        outcome = check(cast(Row, normalizer(row.name, derivative="true")), bench)
        return inapplicable(f"{reason}; with derivative='true' {outcome}") if outcome.state == "passed" else outcome

    return checked


@_exact
def _first(row: Row, bench: Bench) -> Outcome:
    return judged(_findings(row, bench, order=1), _BOUND)


@_exact
def _second(row: Row, bench: Bench) -> Outcome:
    return judged(_findings(row, bench, order=2), _BOUND)


def _findings(row: Row, bench: Bench, *, order: int) -> Iterator[Finding]:
    for layout in layouts_taken(row, device=bench.device):
        for mode in _modes(row, layout, bench):
            function, parameters = as_function(block(row, layout, device=bench.device).train(mode == "train"))
            inputs = [draw(layout.into, 7, device=bench.device).requires_grad_(), *parameters]
            where = f"{layout.name}, {mode} mode"
            yield Finding(difference(function, inputs, order=order), where)
            # Torch's own verdict too, at its own tolerances: it raises what it finds.
            (gradcheck if order == 1 else gradgradcheck)(function, inputs)


def _modes(row: Row, layout: Layout, bench: Bench) -> tuple[Mode, ...]:
    """Train mode, and eval mode where buffers could make it another function."""
    return ("train", "eval") if list(block(row, layout, device=bench.device).buffers()) else ("train",)


def difference(function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor], *, order: int) -> float:
    """How far the gradient of a random combination of outputs (order 2: of gradients) is from central differences.

    Along some random directions, relative to the gradient's largest entry where that is above 1.
    """

    def combined(*tensors: Tensor) -> Tensor:
        outputs: Sequence[Tensor] = function(*tensors)
        if order == 2:
            outputs = torch.autograd.grad(_combination(outputs, 40), tensors, create_graph=True, materialize_grads=True)
        return _combination(outputs, 60)

    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = combined(*leaves)
    gradient = [torch.zeros_like(leaf) for leaf in leaves]
    if value.requires_grad:  # a function whose gradient is constant has no graph of it
        gradient = list(torch.autograd.grad(value, leaves, materialize_grads=True))
    scale, errors = max(1.0, *(float(part.abs().max()) for part in gradient)), []
    for seed in range(_DIRECTIONS):
        directions = [draw(tuple(leaf.shape), 80 + 10 * seed + i, device=leaf.device) for i, leaf in enumerate(leaves)]
        ends = []
        for sign in (1, -1):
            moved = [leaf.detach() + sign * _STEP * v for leaf, v in zip(leaves, directions, strict=True)]
            ends.append(combined(*(tensor.requires_grad_() for tensor in moved)).detach())
        slope = sum(float((part * v).sum()) for part, v in zip(gradient, directions, strict=True))
        errors.append(abs(float(ends[0] - ends[1]) / (2 * _STEP) - slope) / scale)
    return max(errors, key=lambda error: math.inf if math.isnan(error) else error)


def _combination(tensors: Sequence[Tensor], seed: int) -> Tensor:
    terms = [
        (tensor * draw(tuple(tensor.shape), seed + i, device=tensor.device)).sum() for i, tensor in enumerate(tensors)
    ]
    return torch.stack(terms).sum()


@_exact
def _hessian(row: Row, bench: Bench) -> Outcome:
    def findings() -> Iterator[Finding]:
        for layout in layouts_taken(row, device=bench.device):
            for mode in _modes(row, layout, bench):
                yield from _products(row, layout, bench, mode)

    return judged(findings(), _BOUND)


def _products(row: Row, layout: Layout, bench: Bench, mode: Mode) -> Iterator[Finding]:
    """Some products with the Hessian of a curved loss, penalty included, beside differences of gradients."""
    model = Penalised(block(row, layout, device=bench.device)).train(mode == "train")
    x, t = draw(layout.into, 7, device=bench.device), draw(layout.out, 8, device=bench.device)
    operator = HessianOperator(model, loss_of, (x, t), mode=mode)
    names, values = zip(*((name, p.detach()) for name, p in model.named_parameters()), strict=True)

    def gradient(vector: Tensor) -> Tensor:
        leaves = [part.clone().requires_grad_() for part in _like(vector, values)]
        state = dict(zip(names, leaves, strict=True)) | {k: b.clone() for k, b in model.named_buffers()}
        loss = loss_of(torch.func.functional_call(model, state, (x,)), t)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, leaves, materialize_grads=True)])

    start = torch.cat([value.flatten() for value in values])
    for seed in range(_DIRECTIONS):
        v = draw((operator.size,), 30 + seed, device=bench.device)
        expected = (gradient(start + _STEP * v) - gradient(start - _STEP * v)) / (2 * _STEP)
        product = operator.matvec(operator.flatten(dict(zip(names, _like(v, values), strict=True))))
        found = torch.cat([operator.split(product)[name].flatten() for name in names])
        error = float((found - expected).norm() / expected.norm().clamp(min=1e-3))
        yield Finding(error, f"{layout.name}, {mode} mode")


def _like(vector: Tensor, values: Sequence[Tensor]) -> list[Tensor]:
    parts: Sequence[Tensor] = torch.split(vector, [value.numel() for value in values])
    return [part.view_as(value) for part, value in zip(parts, values, strict=True)]


GRADCHECK = Badge(
    name="gradcheck",
    says="first derivatives by input and parameters equal central differences in float64; torch's gradcheck agrees",
    check=_first,
)
GRADGRADCHECK = Badge(
    name="gradgradcheck",
    says="second derivatives equal central differences of first ones in float64; torch's gradgradcheck agrees",
    check=_second,
)
HESSIAN = Badge(
    name="hessian",
    says="Hessian products of a curved loss equal central differences of float64 gradients, relative error",
    check=_hessian,
)
