from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.probes import LogitGradients, Subject


def batch(seed: int = 0, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (size,), generator=generator)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()


def test_rows_are_softmax_minus_the_label_over_the_batch_size(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    reading = LogitGradients()(Subject(network, F.cross_entropy, (x, y)), generator=generator)

    expected = (network(x).softmax(1) - F.one_hot(y, 4)) / 6
    torch.testing.assert_close(reading.values, expected.detach())
    torch.testing.assert_close(reading.values.sum(1), torch.zeros(6, dtype=torch.float64), atol=1e-16, rtol=0)
    assert reading.axes == ("example", "class")
    assert reading.labels == {"example": tuple("012345"), "class": tuple("0123")}
    assert reading.stderr is None


def test_batches_come_one_after_the_other_each_normalized_by_itself(generator: torch.Generator) -> None:
    network, batches = model(), [batch(0), batch(1, size=3)]
    together = LogitGradients()(Subject(network, F.cross_entropy, batches[0], more=batches[1:]), generator=generator)
    alone = [LogitGradients()(Subject(network, F.cross_entropy, one), generator=generator).values for one in batches]
    assert torch.equal(together.values, torch.cat(alone))


def test_similarity_is_the_mean_cosine_of_all_pairs(generator: torch.Generator) -> None:
    network, batches = model(), [batch(0), batch(1)]
    probe = LogitGradients(statistic="similarity")
    reading = probe(Subject(network, F.cross_entropy, batches[0], more=batches[1:]), generator=generator)

    means = []
    for one in batches:
        rows = LogitGradients()(Subject(network, F.cross_entropy, one), generator=generator).values
        cosines = [F.cosine_similarity(a, b, dim=0) for a, b in itertools.combinations(rows, 2)]
        means.append(torch.stack(cosines).mean().item())
    assert reading.values.item() == pytest.approx(sum(means) / 2, rel=1e-12)
    assert reading.stderr is not None
    assert reading.stderr.item() == pytest.approx(abs(means[0] - means[1]) / 2, rel=1e-9)


def test_a_network_that_says_the_same_of_every_input_has_one_positive_column_and_rows_alike(
    generator: torch.Generator,
) -> None:
    x, y = batch(size=40)
    network = nn.Linear(5, 4, dtype=torch.float64)
    with torch.no_grad():
        network.weight.mul_(0)
        network.bias.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))
    subject = Subject(network, F.cross_entropy, (x, y))
    rows = LogitGradients()(subject, generator=generator).values
    assert (rows[y != 1, 1] > 0.024).all()
    assert LogitGradients(statistic="similarity")(subject, generator=generator).values > 0.3


def test_targets_that_do_not_count_are_left_out_of_the_similarity(generator: torch.Generator) -> None:
    network, (x, y) = nn.Linear(5, 4, dtype=torch.float64), batch()
    ignored = y.clone()
    ignored[4:] = -100
    probe = LogitGradients(statistic="similarity")
    whole = probe(Subject(network, F.cross_entropy, (x, ignored)), generator=generator).values
    torch.testing.assert_close(
        whole, probe(Subject(network, F.cross_entropy, (x[:4], y[:4])), generator=generator).values
    )
    one = probe(Subject(network, F.cross_entropy, (x[:1], y[:1])), generator=generator).values
    assert math.isnan(one.item())


def test_tokens_are_rows_too(generator: torch.Generator) -> None:
    network, x = nn.Linear(5, 4, dtype=torch.float64), batch()[0].view(2, 3, 5)
    y = torch.arange(6).view(2, 3) % 4
    subject = Subject(network, lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten()), (x, y))
    expected = (network(x).softmax(-1) - F.one_hot(y, 4)).flatten(0, 1) / 6
    torch.testing.assert_close(LogitGradients()(subject, generator=generator).values, expected.detach())


def test_other_outputs_and_losses_are_refused(generator: torch.Generator) -> None:
    x, y = batch()
    for forward, arrived in ((lambda m, x: [m(x)], "list"), (lambda m, x: m(x).sum(1), r"torch.float64 of \(6,\)")):
        with pytest.raises(ValueError, match=f"one floating-point tensor .* but {arrived} arrived"):
            LogitGradients()(Subject(model(), F.cross_entropy, (x, y), forward=forward), generator=generator)
    constant = Subject(model(), lambda z, _: torch.ones((), dtype=z.dtype), (x, y))
    with pytest.raises(ValueError, match="needs a loss that depends on them"):
        LogitGradients()(constant, generator=generator)
    with pytest.raises(ValueError, match="`statistic` is one of 'gradient', 'similarity'"):
        LogitGradients(statistic="cosine")


def test_a_loss_that_writes_to_the_outputs_is_differentiated_all_the_same(generator: torch.Generator) -> None:
    network, (x, y) = model(), batch()
    cooled = lambda z, y: F.cross_entropy(z.div_(2), y)  # noqa: E731
    rows = LogitGradients()(Subject(network, cooled, (x, y)), generator=generator).values
    torch.testing.assert_close(rows, ((network(x) / 2).softmax(1) - F.one_hot(y, 4)).detach() / 12)
