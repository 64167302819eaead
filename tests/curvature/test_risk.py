from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from curvature import zoo
from curvature.oracles import Function, assert_close_to
from normscope.curvature.parameters import Layout
from normscope.curvature.risk import Risk, gradient, loss
from normscope.subject import Batch, Subject


def risk_of(model: nn.Module, batch: Batch | None = None, *, mode: str = "train", **options: object) -> Risk:
    subject = Subject(model, F.cross_entropy, batch or zoo.features())
    return Risk.of(subject, Layout.of(model, None), mode=mode, dtype=torch.float64, **options)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_loss_and_gradient_are_the_models(mode: str) -> None:
    model = zoo.randomized(nn.Sequential(nn.Dropout(0.5), zoo.mlp(nn.BatchNorm1d)))
    function = Function(model, F.cross_entropy, zoo.features(), mode=mode)

    risk = risk_of(model, mode=mode)

    assert loss(risk) == pytest.approx(float(function.loss(function.theta)), rel=1e-14)
    assert_close_to(Layout.flatten(gradient(risk)), function.gradient(function.theta), tolerance=1e-13)


def test_a_gradient_elsewhere_is_that_of_the_model_moved_there() -> None:
    model = zoo.randomized(zoo.mlp(nn.SiLU))
    risk, moved = risk_of(model), risk_of(model)
    values = [value + 0.1 for value in risk.values]
    for value in moved.values:
        value.add_(0.1)
    assert torch.equal(Layout.flatten(gradient(risk, values)), Layout.flatten(gradient(moved)))


def test_a_model_that_draws_is_a_fixed_function() -> None:
    risk = risk_of(zoo.randomized(zoo.Noisy()))
    assert loss(risk) == loss(risk)


def test_each_evaluation_starts_from_the_same_buffers() -> None:
    """A first training batch would otherwise change what the second is normalized by."""

    class Drifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.layer(x) * self.count

    model = Drifting().double()
    risk = risk_of(model)
    first = loss(risk)
    model.count.fill_(5.0)
    assert loss(risk) == first
    assert model.count == 5


def test_the_regularizer_is_added() -> None:
    model = zoo.randomized(zoo.mlp())
    plain, with_term = risk_of(model), risk_of(model, regularizer=lambda m: 3 * m[0].bias.sum())
    assert loss(with_term) == pytest.approx(loss(plain) + 3 * model[0].bias.sum().item())


def test_a_loss_that_is_not_finite_is_refused() -> None:
    x, y = zoo.features()
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="where the loss is finite, but it is nan"):
        gradient(risk_of(zoo.mlp(), (x, y)))


def test_a_gradient_that_is_not_finite_is_refused_by_name() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.layer(x) * 0).sqrt()

    with pytest.raises(ValueError, match=r"where the gradient is finite, but that of layer\.weight is not"):
        gradient(risk_of(Root()))


def test_a_parameter_without_a_gradient_is_refused_by_name() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).detach()

    with pytest.raises(ValueError, match=r"layer\.weight gets no gradient.*detach\(\) or no_grad"):
        gradient(risk_of(Detached()))
