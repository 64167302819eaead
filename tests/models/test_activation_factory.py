"""The activation injected per site: what each family asks its factory for, and that without one nothing has changed."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.models import FAMILIES, MLP, WideResNet
from normscope.nn import normalizer

from .standin import StandIn

# family -> shape of an example, options, what the factory is asked for: (num_features, channel_dim), in order
ASKED = {
    "mlp": ((6,), {"depth": 3, "width": 8}, [(8, 1)] * 3),
    "wrn": (
        (3, 8, 8),
        {"depth": 8, "width": 1},
        [(c, 1) for c in (64, 16, 16, 16, 32, 32, 64)],
    ),
    "resnet": (
        (3, 8, 8),
        {"depth": 26, "width": 2, "stem": "small"},
        [(2, 1), *[(c, 1) for width in (2, 4, 8, 16) for _ in range(2) for c in (width, width, 4 * width)]],
    ),
    "cifar_resnet": ((3, 8, 8), {"depth": 14, "width": 2}, [(c, 1) for c in (2, *[2] * 4, *[4] * 4, *[8] * 4)]),
    "vgg": ((3, 8, 8), {"width": 2}, [(c, 1) for c in (2, 4, 8, 8, 16, 16, 16, 16)]),
    "transformer": ((5,), {"depth": 2, "dim": 8, "heads": 2, "hidden": 12, "dropout": 0.0}, [(12, 2)] * 2),
}
FAMILY = pytest.mark.parametrize("name", ASKED)


def built(name, generator, **changes):
    shape, options, _ = ASKED[name]
    return FAMILIES[name].build(shape, 7, normalizer=StandIn(), generator=generator, **options, **changes)


def example(name, generator):
    shape = ASKED[name][0]
    if name == "transformer":
        return torch.randint(0, 7, (3, *shape), generator=generator)
    return torch.randn(3, *shape, generator=generator)


class Threshold(nn.Module):
    """max(y, tau) with a tau per channel, checking what arrives."""

    def __init__(self, num_features: int, channel_dim: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(num_features))
        self.channel_dim = channel_dim

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = [1] * x.ndim
        shape[self.channel_dim] = -1
        assert x.shape[self.channel_dim] == len(self.tau)
        return torch.maximum(x, self.tau.view(shape))


@FAMILY
def test_the_factory_is_asked_for_the_channels_of_every_site_it_follows(name, seeded):
    asked = []

    def factory(num_features, channel_dim):
        asked.append((num_features, channel_dim))
        return Threshold(num_features, channel_dim)

    model = built(name, seeded(0), activation_factory=factory)
    assert sorted(asked) == sorted(ASKED[name][2])
    model(example(name, seeded(1))).square().mean().backward()
    taus = [module.tau for module in model.modules() if isinstance(module, Threshold)]
    assert len(taus) == len(asked)
    assert all(tau.grad is not None for tau in taus)  # each of them is used


@FAMILY
def test_the_default_as_a_module_is_the_default(name, seeded):
    module = nn.GELU if name == "transformer" else nn.ReLU
    plain, made = built(name, seeded(0)), built(name, seeded(0), activation_factory=lambda c, d: module())
    x = example(name, seeded(1))
    torch.testing.assert_close(plain(x), made(x), rtol=0, atol=0)
    other = built(name, seeded(0), activation_factory=lambda c, d: nn.Tanh())
    assert not torch.allclose(plain(x), other(x))


@FAMILY
def test_without_a_factory_there_is_no_further_module(name, seeded):
    assert not [key for key, _ in built(name, seeded(0)).named_modules() if "activation" in key]


@FAMILY
def test_factories_that_make_no_module_are_refused(name, seeded):
    with pytest.raises(TypeError, match=r"must make an nn\.Module, got str"):
        built(name, seeded(0), activation_factory=lambda c, d: "relu")
    with pytest.raises(TypeError, match="is a function of"):
        built(name, seeded(0), activation_factory="relu")


def test_recurrent_networks_have_no_relu_to_replace(seeded):
    with pytest.raises(ValueError, match="has gates and no ReLU"):
        FAMILIES["recurrent"].build(
            (5, 4), 3, normalizer=StandIn(), generator=seeded(0), activation_factory=lambda c, d: nn.ReLU()
        )


def test_deep_linear_networks_have_no_activation_to_replace(seeded):
    with pytest.raises(ValueError, match="deep_linear has no activation"):
        FAMILIES["deep_linear"].build(
            (5,), 3, normalizer=StandIn(), generator=seeded(0), activation_factory=lambda c, d: nn.ReLU()
        )


def test_an_mlp_takes_its_activation_one_way(seeded):
    with pytest.raises(ValueError, match="takes activation or activation_factory, got both"):
        MLP(
            4,
            2,
            depth=1,
            width=4,
            normalizer=StandIn(),
            generator=seeded(0),
            activation=torch.tanh,
            activation_factory=lambda c, d: nn.Tanh(),
        )


@pytest.mark.parametrize("family", ["mlp", "wrn"])
def test_weights_of_a_generator_are_drawn_in_the_order_records_were_made_with(family, seeded):
    common = {"normalizer": normalizer("batchnorm"), "generator": seeded(7)}
    if family == "mlp":
        model = MLP(6, 5, depth=3, width=8, **common)
    else:
        model = WideResNet(3, 5, depth=14, widen_factor=1, **common)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    generator = seeded(7)
    in_order = layers
    if family == "wrn":  # a block's shortcut is listed and drawn after its branch, the readout last
        assert in_order[0] is model.stem
        assert in_order[-1] is model.readout
    for layer in in_order:
        fan_in = layer.weight[0].numel()
        std = math.sqrt((1 if layer is model.readout else 2) / fan_in)
        assert torch.equal(layer.weight, torch.empty_like(layer.weight).normal_(0, std, generator=generator))


def test_the_state_dict_of_a_network_without_a_factory_has_the_keys_it_had(seeded):
    model = WideResNet(3, 5, depth=8, widen_factor=1, normalizer=normalizer("none"), generator=seeded(0))
    names = ["stem"]
    names += [
        f"blocks.{i}.{part}" for i in range(3) for part in ("conv1", "conv2", "shortcut") if i or part != "shortcut"
    ]
    expected = {f"{name}.{key}" for name in [*names, "readout"] for key in ("weight", "bias")}
    assert set(model.state_dict()) == expected
    mlp = MLP(6, 5, depth=2, width=8, normalizer=normalizer("none"), generator=seeded(0), activation=nn.PReLU())
    assert "activation.weight" in mlp.state_dict()  # a module given as the activation stays where it was
    assert mlp.activation(torch.ones(1)) == F.relu(torch.ones(1))
