from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from normscope.train import adam, adamw, optimizer, parameter_groups, sgd


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


def stepped(model: nn.Linear, chosen: torch.optim.Optimizer, steps: int) -> list[float]:
    """Weights after each step on the loss w^3 / 3, whose gradient w^2 differs from step to step."""
    weights = []
    for _ in range(steps):
        chosen.zero_grad()
        model.weight.pow(3).sum().div(3).backward()
        chosen.step()
        weights.append(model.weight.item())
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_and_adamw_are_their_formula(decay):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 2.0)
    options = {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3}
    made = adamw(model, lr=0.1, weight_decay=decay, **options) if decay else adam(model, lr=0.1, **options)
    weight, mean, square, expected = 2.0, 0.0, 0.0, []
    for step in (1, 2, 3):
        gradient = weight**2
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        weight -= 0.1 * decay * weight
        weight -= 0.1 * (mean / (1 - 0.8**step)) / (math.sqrt(square / (1 - 0.9**step)) + 1e-3)
        expected.append(weight)
    assert stepped(model, made, 3) == pytest.approx(expected, abs=1e-14)


def test_adamw_decays_kernels_alone_and_apart_from_the_gradient():
    model = nn.Linear(1, 1).double()
    nn.init.constant_(model.weight, 2.0)
    nn.init.constant_(model.bias, 2.0)
    made = adamw(model, lr=0.1, weight_decay=0.5)
    (model.weight.sum() * 0 + model.bias.sum() * 0).backward()
    made.step()
    assert model.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5), abs=1e-15)
    assert model.bias.item() == 2.0


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("sgd", {"momentum": 0.5, "nesterov": False, "weight_decay": 0.1}, torch.optim.SGD),
        ("adam", {"beta1": 0.5, "beta2": 0.6, "eps": 1e-3}, torch.optim.Adam),
        ("adamw", {"beta1": 0.5, "beta2": 0.6, "eps": 1e-3, "weight_decay": 0.1}, torch.optim.AdamW),
    ],
)
def test_an_optimizer_is_found_by_name_with_its_options(name, options, kind):
    made = optimizer(nn.Linear(2, 2), name, 0.3, **options)
    assert type(made) is kind
    decays = [group["weight_decay"] for group in made.param_groups]
    assert decays == [options.get("weight_decay", 0.0), 0.0]
    for group in made.param_groups:
        assert group["lr"] == 0.3
        if "beta1" in options:
            assert (group["betas"], group["eps"]) == ((0.5, 0.6), 1e-3)
        else:
            assert (group["momentum"], group["nesterov"]) == (0.5, False)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("adamm", {}, r"optimizer must be one of sgd, adam, adamw, got 'adamm'. Did you mean adam or adamw\?"),
        ("lion", {}, "must be one of sgd, adam, adamw, got 'lion'.$"),
        (
            "sgd",
            {"momentun": 0.9},
            "sgd has no option 'momentun'. Did you mean momentum\\? It takes momentum",
        ),
        ("adam", {"weight_decay": 0.1}, "adam has no option 'weight_decay'. sgd and adamw have it. It takes beta1, be"),
        ("sgd", {"momentum": "0.9"}, "option momentum of optimizer sgd must be a number, got '0.9'"),
        ("sgd", {"momentum": True}, "must be a number, got True"),
        ("sgd", {"nesterov": 1}, "option nesterov of optimizer sgd must be true or false, got 1"),
        ("adam", {"beta1": 1.0}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ("adamw", {"beta2": -0.1}, r"beta2 must lie in \[0, 1\), got -0.1"),
        ("adamw", {"eps": 0.0}, "eps must be positive and finite, got 0.0"),
        ("adamw", {"weight_decay": math.inf}, "weight_decay must be zero or positive, got inf"),
    ],
)
def test_unknown_optimizers_and_options_are_refused(name, options, match):
    with pytest.raises(ValueError, match=match):
        optimizer(nn.Linear(1, 1), name, 0.1, **options)


@pytest.mark.parametrize("make", [adam, adamw])
def test_their_learning_rate_must_be_positive(make):
    with pytest.raises(ValueError, match="learning rate must be positive and finite, got 0"):
        make(nn.Linear(1, 1), lr=0.0)
