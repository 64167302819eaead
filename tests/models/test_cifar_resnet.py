from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import INITIALIZERS, CifarResNet
from normscope.nn import normalizer, normalizers

from .standin import StandIn, affine_layers, count, sites


def network(generator, **changes):
    arguments = {"depth": 14, "width": 4, "normalizer": StandIn(), "generator": generator}
    return CifarResNet(3, 10, **(arguments | changes))


@pytest.mark.parametrize(
    ("depth", "shortcut", "parameters"),
    [
        (20, "padding", 269_722),
        (20, "projection", 272_474),
        (110, "padding", 1_727_962),
        (110, "projection", 1_730_714),
    ],
)
def test_parameters_are_the_known_ones(depth, shortcut, parameters, seeded):
    """0.27M and 1.7M in table 6 of He et al.; to the last digit those of the usual reimplementations."""
    row = normalizer("batchnorm")
    model = CifarResNet(3, 10, depth=depth, shortcut=shortcut, normalizer=row, generator=seeded(0))
    assert count(model) == parameters
    assert len(sites(model)) == depth + (1 if shortcut == "projection" else -1)


def normalized(x, tensors, name):
    if f"{name}.weight" not in tensors:
        return x
    return F.batch_norm(x, None, None, tensors[f"{name}.weight"], tensors[f"{name}.bias"], training=True)


def block_of_plain_operations(x, tensors, stride, width):
    y = F.relu(normalized(F.conv2d(x, tensors["conv1.weight"], stride=stride, padding=1), tensors, "norm1"))
    y = normalized(F.conv2d(y, tensors["conv2.weight"], padding=1), tensors, "norm2")
    if "shortcut.0.weight" in tensors:
        x = normalized(F.conv2d(x, tensors["shortcut.0.weight"], stride=stride), tensors, "shortcut.1")
    elif stride == 2:
        x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], dim=1)
    return F.relu(x + y)


@pytest.mark.parametrize("shortcut", ["projection", "padding"])
@pytest.mark.parametrize("norm_at", ["all", "last", "none"])
def test_the_network_is_that_of_plain_operations(norm_at, shortcut, seeded):
    model = network(seeded(0), norm_at=norm_at, shortcut=shortcut, normalizer=normalizer("batchnorm"))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5, generator=seeded(1))
    x = torch.randn(3, 3, 9, 8, generator=seeded(2), dtype=torch.float64)
    tensors = dict(model.double().named_parameters())
    y = F.relu(normalized(F.conv2d(x, tensors["stem.weight"], padding=1), tensors, "norm"))
    for i in range(6):
        prefix = f"blocks.{i}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        y = block_of_plain_operations(y, own, 2 if i in (2, 4) else 1, 4)
    y = normalized(y.mean((2, 3)), tensors, "last_norm")
    torch.testing.assert_close(model(x), F.linear(y, tensors["readout.weight"], tensors["readout.bias"]))


