from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import DeepMLP, deep_mlp
from normscope.nn import normalizer, normalizers

from .standin import StandIn, sites


def network(generator, **changes):
    arguments = {"depth": 3, "width": 16, "normalizer": StandIn(), "generator": generator}
    return DeepMLP(12, 5, **(arguments | changes))


def identity_error(weight):
    """Largest entry of W Wᵀ - I, or of Wᵀ W - I where W is tall."""
    wide = weight.detach().double()
    wide = wide if len(wide) <= wide.shape[1] else wide.T
    return (wide @ wide.T - torch.eye(len(wide), dtype=torch.float64)).abs().max().item()


def test_depth_is_the_number_of_sites_and_every_affine_layer_was_shown_to_the_normalizer(seeded):
    row = StandIn()
    model = network(seeded(0), normalizer=row, depth=4)
    assert len(sites(model)) == len(model.affines) == 4
    assert row.seen == [*model.affines, model.readout]
    assert row.before == []


def test_the_output_is_the_formula(seeded):
    model = network(seeded(0), depth=2, activation="tanh", gain=0.8, gain_exponent=0.4).double()
    x = torch.randn(7, 3, 4, generator=seeded(1), dtype=torch.float64)
    h = x.reshape(7, 12)
    for layer, affine in enumerate(model.affines, start=1):
        z = h @ affine.weight.T
        h = torch.tanh(0.8 * layer**-0.4 * z / (z.square().mean(1, keepdim=True) + 1e-5).sqrt())
    torch.testing.assert_close(model(x), h @ model.readout.weight.T)


@pytest.mark.parametrize(
    ("activation", "function"),
    [("identity", lambda x: x), ("tanh", torch.tanh), ("sin", torch.sin), ("relu", lambda x: x.clamp_min(0))],
)
def test_activations_go_by_their_names(activation, function, seeded):
    model = network(seeded(0), depth=1, activation=activation)
    x = torch.randn(6, 12, generator=seeded(1))
    expected = model.readout(function(model.norms[0](model.affines[0](x))))
    torch.testing.assert_close(model(x), expected)


def test_orthogonal_weights_have_orthonormal_rows_or_columns(seeded):
    for width in (5, 12, 16):  # out below, at and above in, for the first layer; the readout has 5 rows
        model = network(seeded(width), width=width)
        layers = [*model.affines, model.readout]
        assert max(identity_error(layer.weight) for layer in layers) < 1e-6
        assert identity_error(network(seeded(0), width=width, weights="gaussian").affines[1].weight) > 0.1


def test_in_float64_they_are_orthogonal_to_rounding(seeded):
    torch.set_default_dtype(torch.float64)
    try:
        model = network(seeded(0))
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.affines[0].weight.dtype == torch.float64
    assert max(identity_error(layer.weight) for layer in [*model.affines, model.readout]) < 1e-14


def test_orthogonal_weights_are_haar_distributed(seeded):
    """Of the orthogonal group's Haar measure E tr W = 0, E (tr W)^2 = 1 and E tr W^2 = 1, with variances of about 1."""
    count = 2000
    weights = torch.stack([a.weight.detach() for a in network(seeded(1), depth=count + 1, width=8).affines[1:]])
    traces = weights.diagonal(dim1=1, dim2=2).sum(1)
    squares = (weights @ weights).diagonal(dim1=1, dim2=2).sum(1)
    for values, mean in ((traces, 0.0), (traces.square(), 1.0), (squares, 1.0)):
        assert abs(values.mean().item() - mean) < 4 * values.std().item() / math.sqrt(count)


@pytest.mark.parametrize(
    ("weights", "variance"), [("xavier", lambda layer: 2 / sum(layer.weight.shape)), ("gaussian", lambda _: None)]
)
def test_gaussian_weights_have_the_stated_variance(weights, variance, seeded):
    model = network(seeded(0), width=200, weights=weights)
    for layer in (*model.affines, model.readout):
        expected = variance(layer) or 1 / layer.in_features
        ratio = layer.weight.square().mean().item() / expected
        assert abs(ratio - 1) < 4 * math.sqrt(2 / layer.weight.numel())
        assert abs(layer.weight.mean().item()) < 4 * math.sqrt(expected / layer.weight.numel())


