from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.probes import ChannelMoments, ChannelMomentsAlongStep, Subject


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 2, 5, 4, generator=generator, dtype=torch.float64), torch.arange(6) % 3


def network() -> nn.Sequential:
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 2), nn.BatchNorm2d(3)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    return model


def moments(z: Tensor) -> tuple[list[float], list[float]]:
    """Means and variances of the channels of images, one by one."""
    channels = [z[:, c].flatten() for c in range(z.shape[1])]
    return [c.mean().item() for c in channels], [(c - c.mean()).square().mean().item() for c in channels]


def summary(z: Tensor) -> list[float]:
    means, variances = moments(z)
    return [sum(map(abs, means)) / len(means), sum(map(math.sqrt, variances)) / len(means)]


def outputs(model: nn.Sequential, x: Tensor, *layers: int) -> list[Tensor]:
    model, found = copy.deepcopy(model).train(), []
    for i, layer in enumerate(model):
        x = layer(x)
        if i in layers:
            found.append(x.detach().clone())
    return found


def test_by_layer_they_are_the_means_over_channels(generator: torch.Generator) -> None:
    model, (x, y) = network(), batch()
    reading = ChannelMoments()(Subject(model, F.cross_entropy, (x, y)), generator=generator)

    expected = torch.tensor([summary(z) for z in outputs(model, x, 1, 4)], dtype=torch.float64).T
    torch.testing.assert_close(reading.values, expected)
    assert reading.labels == {"quantity": ("mean", "std"), "layer": ("1", "4")}


def test_by_channel_layers_need_not_have_as_many(generator: torch.Generator) -> None:
    model, batches = network(), [batch(0), batch(1)]
    subject = Subject(model, F.cross_entropy, batches[0], more=batches[1:])
    select = lambda name, module: isinstance(module, nn.Conv2d)  # noqa: E731
    reading = ChannelMoments(by="channel", select=select)(subject, generator=generator)

    expected = []
    for x, _ in batches:
        first, second = (moments(z) for z in outputs(model, x, 0, 3))
        expected.append(torch.tensor([first[0] + second[0], first[1] + second[1]], dtype=torch.float64))
    torch.testing.assert_close(reading.values, torch.stack(expected).mean(0))
    assert reading.labels["quantity"] == ("mean", "variance")
    assert reading.labels["channel"] == ("0:0", "0:1", "0:2", "0:3", "3:0", "3:1", "3:2")
    assert reading.stderr is not None


def test_the_input_side_is_what_enters_a_layer(generator: torch.Generator) -> None:
    model, (x, y) = network(), batch()
    select = lambda name, module: name in ("0", "3")  # noqa: E731
    reading = ChannelMoments(select=select, side="input")(Subject(model, F.cross_entropy, (x, y)), generator=generator)
    expected = [summary(x), summary(outputs(model, x, 2)[0])]
    torch.testing.assert_close(reading.values, torch.tensor(expected, dtype=torch.float64).T)


def test_tokens_and_features_have_their_channels_last(generator: torch.Generator) -> None:
    layer, x = nn.Linear(4, 3, dtype=torch.float64), torch.randn(5, 2, 4, generator=generator, dtype=torch.float64)
    reading = ChannelMoments(by="channel")(Subject(layer, lambda z, _: z.mean(), (x, None)), generator=generator)
    z = layer(x).flatten(0, 1)
    torch.testing.assert_close(reading.values, torch.stack([z.mean(0), z.var(0, correction=0)]).detach())


def test_normalized_channels_have_mean_zero_and_deviation_one(generator: torch.Generator) -> None:
    site = ns.normalizer("batchnorm").site(2, dtype=torch.float64)
    reading = ChannelMoments()(Subject(site, lambda z, _: z.sum(), batch()), generator=generator)
    assert reading.values[0].item() == pytest.approx(0, abs=1e-15)
    assert reading.values[1].item() == pytest.approx(1, abs=1e-4)


def test_last_reads_the_last_site_and_a_module_that_runs_twice_is_read_twice(generator: torch.Generator) -> None:
    model, (x, y) = network(), batch()
    subject = Subject(model, F.cross_entropy, (x, y))
    assert ChannelMoments(select="last")(subject, generator=generator).labels["layer"] == ("4",)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 2, 1).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x)).mean((2, 3))

    reading = ChannelMoments(by="channel")(Subject(Twice(), F.cross_entropy, (x, y % 2)), generator=generator)
    assert reading.labels["channel"] == ("layer:0", "layer:1", "layer#2:0", "layer#2:1")


