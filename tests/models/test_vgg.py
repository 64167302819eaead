from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import VGG
from normscope.nn import normalizer, normalizers

from .standin import StandIn, affine_layers, count, sites


@pytest.mark.parametrize(("depth", "parameters"), [(11, 9_231_114), (13, 9_416_010), (16, 14_728_266)])
def test_parameters_are_the_known_ones(depth, parameters, seeded):
    """To the last digit those of the usual VGG for CIFAR-10 with batch normalization and one linear layer."""
    model = VGG(3, 10, depth=depth, normalizer=normalizer("batchnorm"), generator=seeded(0))
    assert count(model) == parameters
    assert len(sites(model)) == depth - 3


def test_the_network_is_that_of_plain_operations(seeded):
    model = VGG(3, 10, depth=11, width=4, normalizer=normalizer("batchnorm"), generator=seeded(0)).double()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5, generator=seeded(1))
    x = torch.randn(3, 3, 32, 32, generator=seeded(2), dtype=torch.float64)
    y, layers = x, affine_layers(model)
    norms = sites(model)
    for i, (layer, norm) in enumerate(zip(layers[:-1], norms, strict=True)):
        y = F.conv2d(y, layer.weight, layer.bias, padding=1)
        y = F.relu(F.batch_norm(y, None, None, norm.weight, norm.bias, training=True))
        if i in (0, 1, 3, 5, 7):
            y = F.max_pool2d(y, 2)
    assert y.shape == (3, 32, 1, 1)
    torch.testing.assert_close(model(x), F.linear(y.flatten(1), layers[-1].weight, layers[-1].bias))


def test_small_and_odd_images_pass(seeded):
    model = VGG(1, 10, width=2, normalizer=StandIn(), generator=seeded(0))
    for size in (8, 28, 33):
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 10)


def test_initial_variances_are_glorots_and_weights_come_from_the_generator_alone(seeded):
    before = torch.get_rng_state()
    one, two = (VGG(3, 10, width=16, normalizer=StandIn(), generator=seeded(3)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for layer, same in zip(affine_layers(one), affine_layers(two), strict=True):
        assert torch.equal(layer.weight, same.weight)
        area = math.prod(layer.weight.shape[2:])
        variance = 2 / (area * (layer.weight.shape[0] + layer.weight.shape[1]))
        assert abs(layer.weight.square().mean().item() / variance - 1) < 4 * math.sqrt(0.8 / layer.weight.numel())
        assert not layer.bias.any()


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = VGG(3, 10, width=2, normalizer=row, generator=seeded(0))
    outputs = model(torch.randn(4, 3, 8, 8, generator=seeded(1)))
    F.cross_entropy(outputs, torch.arange(4)).backward()
    assert outputs.isfinite().all()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_every_affine_layer_was_shown_to_the_normalizer(seeded):
    row = StandIn()
    model = VGG(3, 10, depth=13, width=2, normalizer=row, generator=seeded(0))
    assert set(row.seen) == set(affine_layers(model))
    assert len(row.seen) == 11
    assert row.before == []


def test_bad_arguments_and_inputs_are_refused(seeded):
    with pytest.raises(ValueError, match="depth must be one of 11, 13, 16, got 19"):
        VGG(3, 10, depth=19, normalizer=StandIn(), generator=seeded(0))
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        VGG(3, 10, normalizer=None, generator=seeded(0))
    with pytest.raises(ValueError, match=r"images of shape \(N, 3, H, W\), got \(2, 3, 8\)"):
        VGG(3, 10, width=1, normalizer=StandIn(), generator=seeded(0))(torch.zeros(2, 3, 8))
