"""Models that do in their forward what ours never do: probes serve them as well."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.probes import (
    BatchRank,
    BatchSizeAccuracy,
    ChannelMoments,
    ChannelMomentsAlongStep,
    CovariateShift,
    GradientHistogram,
    GradientNoise,
    GradientSums,
    IsometryGap,
    LogitGradients,
    LossAlongGradient,
    Moments,
    Probe,
    RelativeLoss,
    Subject,
    WeightGradientNorm,
)

F64 = torch.float64


class Differentiating(nn.Module):
    """Its output holds its own derivative by the input, as of a force or of a differential equation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6, dtype=F64), nn.Linear(6, 4, dtype=F64)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        y: Tensor = self.second(torch.tanh(self.first(x)))
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return y + slope


class Spectral(nn.Module):
    """Multiplies in the frequency domain by complex parameters, and has one of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, dtype=F64)
        self.filter = nn.Parameter(torch.tensor([1 + 1j, 2 - 1j, 0.5 + 0j]))
        self.steps = nn.Parameter(torch.ones(1, dtype=torch.int64), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(self.layer(x)) * self.filter, n=4)


PROBES: tuple[Probe, ...] = (
    BatchRank(),
    BatchSizeAccuracy(sizes=(3, 6)),
    ChannelMoments(),
    ChannelMomentsAlongStep(lr=0.1, fractions=(0.0, 1.0)),
    CovariateShift(),
    GradientHistogram(bins=3),
    GradientNoise(batch_sizes=(2,)),
    GradientSums(),
    IsometryGap(side="input"),
    LogitGradients(),
    LossAlongGradient(step_sizes=(0.1,)),
    Moments(),
    RelativeLoss(step_sizes=(0.1,)),
    WeightGradientNorm(),
)


@pytest.mark.parametrize("model", [Differentiating, Spectral])
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_they_are_measured(probe: Probe, model: type[nn.Module], generator: torch.Generator) -> None:
    x, y = torch.randn(12, 4, generator=generator, dtype=F64), torch.arange(12) % 4
    reading = probe(Subject(model(), F.cross_entropy, (x, y)), generator=generator)
    assert reading.values.isfinite().all()


def test_the_step_of_a_model_that_differentiates_is_the_optimizers(generator: torch.Generator) -> None:
    model, x, y = Differentiating(), torch.randn(12, 4, generator=generator, dtype=F64), torch.arange(12) % 4
    value = RelativeLoss(step_sizes=(0.1,))(Subject(model, F.cross_entropy, (x, y)), generator=generator).values.item()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = F.cross_entropy(model(x), y)
    before.backward()
    optimizer.step()
    assert value == pytest.approx((F.cross_entropy(model(x), y) / before).item(), rel=1e-12)