def test_weights_come_from_the_generator_alone(seeded):
    before = torch.get_rng_state()
    one, two, other = network(seeded(5)), network(seeded(5), normalizer=normalizer("bnl2")), network(seeded(6))
    assert torch.equal(before, torch.get_rng_state())
    for layer in range(3):
        assert torch.equal(one.affines[layer].weight, two.affines[layer].weight)
    assert torch.equal(one.readout.weight, two.readout.weight)
    assert not torch.equal(one.readout.weight, other.readout.weight)


def test_layers_are_drawn_in_pieces_where_they_are_many(seeded, monkeypatch):
    monkeypatch.setattr(deep_mlp, "_PIECE", 3 * 16 * 16)
    model = network(seeded(0), depth=9)
    assert len(model.affines) == 9
    assert max(identity_error(layer.weight) for layer in model.affines) < 1e-6
    assert len({layer.weight[0, 0].item() for layer in model.affines}) == 9


def test_every_weight_has_its_own_memory(seeded):
    for parameter in network(seeded(0)).parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()


def test_bias_adds_zeros_to_the_hidden_layers(seeded):
    assert all(layer.bias is None for layer in network(seeded(0)).affines)
    model = network(seeded(0), bias=True)
    assert all(layer.bias is not None and not layer.bias.any() for layer in model.affines)
    assert not network(seeded(0)).readout.bias.any()


def test_a_factory_makes_the_activation_of_each_layer(seeded):
    made = []

    def factory(num_features, channel_dim):
        made.append((num_features, channel_dim))
        return nn.Tanh()

    model = network(seeded(0), activation_factory=factory, gain=0.5)
    assert made == [(16, 1)] * 3
    x = torch.randn(6, 12, generator=seeded(1))
    torch.testing.assert_close(model(x), network(seeded(0), activation="tanh", gain=0.5)(x))


def test_a_thousand_layers_of_float32_neither_explode_nor_vanish(seeded):
    row = normalizer("bnl2", moment="rms")
    model = DeepMLP(48, 10, depth=1000, width=16, normalizer=row, generator=seeded(0))
    x = torch.randn(16, 48, generator=seeded(1))
    F.cross_entropy(model(x), torch.arange(16) % 10).backward()
    norms = torch.stack([layer.weight.grad.norm() for layer in model.affines[1:]])
    assert 1e-2 < norms.min() <= norms.max() < 10


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = network(seeded(0), normalizer=row, activation="sin", bias=True)
    x = torch.randn(9, 12, generator=seeded(1))
    F.cross_entropy(model(x), torch.arange(9) % 5).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["depth", "width"])
@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_sizes_must_be_positive_integers(name, value, seeded):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value!r}"):
        network(seeded(0), **{name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "haar"}, "weights must be one of orthogonal, xavier, gaussian, got 'haar'"),
        ({"activation": "gelu"}, "activation must be one of identity, tanh, sin, relu, got 'gelu'"),
        ({"gain": 0.0}, r"gain must be a positive finite number, got 0\.0"),
        ({"gain": math.inf}, "gain must be a positive finite number, got inf"),
        ({"gain_exponent": math.nan}, "gain_exponent must be a finite number, got nan"),
        ({"gain_exponent": 1e3}, "must leave the gain of layer 3 positive and finite, got 1000.0"),
        ({"gain_exponent": -1e3}, "must leave the gain of layer 3 positive and finite, got -1000.0"),
        ({"activation": "sin", "activation_factory": lambda c, d: nn.Tanh()}, "activation or activation_factory, got"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message, seeded):
    with pytest.raises(ValueError, match=message):
        network(seeded(0), **options)


def test_an_input_of_another_size_is_refused_with_the_remedy(seeded):
    with pytest.raises(ValueError, match=r"takes 12 features per example, got 13\. Build it with in_features=13"):
        network(seeded(0))(torch.zeros(2, 13))
