from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.probes import GradientNoise, Subject

LR = 0.3


def examples(count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64), torch.arange(count) % 2


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)).double()


def gradient(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    gradients = torch.autograd.grad(F.cross_entropy(network(x), y), list(network.parameters()))
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_it_is_the_mean_squared_error_over_all_minibatches_there_are(size: int, generator: torch.Generator) -> None:
    """Over all 5^B draws with replacement, and over all subsets without."""
    network, (x, y) = model(), examples()
    reading = GradientNoise(lr=LR, batch_sizes=(size,))(Subject(network, F.cross_entropy, (x, y)), generator=generator)

    whole = gradient(network, x, y)
    each = torch.stack([gradient(network, x[i : i + 1], y[i : i + 1]) for i in range(5)])

    def error(chosen: tuple[int, ...]) -> float:
        return (LR * (each[list(chosen)].mean(0) - whole)).square().sum().item()

    draws = [error(chosen) for chosen in itertools.product(range(5), repeat=size)]
    subsets = [error(chosen) for chosen in itertools.combinations(range(5), size)]
    variance, bound, exact = reading.values[:, 0].tolist()
    assert variance == pytest.approx((each - whole).square().sum(1).mean().item(), rel=1e-12)
    assert bound == pytest.approx(sum(draws) / len(draws), rel=1e-10)
    assert exact == pytest.approx(sum(subsets) / len(subsets), rel=1e-10, abs=1e-30)
    assert (exact == 0) == (size == 5)


def test_it_grows_with_the_square_of_the_rate_and_falls_with_the_batch(generator: torch.Generator) -> None:
    subject = Subject(model(), F.cross_entropy, examples(8))
    first, second = (GradientNoise(lr=lr, batch_sizes=(1, 4))(subject, generator=generator).values for lr in (0.1, 0.2))
    torch.testing.assert_close(second[1:], 4 * first[1:])
    assert first[1, 0].item() == pytest.approx(4 * first[1, 1].item())
    assert first[2, 1].item() == pytest.approx(first[1, 1].item() * 4 / 7)
    assert torch.equal(first[0], second[0])
    assert first[0, 0] == first[0, 1]


def test_the_examples_of_all_batches_are_pooled(generator: torch.Generator) -> None:
    network, (x, y) = model(), examples(7)
    probe = GradientNoise(lr=LR, batch_sizes=(7,))
    whole = probe(Subject(network, F.cross_entropy, (x, y)), generator=generator)
    split = Subject(network, F.cross_entropy, (x[:4], y[:4]), more=[(x[4:], y[4:])])
    reading = probe(split, generator=generator)
    torch.testing.assert_close(reading.values, whole.values)
    assert reading.stderr is None
    assert reading.labels == {"quantity": ("variance", "bound", "without_replacement"), "batch_size": ("7",)}


def test_gradients_that_hardly_differ_keep_their_digits(generator: torch.Generator) -> None:
    """In one pass: the mean square less the square of the mean would have no digit left here."""
    x = 1e6 + torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    subject = Subject(nn.Linear(1, 1, bias=False, dtype=torch.float64), lambda y, _: y.mean(), (x, torch.zeros(4)))
    variance = GradientNoise(batch_sizes=(2,))(subject, generator=generator).values[0, 0].item()
    assert variance == pytest.approx(1.25, rel=1e-12)


def test_batch_statistics_are_refused_by_the_names_of_their_layers(generator: torch.Generator) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    subject = Subject(network, F.cross_entropy, examples())
    with pytest.raises(ValueError, match=r"but 1 couples the batch\. Use mode='eval'"):
        GradientNoise()(subject, generator=generator)
    alone = GradientNoise(mode="eval")(subject, generator=generator).values[0, 0].item()
    x, y = examples()
    each = torch.stack([gradient(network.eval(), x[i : i + 1], y[i : i + 1]) for i in range(5)])
    assert alone == pytest.approx((each - each.mean(0)).square().sum(1).mean().item(), rel=1e-10)

    row = ns.normalizer("batchnorm_train")  # has no other statistics in eval mode
    generator_ = torch.Generator().manual_seed(0)
    deep = ns.models.MLP(3, 2, depth=7, width=4, normalizer=row, generator=generator_).double()
    with pytest.raises(ValueError, match=r"norms.0, norms.1, norms.2, norms.3, norms.4 and 2 more couples the batch"):
        GradientNoise(mode="eval")(Subject(deep, F.cross_entropy, examples()), generator=generator)


def test_a_module_that_mixes_examples_without_saying_so_is_found(generator: torch.Generator) -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    network = nn.Sequential(nn.Linear(3, 4), Mixing(), nn.Linear(4, 2)).double()
    with pytest.raises(ValueError, match="but 1 couples the batch"):
        GradientNoise(mode="eval")(Subject(network, F.cross_entropy, examples()), generator=generator)


def test_a_loss_that_is_no_mean_and_sizes_that_do_not_fit_are_refused(generator: torch.Generator) -> None:
    summed = Subject(model(), lambda z, y: F.cross_entropy(z, y, reduction="sum"), examples())
    with pytest.raises(ValueError, match="The loss of a batch is the mean over its examples, but it is"):
        GradientNoise()(summed, generator=generator)
    subject = Subject(model(), F.cross_entropy, examples())
    with pytest.raises(ValueError, match="at most all examples, 5 here, but size 6"):
        GradientNoise(batch_sizes=(2, 6))(subject, generator=generator)
    with pytest.raises(ValueError, match="`batch_sizes` are integers of at least 1, but"):
        GradientNoise(batch_sizes=(0,))
    with pytest.raises(ValueError, match=r"`lr` is positive and finite, but -1\.0 arrived"):
        GradientNoise(lr=-1.0)


def test_a_model_that_diverged_has_no_noise_that_is_defined(generator: torch.Generator) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    with torch.no_grad():
        network[2].weight.fill_(math.inf)
    for mode in ("train", "eval"):
        reading = GradientNoise(batch_sizes=(1, 2), mode=mode)(
            Subject(network, F.cross_entropy, examples()), generator=generator
        )
        assert reading.values.isnan().all()


def test_one_example_has_no_spread(generator: torch.Generator) -> None:
    values = GradientNoise()(Subject(model(), F.cross_entropy, examples(1)), generator=generator).values[:, 0]
    assert values[:2].tolist() == [0, 0]
    assert math.isnan(values[2])
