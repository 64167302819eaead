from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from normscope.models import MLP, NormalizerLike, WideResNet, as_normalizer


class Declared(nn.Identity):
    couples_batch = True

    def __init__(self, num_features: int) -> None:
        super().__init__()


def test_an_adapted_constructor_meets_the_protocol():
    assert isinstance(as_normalizer(nn.BatchNorm2d), NormalizerLike)


def test_each_site_is_a_new_module_of_the_factory_marked_with_the_name():
    row = as_normalizer(lambda c: nn.GroupNorm(4, c), name="groupnorm")
    one, two = row.site(8), row.site(8)
    assert isinstance(one, nn.GroupNorm)
    assert one is not two
    assert (one.num_channels, one.normalizer_site) == (8, "groupnorm")


@pytest.mark.parametrize(
    ("factory", "name", "couples_batch"),
    [
        (nn.BatchNorm2d, "BatchNorm2d", True),
        (lambda c: nn.Sequential(nn.BatchNorm1d(c)), "Sequential", True),
        (functools.partial(nn.GroupNorm, 4), "GroupNorm", False),
        (nn.InstanceNorm2d, "InstanceNorm2d", False),
        (Declared, "Declared", True),
    ],
)
def test_name_and_coupling_are_found_by_looking_at_what_the_factory_builds(factory, name, couples_batch):
    row = as_normalizer(factory)
    assert (row.name, row.couples_batch) == (name, couples_batch)


def test_what_is_said_outright_is_believed_and_the_factory_left_alone():
    row = as_normalizer(lambda c: 1 / 0, name="mine", couples_batch=True)
    assert (row.name, row.couples_batch) == ("mine", True)


def test_adapting_leaves_the_global_random_state():
    before = torch.get_rng_state()
    as_normalizer(lambda c: nn.Linear(c, c))
    assert torch.equal(before, torch.get_rng_state())


def test_the_affine_layer_stays_as_it_is():
    layer = nn.Linear(3, 3)
    assert as_normalizer(nn.BatchNorm1d).affine(layer) is layer


def test_torchs_layers_run_in_both_models(seeded):
    mlp = MLP(6, 3, depth=2, width=8, normalizer=as_normalizer(nn.BatchNorm1d), generator=seeded(0))
    wrn = WideResNet(
        3, 4, depth=8, widen_factor=1, normalizer=as_normalizer(functools.partial(nn.GroupNorm, 4)), generator=seeded(0)
    )
    assert mlp(torch.randn(5, 6, generator=seeded(1))).shape == (5, 3)
    assert wrn(torch.randn(2, 3, 9, 7, generator=seeded(1))).shape == (2, 4)


def test_bad_factories_are_refused():
    with pytest.raises(TypeError, match="takes a constructor"):
        as_normalizer("batchnorm")
    with pytest.raises(TypeError, match=r"must build an nn\.Module, got Tensor"):
        as_normalizer(torch.ones)
    with pytest.raises(ValueError, match=r"could not build 64 features.*Pass name= and couples_batch="):
        as_normalizer(lambda c: nn.GroupNorm(5, c))
    with pytest.raises(ValueError, match="got channel_dim=-1"):
        as_normalizer(nn.BatchNorm2d).site(8, channel_dim=-1)


@pytest.mark.parametrize("wrong", ["batchnorm", nn.BatchNorm2d, None])
def test_models_refuse_what_is_no_normalizer_and_name_the_two_ways(wrong, seeded):
    with pytest.raises(TypeError, match=r"Use normscope\.normalizer\(NAME\) or normscope\.as_normalizer"):
        MLP(4, 2, depth=1, width=4, normalizer=wrong, generator=seeded(0))
    with pytest.raises(TypeError, match="takes a normalizer with site"):
        WideResNet(3, 2, normalizer=wrong, generator=seeded(0))
