"""Centering and scaling of sites: against closed forms, and for every row of the table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import normscope as ns
from normscope.models import MLP, WideResNet
from normscope.probes import Moments, Reading, Subject

ROWS = {row.name: row for row in ns.normalizers()}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(model: nn.Module, x: Tensor, **options) -> Reading:
    subject = Subject(model, lambda outputs, _: outputs.mean(), (x, None))
    return Moments(**options)(subject, generator=torch.Generator().manual_seed(0))


def quantity(reading: Reading, name: str) -> Tensor:
    return reading.values[reading.labels["quantity"].index(name)]


def mlp(normalizer: ns.NormalizerLike) -> MLP:
    """A float64 MLP of three sites, with gains and shifts that are not the trivial ones."""
    generator = torch.Generator().manual_seed(0)
    model = MLP(6, 4, depth=3, width=8, normalizer=normalizer, generator=generator).double()
    with torch.no_grad():
        for index, parameter in enumerate(p for p in model.parameters() if p.ndim == 1):
            parameter.add_(0.4 * draw(len(parameter), seed=index))
    return model


def test_the_six_numbers_are_those_of_their_definition():
    model, z = nn.Sequential(nn.Identity()), 1 + draw(5, 3, 2, 2)
    reading = measured(model, z, select=lambda name, module: isinstance(module, nn.Identity))
    assert reading.axes == ("quantity", "layer")
    assert reading.labels["layer"] == ("0",)
    for over, groups in (("batch", z.transpose(0, 1).flatten(1)), ("layer", z.flatten(1))):
        means, scales = groups.mean(1), groups.square().mean(1).sqrt()
        assert quantity(reading, f"{over}_mean").item() == pytest.approx(means.square().mean().sqrt().item())
        assert quantity(reading, f"{over}_rms").item() == pytest.approx(scales.mean().item())
        assert quantity(reading, f"{over}_spread").item() == pytest.approx(scales.std(correction=0).item())


# What a row's definition makes exact, up to eps: means over which axes are 0, root mean squares over which are 1.
CENTERED = {"batchnorm": "batch", "batchnorm_train": "batch", "layernorm": "layer", "lmbv": ""}
SCALED = {"batchnorm": "batch", "layernorm": "layer", "regnorm": "layer", "prelayernorm": ""}


@pytest.mark.parametrize("name", CENTERED)
def test_rows_that_subtract_a_mean_are_centered_there(name):
    reading = measured(mlp(ROWS[name]), 2 + draw(16, 6))
    for over in ("batch", "layer"):
        means = quantity(reading, f"{over}_mean")
        assert (means.max() < 1e-6) == (over == CENTERED[name]), means


@pytest.mark.parametrize("name", SCALED)
def test_rows_that_divide_by_a_root_mean_square_have_that_of_one(name):
    """PreLayerNorm divides by the deviation about a mean that it does not subtract."""
    reading = measured(mlp(ROWS[name]), 2 + draw(16, 6))
    for over in ("batch", "layer"):
        away = (quantity(reading, f"{over}_rms") - 1).abs() + quantity(reading, f"{over}_spread")
        assert (away.max() < 1e-3) == (over == SCALED[name]), away


def test_without_a_normalizer_nothing_is_scaled():
    small, large = (measured(mlp(ROWS["none"]), factor * draw(16, 6)) for factor in (1, 10))
    assert (quantity(large, "batch_rms") > 2 * quantity(small, "batch_rms")).all()


def test_images_are_grouped_by_channel_and_by_example():
    generator = torch.Generator().manual_seed(0)
    model = WideResNet(3, 4, depth=8, widen_factor=1, normalizer=ROWS["layernorm"], generator=generator).double()
    reading = measured(model, draw(5, 3, 8, 8))
    assert quantity(reading, "layer_mean").max() < 1e-6
    assert (quantity(reading, "layer_rms") - 1).abs().max() < 1e-3
    assert quantity(reading, "batch_mean").min() > 1e-3
    assert len(reading.labels["layer"]) == sum(hasattr(module, "normalizer_site") for module in model.modules())


def test_tokens_are_examples_of_their_own():
    model, x = nn.LayerNorm(4, eps=0.0).double(), draw(3, 5, 4)
    reading = measured(nn.Sequential(model), x)
    assert quantity(reading, "layer_mean").item() < 1e-12
    assert quantity(reading, "layer_rms").item() == pytest.approx(1)
    expected = model(x).detach().mean((0, 1)).square().mean().sqrt()
    assert quantity(reading, "batch_mean").item() == pytest.approx(expected.item())


def test_the_last_site_alone_and_a_spread_over_batches():
    x = draw(16, 6)
    model = mlp(ROWS["batchnorm"])
    subject = Subject(model, lambda outputs, _: outputs.mean(), (x, None), more=[(draw(16, 6, seed=1), None)])
    reading = Moments(select="last")(subject, generator=torch.Generator().manual_seed(0))
    assert reading.labels["layer"] == ("norms.2",)
    assert reading.stderr is not None
    assert reading.stderr.shape == reading.values.shape == (6, 1)


def test_an_impossible_mode_is_refused():
    with pytest.raises(ValueError, match="`mode` is one of"):
        Moments(mode="test")
