from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature import zoo
from curvature.test_risk import risk_of
from normscope.curvature.check import Check, Checker
from normscope.curvature.machinery import GGN, HESSIAN, Kind
from normscope.curvature.products import Product, leaves_of
from normscope.curvature.risk import Risk

Spoil = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


def checked(kind: Kind, spoil: Spoil) -> Check:
    risk = risk_of(zoo.randomized(zoo.mlp(nn.LayerNorm)))

    def prepare(at: Risk) -> Product:
        right = kind.reverse(at, leaves_of(at.values))
        return lambda v: spoil(right(v), list(v))

    return Checker(kind, risk, examples=6)(prepare)


def by_reverse(risk: Risk) -> Product:
    return HESSIAN.reverse(risk, leaves_of(risk.values))


@pytest.mark.parametrize("kind", [HESSIAN, GGN], ids=lambda kind: kind.name)
def test_a_right_product_passes_by_a_wide_margin(kind: Kind) -> None:
    check = checked(kind, lambda product, v: product)
    assert check.passed
    assert check.finite_difference < 1e-5
    assert check.symmetry < 1e-14
    assert check.examples == 6


SPOILED: dict[str, Spoil] = {
    "scaled": lambda product, v: [1.01 * part for part in product],
    "shifted": lambda product, v: [part + 0.01 * direction for part, direction in zip(product, v, strict=True)],
    "one_parameter_dropped": lambda product, v: [*product[:-1], torch.zeros_like(product[-1])],
    "zero": lambda product, v: [torch.zeros_like(part) for part in product],
    "not_finite": lambda product, v: [torch.full_like(part, torch.nan) for part in product],
}


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("kind", [HESSIAN, GGN], ids=lambda kind: kind.name)
def test_a_wrong_product_fails(kind: Kind, name: str) -> None:
    assert not checked(kind, SPOILED[name]).passed


def test_the_parameter_with_the_largest_error_is_named() -> None:
    check = checked(HESSIAN, lambda product, v: [*product[:2], product[2] + v[2], *product[3:]])
    assert check.worst == "1.weight"


def test_a_product_that_is_not_symmetric_fails_on_symmetry_alone() -> None:
    check = Check(finite_difference=0.0, symmetry=1e-3, examples=1, worst="weight")
    assert not check.passed
    lopsided = checked(
        HESSIAN,
        lambda product, v: [
            part + 0.1 * d.flip(0) * torch.arange(len(d)).view(-1, *[1] * (d.ndim - 1))
            for part, d in zip(product, v, strict=True)
        ],
    )
    assert lopsided.symmetry > 1e-4


def test_a_kink_within_the_larger_steps_does_no_harm() -> None:
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)))
    x, y = zoo.features()
    with torch.no_grad():  # a unit that is active by a hair on one example
        model[0].bias[0] -= model[0](x)[0, 0] - 1e-6
    risk = risk_of(model, (x, y))
    assert Checker(HESSIAN, risk, examples=6)(by_reverse).passed


@pytest.mark.parametrize("kind", [HESSIAN, GGN], ids=lambda kind: kind.name)
def test_units_on_their_kinks_are_checked_near_by(kind: Kind) -> None:
    """As behind dead patches and biases of zero: every input of the second ReLU is exactly zero on one example."""
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)))
    x, y = zoo.features()
    with torch.no_grad():
        model[0].bias.zero_()
        model[2].bias.zero_()
        x[0] = 0
    risk = risk_of(model, (x, y))

    def wrong(at: Risk) -> Product:
        right = kind.reverse(at, leaves_of(at.values))
        return lambda v: [1.01 * part for part in right(v)]

    check = Checker(kind, risk, examples=6)(lambda at: kind.reverse(at, leaves_of(at.values)))
    assert check.passed
    assert check.moved == 1e-3
    assert not Checker(kind, risk, examples=6)(wrong).passed


def test_a_kink_nearer_than_the_usual_steps_does_no_harm() -> None:
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)))
    x, y = zoo.features()
    with torch.no_grad():
        model[0].bias[0] -= model[0](x)[0, 0] - 1e-10
    check = Checker(HESSIAN, risk_of(model, (x, y)), examples=6)(by_reverse)
    assert check.passed
    assert check.moved == 0


def test_a_matrix_of_zeros_passes() -> None:
    model = zoo.randomized(nn.Sequential(nn.Linear(4, 3)))
    risk = risk_of(model)
    zero = risk_of(model, (zoo.features()[0] * 0, zoo.features()[1]))
    assert F.cross_entropy(model(zoo.features()[0] * 0), zoo.features()[1]) > 0
    for one in (risk, zero):
        assert Checker(HESSIAN, one, examples=6)(by_reverse).passed
