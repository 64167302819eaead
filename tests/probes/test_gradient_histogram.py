from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.probes import GradientHistogram, Subject


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network() -> nn.Sequential:
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3, stride=2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 3)).double()


def entries(model: nn.Module, x: Tensor, y: Tensor, index: int) -> np.ndarray:
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), model[index].weight)
    return gradient.flatten().numpy()


def test_the_histogram_is_that_of_the_weights_gradient(generator: torch.Generator) -> None:
    model, x, y = network(), draw(6, 2, 6, 5), torch.arange(6) % 3
    reading = GradientHistogram(bins=7)(Subject(model, F.cross_entropy, (x, y)), generator=generator)

    assert reading.labels["layer"] == ("0", "3", "5")
    for row, index in enumerate((0, 3, 5)):
        g = entries(model, x, y, index)
        counts, edges = np.histogram(g, 7, (-np.abs(g).max(), np.abs(g).max()))
        left, right, share = reading.values[:, row].numpy()
        np.testing.assert_allclose([left, right], [edges[:-1], edges[1:]], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(share, counts / len(g))
        assert share.sum() == pytest.approx(1)
    assert reading.stderr is None


def test_moments_tell_spread_and_tails(generator: torch.Generator) -> None:
    model, batches = network(), [(draw(6, 2, 6, 5, seed=s), torch.arange(6) % 3) for s in (0, 1)]
    subject = Subject(model, F.cross_entropy, batches[0], more=batches[1:])
    probe = GradientHistogram(statistic="moments", select=lambda name, module: isinstance(module, nn.Conv2d))
    reading = probe(subject, generator=generator)

    assert reading.labels == {"quantity": ("std", "largest", "excess_kurtosis"), "layer": ("0", "3")}
    for row, index in enumerate((0, 3)):
        g = np.concatenate([entries(model, *batch, index) for batch in batches])  # pooled
        expected = [g.std(), np.abs(g).max(), scipy.stats.kurtosis(g)]
        np.testing.assert_allclose(reading.values[:, row].numpy(), expected, rtol=1e-9)


def test_a_gradient_without_spread_and_bad_options(generator: torch.Generator) -> None:
    flat = nn.Linear(1, 3, bias=False, dtype=torch.float64)
    subject = Subject(flat, lambda y, _: y.mean(), (torch.ones(4, 1, dtype=torch.float64), None))
    values = GradientHistogram(statistic="moments")(subject, generator=generator).values[:, 0]
    assert values[0] == 0
    assert math.isnan(values[2])
    with pytest.raises(ValueError, match="`bins` is an integer of at least 1, but 0 arrived"):
        GradientHistogram(bins=0)
    with pytest.raises(ValueError, match="`statistic` is one of 'histogram', 'moments'"):
        GradientHistogram(statistic="kurtosis")
    with pytest.raises(ValueError, match="none of 1 modules is one"):
        GradientHistogram(select=lambda name, module: False)(subject, generator=generator)


def test_a_gradient_of_zeros_has_no_histogram_and_a_tiny_one_its_own_tails(generator: torch.Generator) -> None:
    layer, x = nn.Linear(5, 30, dtype=torch.float64), draw(4, 5)
    weights = draw(4, 30, seed=1).pow(3)

    def read(scale: float, **options: object) -> Tensor:
        subject = Subject(layer, lambda y, _: scale * (y * weights).sum(), (x, None))
        return GradientHistogram(**options)(subject, generator=generator).values[:, 0]  # type: ignore[arg-type]

    assert read(0.0).isnan().all()
    assert read(0.0, statistic="moments")[:2].tolist() == [0, 0]
    std, largest, kurtosis = read(1.0, statistic="moments").tolist()
    assert kurtosis > 0.5
    for scale in (1e-120, 1e120):  # whose fourth powers float64 does not hold
        assert read(scale, statistic="moments").tolist() == pytest.approx([scale * std, scale * largest, kurtosis])