def test_stages_halve_the_image_and_double_the_channels(seeded):
    model = network(seeded(0), width=16)
    shapes = []
    for block in model.blocks[::2]:
        block.register_forward_hook(lambda _m, _x, y: shapes.append(tuple(y.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert shapes == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.parametrize(("norm_at", "places"), [("all", 15), ("last", 1), ("none", 0)])
def test_sites_are_where_they_are_asked_for_and_the_normalizer_sees_the_layers_that_go_with_them(
    norm_at, places, seeded
):
    row = StandIn()
    model = network(seeded(0), norm_at=norm_at, normalizer=row)
    assert len(sites(model)) == places
    expected = {"all": affine_layers(model), "last": [model.readout], "none": []}[norm_at]
    assert set(row.seen) == set(expected)
    assert row.before == []
    left_out = [model.norm, model.blocks[2].norm2, model.blocks[2].shortcut[1]]
    assert all(type(site) is nn.Identity for site in left_out) == (norm_at != "all")
    if norm_at == "last":
        assert model.last_norm.ndim == 2


def test_where_the_sites_are_does_not_change_the_weights(seeded):
    one, two, other = (network(seeded(seed), norm_at=at) for seed, at in ((5, "all"), (5, "none"), (6, "none")))
    assert torch.equal(one.readout.weight, two.readout.weight)
    assert torch.equal(one.blocks[4].shortcut[0].weight, two.blocks[4].shortcut[0].weight)
    assert not torch.equal(one.readout.weight, other.readout.weight)


def test_the_global_random_state_is_not_used(seeded):
    before = torch.get_rng_state()
    network(seeded(0))
    assert torch.equal(before, torch.get_rng_state())


# init -> variance of a weight with these fans, by its definition
VARIANCES = {
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, _: 2 / fan_in,
    "he_fan_out": lambda _, fan_out: 2 / fan_out,
    "lecun": lambda fan_in, _: 1 / fan_in,
    "small": lambda *_: 1e-4,
}


@pytest.mark.parametrize("init", INITIALIZERS)
def test_initial_variances_are_those_of_the_definition(init, seeded):
    model = network(seeded(1), width=16, init=init)
    block = model.blocks[2]
    layers = [
        (model.stem, 27, 144),
        (block.conv1, 144, 288),
        (block.conv2, 288, 288),
        (block.shortcut[0], 16, 32),
        (model.readout, 64, 10),
    ]
    for layer, fan_in, fan_out in layers:
        scaled = layer.weight.square().mean().item() / VARIANCES[init](fan_in, fan_out)
        assert abs(scaled - 1) < 4 * math.sqrt(2 / layer.weight.numel())
    assert not model.readout.bias.any()
    uniform = model.blocks[5].conv2.weight
    assert (uniform.abs().max() < 2 * uniform.std()) == (init == "xavier")


def test_without_normalization_the_second_moment_grows_with_every_block_and_with_it_it_is_reset(seeded):
    x = torch.randn(4, 3, 16, 16, generator=seeded(0))
    moments = {}
    for norm_at in ("none", "all"):
        model = network(seeded(0), depth=56, width=16, norm_at=norm_at, normalizer=normalizer("batchnorm"))
        seen = moments[norm_at] = []
        for block in model.blocks:
            block.register_forward_hook(lambda _m, _x, y, seen=seen: seen.append(y.square().mean().item()))
        with torch.no_grad():
            model(x)
    assert moments["none"][-1] / moments["none"][0] > 100
    assert moments["all"][9] < moments["all"][8] / 2  # a projection's normalizer starts the second stage anew
    assert max(moments["all"]) < 20


@pytest.mark.parametrize("row", [row for row in normalizers() if not row.needs_positions], ids=lambda row: row.name)
def test_every_row_trains_every_parameter(row, seeded):
    for norm_at in ("all", "last"):
        model = network(seeded(0), depth=8, norm_at=norm_at, normalizer=row, bias=True)
        outputs = model(torch.randn(4, 3, 8, 8, generator=seeded(1)))
        F.cross_entropy(outputs, torch.arange(4)).backward()
        assert outputs.isfinite().all()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_bad_arguments_and_inputs_are_refused(seeded):
    with pytest.raises(ValueError, match=r"depth must be 6n \+ 2 .* got 18\. Try 14 or 20"):
        network(seeded(0), depth=18)
    with pytest.raises(ValueError, match="norm_at must be one of all, last, none, got 'first'"):
        network(seeded(0), norm_at="first")
    with pytest.raises(ValueError, match="shortcut must be one of projection, padding, got 'A'"):
        network(seeded(0), shortcut="A")
    with pytest.raises(ValueError, match="init must be one of xavier, he, he_fan_out, lecun, small, got 'glorot'"):
        network(seeded(0), init="glorot")
    with pytest.raises(ValueError, match="width must be a positive integer, got 0"):
        network(seeded(0), width=0)
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        network(seeded(0), normalizer="batchnorm")
    with pytest.raises(ValueError, match=r"images of shape \(N, 3, H, W\), got \(2, 1, 8, 8\)"):
        network(seeded(0))(torch.zeros(2, 1, 8, 8))
