from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from normscope.train import parameter_groups, sgd


def test_only_kernels_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    decayed, others = parameter_groups(model, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3), (2, 4)]
    assert {p.ndim for p in others["params"]} == {1}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out_and_shared_ones_counted_once():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    (group,) = parameter_groups(nn.Sequential(layer, layer), 0.0)
    assert len(group["params"]) == 1
    assert group["params"][0] is layer.weight


@pytest.mark.parametrize("nesterov", [True, False])
def test_two_steps_are_those_of_the_formula(nesterov):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    optimizer = sgd(model, lr=0.1, momentum=0.5, nesterov=nesterov, weight_decay=0.3)
    weight, velocity = 2.0, None
    for _ in range(2):
        optimizer.zero_grad()
        model.weight.square().sum().div(2).backward()  # gradient w
        optimizer.step()
        gradient = weight + 0.3 * weight
        velocity = gradient if velocity is None else 0.5 * velocity + gradient
        weight -= 0.1 * (gradient + 0.5 * velocity if nesterov else velocity)
        assert model.weight.item() == pytest.approx(weight, abs=1e-15)


def test_without_momentum_it_is_plain_gradient_descent():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    optimizer = sgd(model, lr=0.5, momentum=0.0)
    model.weight.sum().backward()
    optimizer.step()
    assert model.weight.item() == 1.5


@pytest.mark.parametrize("lr", [0.0, -0.1, math.nan, math.inf])
def test_the_learning_rate_must_be_positive(lr):
    with pytest.raises(ValueError, match="learning rate must be positive and finite, got"):
        sgd(nn.Linear(1, 1), lr=lr)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), got 1.0"):
        sgd(nn.Linear(1, 1), lr=0.1, momentum=1.0)
    with pytest.raises(ValueError, match="weight_decay must be zero or positive, got -1"):
        parameter_groups(nn.Linear(1, 1), -1)
    with pytest.raises(ValueError, match="ReLU has no parameter to train"):
        parameter_groups(nn.ReLU(), 0.0)
    assert isinstance(sgd(nn.Linear(1, 1), lr=0.1), torch.optim.SGD)
