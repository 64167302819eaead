from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch

from .networks import draw

WIDE = 1_000_000


def activation(name: str, features: int = 5, channel_dim: int = 1, *, seed: int = 0, **options) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    switched = switches.apply(ns.normalizer("none"), [switch(name, **options)], generator=generator)
    assert switched.activation_factory is not None
    return switched.activation_factory(features, channel_dim).double()


SHAPES = [((6, 5), 1), ((4, 3, 5), 2), ((4, 3, 5), -1), ((4, 5, 3, 2), 1), ((4, 3, 2, 5), -1)]


@pytest.mark.parametrize(("shape", "channel_dim"), SHAPES)
def test_a_sign_belongs_to_a_channel(shape, channel_dim):
    module = activation("signed_relu", channel_dim=channel_dim)
    x = draw(*shape)
    expected = (x.movedim(channel_dim, -1).relu() * module.sign).movedim(-1, channel_dim)
    torch.testing.assert_close(module(x), expected)


def test_signs_are_fixed_and_fair_and_differ_by_layer_and_seed():
    generator = torch.Generator().manual_seed(0)
    switched = switches.apply(ns.normalizer("none"), [switch("signed_relu")], generator=generator)
    first, second = (switched.activation_factory(4000, 1).sign for _ in range(2))
    assert set(first.tolist()) == {-1.0, 1.0}
    assert abs(first.mean().item()) < 4 / math.sqrt(4000)
    assert not torch.equal(first, second)
    assert torch.equal(activation("signed_relu", 4000).sign, first.double())
    assert not torch.equal(activation("signed_relu", 4000, seed=1).sign, first.double())


def test_the_shift_is_the_mean_of_a_rectified_gaussian():
    x = draw(WIDE)
    y = activation("signed_relu", kind="mean_shifted")(x)
    torch.testing.assert_close(y, x.relu() - 1 / math.sqrt(2 * math.pi))
    assert abs(y.mean().item()) < 4 * y.std().item() / math.sqrt(WIDE)


@pytest.mark.parametrize(("shape", "channel_dim"), SHAPES)
def test_the_thresholded_unit_is_a_maximum_per_channel(shape, channel_dim):
    module = activation("tlu", channel_dim=channel_dim)
    with torch.no_grad():
        module.threshold.copy_(draw(5, seed=1))
    x = draw(*shape)
    expected = torch.maximum(x.movedim(channel_dim, -1), module.threshold).movedim(-1, channel_dim)
    torch.testing.assert_close(module(x), expected)


def test_at_threshold_zero_it_is_relu_in_value_and_gradient_at_zero_too():
    module = activation("tlu")
    x = torch.cat([draw(6, 5), torch.zeros(1, 5, dtype=torch.float64)]).requires_grad_()
    assert torch.equal(module(x), F.relu(x))
    got, want = (torch.autograd.grad(f(x).sin().sum(), x)[0] for f in (module, F.relu))
    assert torch.equal(got, want)


def test_the_threshold_learns_from_what_is_below_it():
    module = activation("tlu")
    with torch.no_grad():
        module.threshold.copy_(draw(5, seed=1))

    def function(x: Tensor, threshold: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"threshold": threshold}, (x,))

    inputs = (draw(6, 5).requires_grad_(), module.threshold.detach().clone().requires_grad_())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_a_diverged_value_goes_through():
    x = torch.full((2, 5), torch.nan, dtype=torch.float64)
    assert activation("tlu")(x).isnan().all()
    assert activation("signed_relu")(x).isnan().all()


def slope(module: nn.Module) -> float:
    """Of the cosine map at 1, through a layer of a million units: (1 - c') / (1 - c) for close inputs.

    u and v are two inputs' preactivations with unit root mean square, as a layer normalization leaves them.
    """
    u = draw(1, WIDE)
    v = u + 1e-3 * draw(1, WIDE, seed=1)
    u, v = (x / x.square().mean().sqrt() for x in (u, v))
    with torch.no_grad():
        y, z = module(u), module(v)
    return ((1 - F.cosine_similarity(y, z)) / (1 - F.cosine_similarity(u, v))).item()


def rectified(threshold: float) -> float:
    """E[f'(u)^2] / E[f(u)^2] of f = max(u, threshold) under a standard Gaussian, in closed form."""
    below = 0.5 * (1 + math.erf(threshold / math.sqrt(2)))
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    return (1 - below) / (threshold**2 * below + (1 - below) + threshold * density)


@pytest.mark.parametrize(("threshold", "chi"), [(0.0, 1.0), (-0.5, 1.17), (-1.0, 1.11)])
def test_the_slope_of_the_thresholded_unit_is_that_of_mean_field_theory(threshold, chi):
    module = activation("tlu", WIDE)
    nn.init.constant_(module.threshold, threshold)
    assert slope(module) == pytest.approx(rectified(threshold), rel=0.01)
    assert round(rectified(threshold), 2) == chi


def test_shifting_the_mean_is_as_chaotic_as_batch_norm_and_signs_are_not():
    assert slope(activation("signed_relu", kind="mean_shifted")) == pytest.approx(math.pi / (math.pi - 1), rel=0.01)
    assert slope(activation("signed_relu", WIDE)) == pytest.approx(1.0, rel=0.01)
