from __future__ import annotations

import math

import pytest
import torch

from normscope.models import DeepLinear
from normscope.nn import normalizer, normalizers

from .standin import StandIn, affine_layers, sites


def test_without_a_normalizer_it_is_the_product_of_its_matrices(seeded):
    model = DeepLinear(6, 3, depth=5, width=4, normalizer=normalizer("none"), generator=seeded(0)).double()
    x = torch.randn(7, 2, 3, generator=seeded(1), dtype=torch.float64)
    product = torch.eye(6, dtype=torch.float64)
    for layer in affine_layers(model):
        assert layer.bias is None
        product = layer.weight @ product
    assert [tuple(layer.weight.shape) for layer in model.affines] == [(4, 6), (4, 4), (4, 4), (4, 4), (3, 4)]
    torch.testing.assert_close(model(x), x.flatten(1) @ product.T)


def test_the_default_is_that_of_the_source(seeded):
    model = DeepLinear(10, 10, normalizer=normalizer("batchnorm"), generator=seeded(0))
    assert [tuple(layer.weight.shape) for layer in model.affines] == [(10, 10)] * 25
    assert len(sites(model)) == 24


def test_the_normalizer_stands_between_the_layers_and_sees_them(seeded):
    row = StandIn()
    model = DeepLinear(6, 3, depth=3, width=4, normalizer=row, generator=seeded(0))
    x = torch.randn(7, 6, generator=seeded(1))
    y = x
    for layer, norm in zip(model.affines[:-1], model.norms, strict=True):
        y = norm(y @ layer.weight.T)
    torch.testing.assert_close(model(x), y @ model.affines[-1].weight.T)
    assert set(row.seen) == set(affine_layers(model))


def test_square_layers_keep_the_second_moment_on_average(seeded):
    depth, width = 8, 200
    model = DeepLinear(width, width, depth=depth, width=width, normalizer=StandIn(), generator=seeded(0))
    for layer in model.affines:
        assert abs(layer.weight.square().mean().item() * width - 1) < 4 * math.sqrt(0.8) / width


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = DeepLinear(6, 3, depth=4, width=5, normalizer=row, generator=seeded(0))
    outputs = model(torch.randn(8, 6, generator=seeded(1)))
    outputs.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_one_layer_and_bad_arguments(seeded):
    assert len(DeepLinear(6, 3, depth=1, normalizer=StandIn(), generator=seeded(0)).affines) == 1
    with pytest.raises(ValueError, match="depth must be a positive integer, got 0"):
        DeepLinear(6, 3, depth=0, normalizer=StandIn(), generator=seeded(0))
    with pytest.raises(ValueError, match="takes 6 features per example, got 5"):
        DeepLinear(6, 3, normalizer=StandIn(), generator=seeded(0))(torch.zeros(2, 5))
