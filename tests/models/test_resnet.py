from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import ResNet, as_normalizer
from normscope.nn import normalizer, normalizers

from .standin import StandIn, affine_layers, count, sites


def resnet(generator, **changes):
    arguments = {"depth": 26, "width": 4, "stem": "small", "normalizer": StandIn(), "generator": generator}
    return ResNet(3, 10, **(arguments | changes))


@pytest.mark.parametrize(("depth", "parameters"), [(50, 25_557_032), (101, 44_549_160), (152, 60_192_808)])
def test_parameters_are_the_known_ones(depth, parameters, seeded):
    # Known of torchvision's resnet50, resnet101 and resnet152, whose layers these are.
    model = ResNet(3, 1000, depth=depth, normalizer=normalizer("batchnorm"), generator=seeded(0))
    assert count(model) == parameters
    assert len(sites(model)) == depth + 3


def normalized(x, tensors, name):
    return F.batch_norm(x, None, None, tensors[f"{name}.weight"], tensors[f"{name}.bias"], training=True)


def block_of_plain_operations(x, tensors, stride):
    y = F.relu(normalized(F.conv2d(x, tensors["conv1.weight"]), tensors, "norm1"))
    y = F.relu(normalized(F.conv2d(y, tensors["conv2.weight"], stride=stride, padding=1), tensors, "norm2"))
    y = normalized(F.conv2d(y, tensors["conv3.weight"]), tensors, "norm3")
    if "shortcut.0.weight" in tensors:
        x = normalized(F.conv2d(x, tensors["shortcut.0.weight"], stride=stride), tensors, "shortcut.1")
    return F.relu(x + y)


def randomized(model, generator):
    """Gains and shifts away from one and zero, so that a swap of two would show."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.double()


@pytest.mark.parametrize("stem", ["imagenet", "small"])
def test_the_network_is_that_of_plain_operations(stem, seeded):
    model = randomized(resnet(seeded(0), stem=stem, normalizer=normalizer("batchnorm")), seeded(1))
    x = torch.randn(3, 3, 48, 40, generator=seeded(2), dtype=torch.float64)
    tensors = dict(model.named_parameters())
    if stem == "imagenet":
        y = F.relu(normalized(F.conv2d(x, tensors["stem.weight"], stride=2, padding=3), tensors, "norm"))
        y = F.max_pool2d(y, 3, stride=2, padding=1)
    else:
        y = F.relu(normalized(F.conv2d(x, tensors["stem.weight"], padding=1), tensors, "norm"))
    for i in range(8):
        prefix = f"blocks.{i}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        y = block_of_plain_operations(y, own, stride=2 if i in (2, 4, 6) else 1)
    y = F.linear(y.mean((2, 3)), tensors["readout.weight"], tensors["readout.bias"])
    torch.testing.assert_close(model(x), y)


def test_groups_halve_the_image_and_double_the_channels(seeded):
    model = resnet(seeded(0), stem="imagenet")
    shapes = []
    for block in model.blocks[::2]:
        block.register_forward_hook(lambda _m, _x, y: shapes.append(tuple(y.shape[1:])))
    model(torch.zeros(1, 3, 64, 64))
    assert shapes == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]


def test_shortcuts_are_normalized_projections_at_the_start_of_each_group_only(seeded):
    kinds = [type(block.shortcut) for block in resnet(seeded(0)).blocks]
    assert kinds == [nn.Sequential, nn.Identity] * 4


def test_every_affine_layer_was_shown_to_the_normalizer_in_the_ordinary_order(seeded):
    row = StandIn()
    model = resnet(seeded(0), normalizer=row)
    assert set(row.seen) == set(affine_layers(model))
    assert len(row.seen) == 1 + 3 * 8 + 4 + 1
    assert row.before == []


@pytest.mark.parametrize("row", [r for r in normalizers() if "affine" in r.options], ids=lambda row: row.name)
def test_the_last_gain_of_each_block_alone_starts_at_zero_if_the_row_has_one(row, seeded):
    model = resnet(seeded(0), normalizer=row)
    zero = [name for name, parameter in model.named_parameters() if name.endswith("weight") and not parameter.any()]
    assert zero == ([f"blocks.{i}.norm3.weight" for i in range(8)] if row.elementwise_affine else [])
    kept = resnet(seeded(0), normalizer=row, zero_init_last=False)
    assert all(parameter.any() for name, parameter in kept.named_parameters() if name.endswith("weight"))


def test_a_block_with_zero_gain_starts_as_its_shortcut(seeded):
    block = resnet(seeded(0)).blocks[1]
    x = torch.randn(2, 16, 5, 5, generator=seeded(1))
    assert torch.equal(block(x), F.relu(x))


def test_adapted_layers_start_at_zero_gain_too(seeded):
    model = resnet(seeded(0), normalizer=as_normalizer(nn.BatchNorm2d))
    assert not model.blocks[0].norm3.weight.any()
    assert model.blocks[0].norm2.weight.all()


def test_unnormalized_without_gain_the_second_moment_about_doubles_with_each_block(seeded):
    model = resnet(seeded(0), width=64, normalizer=normalizer("none"))
    moments = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _x, y: moments.append(y.square().mean().item()))
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 16, generator=seeded(1)))
    growth = [math.log2(later / earlier) for earlier, later in itertools.pairwise(moments)]
    assert sum(growth) / len(growth) == pytest.approx(1, abs=0.35)


def test_weights_come_from_the_generator_alone(seeded):
    before = torch.get_rng_state()
    one, two, other = resnet(seeded(5)), resnet(seeded(5), normalizer=normalizer("regnorm")), resnet(seeded(6))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.readout.weight, two.readout.weight)
    assert not torch.equal(one.readout.weight, other.readout.weight)


def test_initial_variances_are_two_and_one_over_fan_in(seed, seeded):
    model = resnet(seeded(seed), width=16)
    block = model.blocks[0]
    layers = [(model.stem, 27, 2.0), (block.conv1, 16, 2.0), (block.conv2, 144, 2.0), (model.readout, 512, 1.0)]
    for layer, fan_in, gain in layers:
        scaled = layer.weight.square().mean().item() * fan_in / gain
        assert abs(scaled - 1) < 4 * math.sqrt(2 / layer.weight.numel())


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    model = resnet(seeded(0), normalizer=row, bias=True)
    x = torch.randn(4, 3, 16, 16, generator=seeded(1))
    outputs = model(x)
    F.cross_entropy(outputs, torch.arange(4)).backward()
    assert outputs.isfinite().all()
    assert len(sites(model)) == 29
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bad_arguments_and_inputs_are_refused(seeded):
    with pytest.raises(ValueError, match="depth must be one of 26, 50, 101, 152, got 34"):
        resnet(seeded(0), depth=34)
    with pytest.raises(ValueError, match="stem must be one of imagenet, small, got 'tiny'"):
        resnet(seeded(0), stem="tiny")
    with pytest.raises(ValueError, match="width must be a positive integer, got 0"):
        resnet(seeded(0), width=0)
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        resnet(seeded(0), normalizer="batchnorm")
    with pytest.raises(ValueError, match=r"images of shape \(N, 3, H, W\), got \(2, 1, 8, 8\)"):
        resnet(seeded(0))(torch.zeros(2, 1, 8, 8))
