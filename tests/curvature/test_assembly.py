from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature import zoo
from normscope.curvature import GGNOperator, HessianOperator


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"mode": "test"}, "mode is one of train, eval, but 'test' arrived"),
        ({"machinery": "magic"}, "machinery is one of auto, linearized, retained, .* but 'magic' arrived"),
        ({"dtype": torch.float16}, "dtype is one of None, torch.float32, torch.float64, but torch.float16 arrived"),
        ({"chunking": 0}, "chunking is at least 1, but 0 arrived"),
        ({"memory_limit": -5}, "memory_limit is at least 1, but -5 arrived"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        HessianOperator(zoo.mlp(), F.cross_entropy, zoo.features(), **options)


COUPLING = [row for row in zoo.ROWS.values() if row.couples_batch]


@pytest.mark.parametrize("row", COUPLING, ids=lambda row: row.name)
def test_chunking_is_refused_for_every_coupling_row_with_its_layers(row: Any) -> None:
    with pytest.raises(ValueError, match=r"norms\.0, norms\.1 couples the batch"):
        HessianOperator(zoo.row_mlp(row).double(), F.cross_entropy, zoo.features(), chunking=2)


@pytest.mark.parametrize("row", [row for row in COUPLING if row.evaluation == "running"], ids=lambda row: row.name)
def test_chunking_is_allowed_where_running_statistics_decouple(row: Any) -> None:
    model = zoo.row_mlp(row).double()
    operator = HessianOperator(model, F.cross_entropy, zoo.features(), chunking=2, mode="eval")
    assert operator.report.num_batches == 3


class Mixing(nn.Module):
    """Couples its batch and declares nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator])
def test_chunking_is_refused_for_an_undeclared_coupling_layer_by_name(kind: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 4), Mixing(), nn.Tanh(), nn.Linear(4, 3)).double()
    with pytest.raises(ValueError, match="but 1 couples the batch: split, it would be another function"):
        kind(model, F.cross_entropy, zoo.features(), chunking=2)


def test_many_coupling_layers_are_counted() -> None:
    layers = [layer for _ in range(7) for layer in (nn.Linear(4, 4), nn.BatchNorm1d(4))]
    with pytest.raises(ValueError, match="but 1, 3, 5, 7, 9 and 2 more couples"):
        HessianOperator(nn.Sequential(*layers).double(), F.cross_entropy, zoo.features(), chunking=2)


def test_chunking_is_refused_for_a_sum() -> None:
    loss = lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="sum")  # noqa: E731
    with pytest.raises(ValueError, match=r"chunking needs a loss that is a mean over examples, but it is .* on the"):
        HessianOperator(zoo.mlp().double(), loss, zoo.features(), chunking=2)


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator])
def test_a_loss_of_each_example_is_refused(kind: Any) -> None:
    loss = lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none")  # noqa: E731
    with pytest.raises(ValueError, match=r"returns one number.*shape \(6,\) arrived"):
        kind(zoo.mlp().double(), loss, zoo.features())


def test_a_loss_that_is_not_finite_is_refused_whichever_batch_has_it() -> None:
    x, y = zoo.features()
    overflowing = x.clone()
    overflowing[0] = torch.inf
    model = nn.Linear(4, 3).double()
    with pytest.raises(ValueError, match="where the loss is finite, but it is nan"):
        HessianOperator(model, F.cross_entropy, [(x, y), (overflowing, y)])


def test_a_parameter_that_gets_no_gradient_is_refused_by_name() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x) + self.idle(x).detach()

    model = Idle().double()
    with pytest.raises(ValueError, match=r"idle\.weight gets no gradient\. Leave it out with params"):
        HessianOperator(model, F.cross_entropy, zoo.features())
    assert HessianOperator(model, F.cross_entropy, zoo.features(), "used.*").size == 15


def test_a_batch_that_does_not_fit_says_the_chunking_that_does() -> None:
    model, batch = nn.Sequential(nn.Linear(4, 512), nn.Tanh(), nn.Linear(512, 3)).double(), zoo.features(4096)

    with pytest.raises(ValueError, match=r"4096 examples takes about .* GB can be had\. To fit, use chunking=\d+") as e:
        HessianOperator(model, F.cross_entropy, batch, memory_limit=20_000_000)

    size = int(str(e.value).split("chunking=")[1].rstrip("."))
    assert 1 < size < 4096
    operator = HessianOperator(model, F.cross_entropy, batch, memory_limit=20_000_000, chunking=size)
    assert operator.report.num_batches > 1


def test_a_coupled_batch_that_does_not_fit_says_how_many_examples_do() -> None:
    model = nn.Sequential(nn.Linear(4, 512), nn.BatchNorm1d(512), nn.Linear(512, 3)).double()
    with pytest.raises(ValueError, match=r"To fit, pass \d+ examples\."):
        HessianOperator(model, F.cross_entropy, zoo.features(4096), memory_limit=20_000_000)


def test_a_limit_below_one_example_is_refused() -> None:
    with pytest.raises(ValueError, match="Not one example fits"):
        HessianOperator(zoo.mlp().double(), F.cross_entropy, zoo.features(), memory_limit=10)


def test_batches_beyond_the_memory_are_computed_anew_in_each_product() -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm))
    x, y = zoo.features(400)
    whole = HessianOperator(model, F.cross_entropy, (x, y))
    v = torch.ones(whole.size, dtype=torch.float64)
    batches = [(x[i : i + 100], y[i : i + 100]) for i in range(0, 400, 100)]

    for machinery in ("auto", "linearized", "retained"):
        limits = (10**7 // 2**k for k in range(10))
        operators = (
            HessianOperator(model, F.cross_entropy, batches, machinery=machinery, memory_limit=limit)
            for limit in limits
        )
        some = next(operator for operator in operators if operator.report.num_transient)
        assert some.report.num_transient < 4
        torch.testing.assert_close(some.matvec(v), whole.matvec(v), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("message_of", [{"mode": "test"}, {"chunking": 2}, {"memory_limit": 10}])
def test_each_error_is_one_line(message_of: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        HessianOperator(zoo.mlp(nn.BatchNorm1d).double(), F.cross_entropy, zoo.features(), **message_of)
    assert "\n" not in str(raised.value)
