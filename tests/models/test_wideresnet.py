from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import WideResNet
from normscope.nn import normalizer, normalizers

from .standin import StandIn, sites


def wrn(generator, **changes):
    arguments = {"depth": 8, "widen_factor": 1, "normalizer": StandIn(), "generator": generator}
    return WideResNet(3, 10, **(arguments | changes))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("skips", "parameters"), [(True, 1_555_658), (False, 1_458_666)])
def test_parameters_at_depth_26_and_factor_2_are_those_of_the_source(skips, parameters, seeded):
    model = wrn(seeded(0), depth=26, widen_factor=2, skips=skips, normalizer=normalizer("layernorm"))
    assert count(model) == parameters
    assert len(sites(model)) == 25


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_sites_are_one_less_than_depth(depth, seeded):
    assert len(sites(wrn(seeded(0), depth=depth))) == depth - 1


def test_every_affine_layer_was_shown_to_the_normalizer(seeded):
    row = StandIn()
    model = wrn(seeded(0), normalizer=row)
    affine = {module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    assert set(row.seen) == affine
    assert len(row.seen) == 1 + 6 + 2 + 1  # stem, branches, two shortcuts where the shape changes, readout
    assert row.before == []


def test_groups_halve_the_image_and_double_the_channels(seeded):
    model = wrn(seeded(0), widen_factor=2)
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _x, y: shapes.append(tuple(y.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(32, 32, 32), (64, 16, 16), (128, 8, 8)]


def test_shortcuts_are_3x3_where_the_shape_changes_and_the_identity_elsewhere(seeded):
    kinds = [block.shortcut for block in wrn(seeded(0), depth=14).blocks]
    assert [isinstance(kind, nn.Conv2d) for kind in kinds] == [False, False, True, False, True, False]
    assert kinds[2].kernel_size == (3, 3)
    assert kinds[2].stride == (2, 2)


def test_a_block_is_its_branch_plus_its_shortcut_and_without_skips_the_branch(seeded):
    x = torch.randn(2, 16, 8, 8, generator=seeded(1), dtype=torch.float64)
    with_skip, without = (wrn(seeded(0), skips=skips).double().blocks[0] for skips in (True, False))
    torch.testing.assert_close(with_skip(x), without(x) + x)
    z = without.conv1(F.relu(without.norm1(x)))
    torch.testing.assert_close(without(x), without.conv2(F.relu(without.norm2(z))))


def test_skips_of_the_same_shape_leave_the_weights_of_a_generator_alone(seeded):
    one, two = wrn(seeded(0), skips=True), wrn(seeded(0), skips=False)
    assert torch.equal(one.blocks[0].conv2.weight, two.blocks[0].conv2.weight)


def test_initial_variances_are_two_and_one_over_fan_in(seed, seeded):
    model = wrn(seeded(seed), widen_factor=4)
    conv, readout = model.blocks[2].conv2, model.readout
    for layer, fan_in, gain in ((conv, 9 * conv.in_channels, 2.0), (readout, readout.in_features, 1.0)):
        scaled = layer.weight.square().mean().item() * fan_in / gain
        assert abs(scaled - 1) < 4 * math.sqrt(2 / layer.weight.numel())
        assert layer.bias.abs().max() == 0


def test_two_normalizers_start_from_the_same_weights(seeded):
    one, two = (wrn(seeded(0), normalizer=normalizer(name)) for name in ("batchnorm", "regnorm"))
    assert torch.equal(one.readout.weight, two.readout.weight)


def test_dropout_acts_in_training_only(seeded):
    model = wrn(seeded(0), dropout=0.5)
    x = torch.randn(2, 3, 8, 8, generator=seeded(1))
    with torch.random.fork_rng():
        assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 8)])
def test_any_image_size_works(size, seeded):
    assert wrn(seeded(0))(torch.zeros(2, 3, *size)).shape == (2, 10)


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("row", normalizers(), ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, skips, seeded):
    model = wrn(seeded(0), normalizer=row, skips=skips)
    x = torch.randn(6, 3, 8, 8, generator=seeded(1))
    F.cross_entropy(model(x), torch.arange(6)).backward()
    assert len(sites(model)) == 7
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bias_false_removes_the_convolutions_biases_only(seeded):
    model = wrn(seeded(0), bias=False)
    assert all(module.bias is None for module in model.modules() if isinstance(module, nn.Conv2d))
    assert model.readout.bias is not None


@pytest.mark.parametrize(("depth", "advice"), [(2, "8 or 14"), (10, "8 or 14"), (25, "20 or 26"), (27, "26 or 32")])
def test_depth_must_be_six_n_plus_two(depth, advice, seeded):
    with pytest.raises(ValueError, match=rf"6n \+ 2 .* got {depth}\. Try {advice}"):
        wrn(seeded(0), depth=depth)


def test_other_bad_arguments_are_refused(seeded):
    with pytest.raises(ValueError, match="widen_factor must be a positive integer, got 0"):
        wrn(seeded(0), widen_factor=0)
    with pytest.raises(ValueError, match=r"dropout is a probability in \[0, 1\), got 1.0"):
        wrn(seeded(0), dropout=1.0)
    with pytest.raises(ValueError, match=r"images of shape \(N, 3, H, W\), got \(2, 1, 8, 8\)"):
        wrn(seeded(0))(torch.zeros(2, 1, 8, 8))