def test_a_layer_that_cannot_be_read_is_named(generator: torch.Generator) -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((1, 2, 3))

    x, _ = batch()
    subject = Subject(nn.Sequential(nn.Conv2d(2, 2, 1).double(), Total()), lambda z, _: z.mean(), (x, None))
    with pytest.raises(ValueError, match=r"the output of '1' has the shape \(6,\)"):
        ChannelMoments(select=lambda name, module: name == "1")(subject, generator=generator)
    pairs = nn.Sequential(nn.MaxPool2d(2, return_indices=True))
    subject = Subject(pairs, lambda z, _: z[0].mean(), (x, None))
    with pytest.raises(TypeError, match="'0' returned tuple"):
        ChannelMoments(select=lambda name, module: name == "0")(subject, generator=generator)


def test_along_a_step_they_are_those_of_the_network_that_has_taken_that_share_of_it(generator: torch.Generator) -> None:
    model, (x, y) = network(), batch()
    fractions = (0.0, 0.3, 1.0)
    select = lambda name, module: isinstance(module, nn.Conv2d)  # noqa: E731
    probe = ChannelMomentsAlongStep(lr=0.2, fractions=fractions, select=select)
    reading = probe(Subject(model, F.cross_entropy, (x, y)), generator=generator)

    assert reading.axes == ("quantity", "fraction", "channel")
    assert reading.labels["fraction"] == ("0.0", "0.3", "1.0")
    for row, fraction in enumerate(fractions):
        there = copy.deepcopy(model).train()
        F.cross_entropy(there(x), y).backward()
        torch.optim.SGD(there.parameters(), lr=0.2 * fraction).step()
        first, second = (moments(z) for z in outputs(there, x, 0, 3))
        expected = torch.tensor([first[0] + second[0], first[1] + second[1]], dtype=torch.float64)
        torch.testing.assert_close(reading.values[:, row], expected)
    start = ChannelMoments(by="channel", select=select)(Subject(model, F.cross_entropy, (x, y)), generator=generator)
    torch.testing.assert_close(reading.values[:, 0], start.values)


def test_a_step_that_blows_up_is_a_reading(generator: torch.Generator) -> None:
    model, (x, y) = nn.Sequential(*(layer for layer in network() if not isinstance(layer, nn.BatchNorm2d))), batch()
    subject = Subject(model.float(), F.cross_entropy, (x.float(), y))
    select = lambda name, module: name == "2"  # noqa: E731
    reading = ChannelMomentsAlongStep(lr=1e38, fractions=(0.0, 1.0), select=select)(subject, generator=generator)
    assert reading.values[:, 0].isfinite().all()
    assert not reading.values[:, 1].isfinite().all()


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="`by` is one of 'layer', 'channel'"):
        ChannelMoments(by="site")
    with pytest.raises(ValueError, match="`side` is one of 'output', 'input'"):
        ChannelMoments(side="in")
    with pytest.raises(ValueError, match="`fractions` are finite shares of a step, at least 0, but"):
        ChannelMomentsAlongStep(fractions=(-0.1,))
    with pytest.raises(ValueError, match="`fractions` are finite shares"):
        ChannelMomentsAlongStep(fractions=())
    with pytest.raises(ValueError, match="`lr` is positive and finite"):
        ChannelMomentsAlongStep(lr=math.nan)


def test_before_the_step_the_network_is_itself_whatever_its_gradient(generator: torch.Generator) -> None:
    layer, x = nn.Linear(4, 3), torch.randn(5, 4, generator=generator)
    subject = Subject(layer, lambda z, _: (1e30 * z).sum() * 1e30, (x, None))  # whose gradient overflows float32
    values = ChannelMomentsAlongStep(lr=1.0, fractions=(0, 1))(subject, generator=generator).values
    there = ChannelMoments(by="channel")(subject, generator=generator).values
    assert torch.equal(values[:, 0], there)
    assert values[:, 1].isnan().all()


def test_the_input_side_is_read_of_modules_that_are_called_by_keyword(generator: torch.Generator) -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(input=x)

    x = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    probe = ChannelMoments(side="input", by="channel")
    reading = probe(Subject(ByKeyword(), lambda z, _: z.mean(), (x, None)), generator=generator)
    torch.testing.assert_close(reading.values, torch.stack([x.mean(0), x.var(0, correction=0)]))


def test_volumes_and_layer_norms_of_images_have_their_channels_first(generator: torch.Generator) -> None:
    volume = nn.Sequential(nn.Conv3d(2, 3, 1), nn.ReLU())
    x = torch.randn(4, 2, 5, 5, 5, generator=generator)
    probe = ChannelMoments(by="channel", select=lambda name, module: name == "1")
    reading = probe(Subject(volume, lambda z, _: z.mean(), (x, None)), generator=generator)
    torch.testing.assert_close(reading.values[0], volume(x).double().mean((0, 2, 3, 4)).detach())

    layer, image = nn.LayerNorm([3, 5, 4]), torch.randn(6, 3, 5, 4, generator=generator)
    reading = ChannelMoments(by="channel")(Subject(layer, lambda z, _: z.mean(), (image, None)), generator=generator)
    torch.testing.assert_close(reading.values[0], layer(image).double().mean((0, 2, 3)).detach())
