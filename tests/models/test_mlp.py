from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import MLP
from normscope.nn import normalizer, normalizers

from .standin import StandIn, sites


def mlp(generator, **changes):
    arguments = {"depth": 3, "width": 16, "normalizer": StandIn(), "generator": generator}
    return MLP(12, 5, **(arguments | changes))


def test_depth_is_the_number_of_sites_and_every_affine_layer_was_shown_to_the_normalizer(seeded):
    row = StandIn()
    model = mlp(seeded(0), normalizer=row, depth=4)
    assert len(sites(model)) == 4
    assert row.seen == [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(row.seen) == 5
    assert row.before == []


def test_the_output_is_the_formula(seeded):
    model = mlp(seeded(0), depth=1, activation=torch.tanh).double()
    x = torch.randn(7, 3, 4, generator=seeded(1), dtype=torch.float64)
    z = x.reshape(7, 12) @ model.affines[0].weight.T
    expected = torch.tanh(z / (z.square().mean(1, keepdim=True) + 1e-5).sqrt()) @ model.readout.weight.T
    torch.testing.assert_close(model(x), expected)


def test_initial_variances_are_two_and_one_over_fan_in(seed, seeded):
    model = mlp(seeded(seed), width=200, depth=2)
    for layer, gain in ((model.affines[1], 2.0), (model.readout, 1.0)):
        n = layer.weight.numel()
        scaled = layer.weight.square().mean().item() * layer.in_features / gain
        assert abs(scaled - 1) < 4 * math.sqrt(2 / n)
        assert layer.bias.abs().max() == 0


def test_unnormalized_relu_layers_keep_the_second_moment(seeded):
    model = mlp(seeded(0), normalizer=normalizer("none"), width=1024, depth=6)
    moments = []
    for norm in model.norms:
        norm.register_forward_hook(lambda _m, _x, y: moments.append(y.square().mean().item()))
    model(torch.randn(64, 12, generator=seeded(1)))
    assert moments == pytest.approx([2.0] * 6, rel=0.15)  # E[x^2] = 1 in gives 2 everywhere


def test_weights_come_from_the_generator_alone(seeded):
    before = torch.get_rng_state()
    one, two, other = mlp(seeded(5)), mlp(seeded(5)), mlp(seeded(6))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.readout.weight, other.readout.weight)


def test_two_normalizers_start_from_the_same_weights(seeded):
    one = mlp(seeded(0), normalizer=normalizer("batchnorm"))
    two = mlp(seeded(0), normalizer=normalizer("prelayernorm"))
    assert torch.equal(one.affines[2].weight, two.affines[2].weight)


def test_bias_false_removes_the_hidden_biases_only(seeded):
    model = mlp(seeded(0), bias=False)
    assert all(layer.bias is None for layer in model.affines)
    assert model.readout.bias is not None


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = mlp(seeded(0), normalizer=row)
    x = torch.randn(9, 12, generator=seeded(1))
    F.cross_entropy(model(x), torch.arange(9) % 5).backward()
    assert len(sites(model)) == 3
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["depth", "width"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_sizes_must_be_positive_integers(name, value, seeded):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value!r}"):
        mlp(seeded(0), **{name: value})


def test_an_input_of_another_size_is_refused_with_the_remedy(seeded):
    with pytest.raises(ValueError, match=r"takes 12 features per example, got 13\. Build it with in_features=13"):
        mlp(seeded(0))(torch.zeros(2, 13))
