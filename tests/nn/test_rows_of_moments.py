"""Group, instance and RMS norm against torch's own layers; weight standardization against its definition."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns

F64 = torch.float64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64) + 0.7


def alike(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Equal parameters, and then equal values and gradients."""
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.add_(draw(*parameter.shape, seed=7 + i))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(ours(a), theirs(b))
    torch.testing.assert_close(
        torch.autograd.grad(ours(a).sin().sum(), a), torch.autograd.grad(theirs(b).sin().sum(), b)
    )


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("ndim", [2, 4])
def test_groupnorm_equals_torch_group_norm(groups, ndim):
    shape = (4, 8, 3, 2)[:ndim]
    if groups == 8 and ndim == 2:
        with pytest.raises(ValueError, match=r"more than one value per group of channels .* shape \(4, 8\)"):
            ns.normalizer("groupnorm", num_groups=8).site(8, 2)(draw(*shape).float())
        return
    ours = ns.normalizer("groupnorm", num_groups=groups).site(8, ndim, dtype=F64)
    alike(ours, nn.GroupNorm(groups, 8, dtype=F64), draw(*shape))


def test_groupnorm_of_tokens_is_that_of_each_token():
    x = draw(4, 3, 8)
    ours = ns.normalizer("groupnorm", num_groups=2).site(8, 3, dtype=F64)
    torch.testing.assert_close(ours(x), F.group_norm(x.reshape(12, 8), 2).reshape(4, 3, 8))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (5, 1), (8, 4), (16, 8), (48, 24), (64, 32), (96, 32), (100, 25), (256, 32)]
)
def test_without_a_number_the_groups_are_32_or_fewer_that_divide_and_hold_two_channels(channels, groups):
    x = draw(3, channels, 2, 2)
    ours = ns.normalizer("groupnorm").site(channels, dtype=F64)
    torch.testing.assert_close(ours(x), F.group_norm(x, groups))


@pytest.mark.parametrize(("channels", "groups"), [(5, 1), (16, 1), (64, 4), (96, 6), (512, 32), (1024, 32)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_without_positions_a_group_has_at_least_sixteen_channels(channels, groups, ndim):
    x = draw(3, 2, channels) if ndim == 3 else draw(3, channels)
    ours = ns.normalizer("groupnorm").site(channels, ndim, dtype=F64)
    torch.testing.assert_close(ours(x), F.group_norm(x.reshape(-1, channels), groups).view_as(x))


def test_groups_that_the_channels_do_not_make_are_refused():
    with pytest.raises(ValueError, match="num_groups must divide the channels, but 5 channels do not make 2 groups"):
        ns.normalizer("groupnorm", num_groups=2).site(5)
    with pytest.raises(
        ValueError, match="Option num_groups of groupnorm must be a whole number of at least 1, or None"
    ):
        ns.normalizer("groupnorm", num_groups=0)


@pytest.mark.parametrize("shape", [(4, 5, 3, 2), (4, 3, 5)], ids=["NCHW", "NTC"])
def test_instancenorm_equals_torch_instance_norm(shape):
    ours = ns.normalizer("instancenorm").site(5, len(shape), dtype=F64)
    if len(shape) == 4:
        alike(ours, nn.InstanceNorm2d(5, affine=True, dtype=F64), draw(*shape))
    else:
        x = draw(*shape)
        torch.testing.assert_close(ours(x), F.instance_norm(x.mT).mT)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1, 1), (4, 1, 5)], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_instancenorm_of_one_value_is_refused_as_torch_refuses_it(shape, training):
    site = ns.normalizer("instancenorm").site(5, len(shape)).train(training)
    with pytest.raises(ValueError, match="instancenorm needs more than one value per example and channel"):
        site(torch.ones(shape))


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)], ids=["NC", "NTC"])
def test_rmsnorm_equals_torch_rms_norm_and_has_a_gain_alone(shape):
    alike(ns.normalizer("rmsnorm").site(5, len(shape), dtype=F64), nn.RMSNorm(5, eps=1e-5, dtype=F64), draw(*shape))
    assert ns.normalizer("rmsnorm").site(5).bias is None


def test_rmsnorm_of_images_is_over_the_example_or_over_the_channels_of_each_position():
    x = draw(4, 5, 3, 2)
    of_example = ns.normalizer("rmsnorm").site(5, dtype=F64)(x)
    torch.testing.assert_close(of_example, F.rms_norm(x, (5, 3, 2), eps=1e-5))
    of_position = ns.normalizer("rmsnorm", over="channels").site(5, dtype=F64)(x)
    torch.testing.assert_close(of_position, F.rms_norm(x.movedim(1, -1), (5,), eps=1e-5).movedim(-1, 1))


# --- weight standardization -------------------------------------------------------------------------------------------

LAYERS = {
    "linear": (nn.Linear(6, 5, dtype=F64), (4, 6)),
    "conv": (nn.Conv2d(4, 6, 3, groups=2, dtype=F64), (2, 4, 5, 5)),
}


def standardized(weight: Tensor) -> Tensor:
    """Row by row, by numpy's words for it."""
    rows = weight.detach().flatten(1).numpy()
    rows = (rows - rows.mean(1, keepdims=True)) / rows.std(1, keepdims=True)
    return torch.from_numpy(rows).view(weight.shape)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("scaled", [False, True])
def test_weightstandard_is_its_definition(kind, scaled):
    layer, shape = LAYERS[kind]
    new = ns.normalizer("weightstandard", fan_in_scale=scaled).affine(layer)
    expected = copy.deepcopy(layer)
    with torch.no_grad():
        fan_in = layer.weight[0].numel()
        expected.weight.copy_(standardized(layer.weight) / (fan_in**0.5 if scaled else 1))
    x = draw(*shape)
    torch.testing.assert_close(new(x), expected(x))
    assert list(new.state_dict()) == ["bias", "parametrizations.weight.original"]
    twin = ns.normalizer("weightstandard", fan_in_scale=scaled).affine(copy.deepcopy(layer))
    twin.load_state_dict(new.state_dict(), strict=True)
    assert torch.equal(twin(x), new(x))


def test_weightstandard_has_group_norm_behind_it_or_nothing():
    x = draw(3, 64, 2, 2)
    torch.testing.assert_close(ns.normalizer("weightstandard").site(64, dtype=F64)(x), F.group_norm(x, 32))
    alone = ns.normalizer("weightstandard", outputs="none").site(64, dtype=F64)
    assert torch.equal(alone(x), x)
    assert not list(alone.parameters())


def test_weights_of_a_single_input_are_refused():
    with pytest.raises(ValueError, match=r"fan-in of at least 2, but those of Conv2d.* have shape \(3, 1, 1, 1\)"):
        ns.normalizer("weightstandard").affine(nn.Conv2d(3, 3, 1, groups=3))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rmsnorm", {"num_groups": 2}, "Unknown option 'num_groups' of rmsnorm"),
        ("weightstandard", {"outputs": "batch"}, "Option outputs of weightstandard must be one of group, none"),
        ("weightstandard", {"fan_in_scale": 1}, "must be True or False, got 1"),
        ("weightstandard", {"weight_eps": -1}, "must be a finite number of at least 0, got -1"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        ns.normalizer(name, **options)
