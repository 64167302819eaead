from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.models import DeepMLP
from normscope.nn import normalizer
from normscope.probes import ExplosionRate, GradientSymmetry, Subject, WeightGradientNorm
from normscope.probes.probe import Probe

F64 = torch.float64


def read(probe: Probe, model: nn.Module, *batches: tuple[Tensor, Tensor], loss: object = F.cross_entropy) -> Tensor:
    subject = Subject(model, loss, batches[0], more=batches[1:])  # type: ignore[arg-type]
    return probe(subject, generator=torch.Generator().manual_seed(0)).values


def small(dtype: torch.dtype = F64) -> nn.Sequential:
    """A small network of plain torch layers."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 8)
    ).to(dtype)


def images(generator: torch.Generator, count: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 6, 6, generator=generator, dtype=F64), torch.randint(8, (count,), generator=generator)


def deep(depth: int, generator: torch.Generator, *, width: int = 12, **options: object) -> DeepMLP:
    row = normalizer("bnl2", moment="rms")
    return DeepMLP(width, width, depth=depth, width=width, normalizer=row, generator=generator, **options)  # type: ignore[arg-type]


def square_batch(generator: torch.Generator, width: int = 12) -> tuple[Tensor, Tensor]:
    """As many examples as features, already an isometry."""
    x = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=F64)).Q
    return x, torch.arange(width)


def test_log_norms_are_those_of_autograd(generator: torch.Generator) -> None:
    model, (x, y) = small(), images(generator)
    F.cross_entropy(model(x), y).backward()
    expected = [model[index].weight.grad.square().sum().sqrt().log().item() for index in (0, 4, 6)]
    model.zero_grad()

    subject = Subject(model, F.cross_entropy, (x, y))
    reading = WeightGradientNorm()(subject, generator=generator)
    assert reading.values.tolist() == pytest.approx(expected, abs=1e-12)
    assert (reading.labels["layer"], reading.unit) == (("0", "4", "6"), "nats")
    assert WeightGradientNorm(select="last")(subject, generator=generator).labels["layer"] == ("6",)


def test_log_norms_are_averaged_over_batches_as_logarithms(generator: torch.Generator) -> None:
    model, batches = small(), [images(generator) for _ in range(3)]
    single = torch.stack([read(WeightGradientNorm(), model, batch) for batch in batches])
    reading = WeightGradientNorm()(Subject(model, F.cross_entropy, batches[0], more=batches[1:]), generator=generator)

    torch.testing.assert_close(reading.values, single.mean(0))
    torch.testing.assert_close(reading.stderr, single.std(0) / 3**0.5)


@pytest.mark.parametrize("scale", [1e25, 1e37])
def test_float32_gradients_whose_squares_overflow_have_a_log_norm(scale: float, generator: torch.Generator) -> None:
    model, (x, y) = small(torch.float32), images(generator)
    expected = read(WeightGradientNorm(), model, (x.float(), y))
    loud = read(
        WeightGradientNorm(), model, (x.float(), y), loss=lambda out, target: scale * F.cross_entropy(out, target)
    )

    assert scale**2 > torch.finfo(torch.float32).max
    torch.testing.assert_close(loud, expected + math.log(scale), atol=1e-5, rtol=0)


def test_gradients_that_float32_cannot_hold_are_infinite_and_float64_holds_them(generator: torch.Generator) -> None:
    x, y = torch.randn(4, 6, generator=generator), torch.randn(4, 6, generator=generator)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))

    def loss(out: Tensor, target: Tensor) -> Tensor:
        return (out * target).sum() * 1e20 * 1e20

    assert not read(WeightGradientNorm(), model, (x, y), loss=loss).isfinite().any()
    exact = read(WeightGradientNorm(), model.double(), (x.double(), y.double()), loss=loss)
    assert bool(((exact > 88) & (exact < 100)).all())


def test_a_weight_the_loss_does_not_depend_on_has_minus_infinity(generator: torch.Generator) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x)
            return self.used(x)

    x = torch.randn(4, 6, generator=generator)
    values = read(WeightGradientNorm(), TwoHeads(), (x, torch.zeros(4, dtype=torch.int64)))
    assert values[0].isfinite()
    assert values[1] == -math.inf


def test_a_thousand_layers_that_explode_are_read_in_float64(generator: torch.Generator) -> None:
    """sin grows by some 0.12 nats a layer here, so that float32, which ends at 88.7, could not hold these gradients."""
    model = deep(1000, generator, width=8, activation="sin").double()
    values = read(WeightGradientNorm(), model, square_batch(generator, 8))
    assert values.isfinite().all()
    assert values[1] > 89


def test_the_rate_is_the_slope_of_the_log_norms(generator: torch.Generator) -> None:
    model, batches = deep(9, generator, activation="tanh").double(), [square_batch(generator) for _ in range(2)]
    norms = read(WeightGradientNorm(), model, *batches)
    subject = Subject(model, F.cross_entropy, batches[0], more=batches[1:])
    reading = ExplosionRate(gap=4)(subject, generator=generator)

    torch.testing.assert_close(reading.values, (norms[:-4] - norms[4:]) / 4)
    assert reading.labels["layer"] == (*(f"affines.{layer}" for layer in range(4, 9)), "readout")
    assert reading.stderr is not None
    assert reading.stderr.shape == (6,)


def test_exploding_gradients_have_a_positive_rate(generator: torch.Generator) -> None:
    select = lambda name, _: name.startswith("affines.") and name != "affines.0"  # noqa: E731
    rates = read(ExplosionRate(select=select), deep(40, generator, activation="sin").double(), square_batch(generator))
    assert rates.shape == (29,)
    assert rates.mean().item() == pytest.approx(0.136, abs=0.03)


@pytest.mark.parametrize("gap", [0, -1, True, 2.0])
def test_a_gap_is_a_number_of_layers(gap: object) -> None:
    with pytest.raises(ValueError, match="`gap` is a number of layers, at least 1"):
        ExplosionRate(gap=gap)  # type: ignore[arg-type]


def test_a_network_too_shallow_for_the_gap_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="takes more than 3 layers with weights, but Sequential has 3"):
        read(ExplosionRate(gap=3), small(), images(generator))


def test_symmetric_and_antisymmetric_parts_are_those_of_the_definition(generator: torch.Generator) -> None:
    model, (x, y) = small(), images(generator)
    F.cross_entropy(model(x), y).backward()
    product = model[6].weight.grad @ model[6].weight.detach().T
    expected = [(product + product.T).norm().item() / 2, (product - product.T).norm().item() / 2]
    model.zero_grad()

    reading = GradientSymmetry()(Subject(model, F.cross_entropy, (x, y)), generator=generator)
    assert reading.labels == {"part": ("symmetric", "antisymmetric"), "layer": ("6",)}  # the one square weight
    assert reading.values.flatten().tolist() == pytest.approx(expected, rel=1e-12)
    loud = read(GradientSymmetry(), model, (x, y), loss=lambda out, target: 1e200 * F.cross_entropy(out, target))
    torch.testing.assert_close(loud / 1e200, reading.values)


def test_once_isometric_the_antisymmetric_norm_is_the_same_in_every_layer(generator: torch.Generator) -> None:
    """The reason why gradients do not explode: going back a layer, B becomes the off-diagonal part of WᵀBW."""
    width, depth = 12, 50
    torch.set_default_dtype(F64)
    try:
        model = deep(depth, generator, width=width)
    finally:
        torch.set_default_dtype(torch.float32)
    symmetric, antisymmetric = read(
        GradientSymmetry(select=lambda n, _: "readout" not in n), model, square_batch(generator)
    )

    torch.testing.assert_close(antisymmetric, antisymmetric[-1].expand(depth), rtol=1e-12, atol=0)
    assert bool((symmetric[:-1] <= symmetric[1:] * (1 + 1e-12)).all())
    assert symmetric[0] < 0.1 * antisymmetric[0] < 10 * symmetric[-1]


def test_the_symmetric_part_loses_two_in_d_plus_two_of_its_energy_a_layer() -> None:
    """On average over weights: 300 layers of 12 units, each with a fresh weight."""
    width, losses = 12, []
    for seed in range(12):
        draw = torch.Generator().manual_seed(seed)
        parts = read(GradientSymmetry(), deep(26, draw, width=width).double(), square_batch(draw, width))
        energy = parts[0, :-1].square()  # without the readout
        losses.append(1 - energy[:-1] / energy[1:])
    loss = torch.cat(losses)
    stderr = loss.std() / math.sqrt(len(loss))
    assert len(loss) == 300
    assert abs(loss.mean() - 2 / (width + 2)) < 4 * stderr
    assert stderr < 0.1 * 2 / (width + 2)


def test_a_square_weight_that_is_made_of_parameters_is_refused_by_name(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)))
    batch = torch.randn(4, 6, generator=generator), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"but '1' makes its weight of 1.parametrizations.weight.original0, 1"):
        read(GradientSymmetry(), model, batch)
    assert read(GradientSymmetry(select=lambda name, _: name == "0"), model, batch).shape == (2, 1)


def test_a_network_without_square_weights_is_refused(generator: torch.Generator) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4))
    with pytest.raises(ValueError, match="where the weight is square, but 0, 1 have none that is"):
        read(GradientSymmetry(), model, (torch.randn(4, 6, generator=generator), torch.zeros(4, dtype=torch.int64)))


@pytest.mark.parametrize("make", [nn.utils.parametrizations.orthogonal, nn.utils.spectral_norm])
def test_a_weight_made_of_one_parameter_is_no_parameter_either(
    make: Callable[[nn.Module], nn.Module], generator: torch.Generator
) -> None:
    model = nn.Sequential(make(nn.Linear(6, 6)), nn.Linear(6, 6))
    batch = torch.randn(4, 6, generator=generator), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="but '0' makes its weight of 0"):
        read(GradientSymmetry(), model, batch)
    assert read(GradientSymmetry(select=lambda name, _: name == "1"), model, batch).shape == (2, 1)
