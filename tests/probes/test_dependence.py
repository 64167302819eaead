from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import normscope as ns
from normscope.models import MLP
from normscope.probes import BatchDependence, Subject, TrainEvalGap

ROWS = [row for row in ns.normalizers() if not row.needs_positions]  # what an MLP can have


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fresh() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def subject_of(model: nn.Module, *inputs, **options) -> Subject:
    first, *more = ((x, None) for x in inputs)
    return Subject(model, lambda outputs, _: outputs.mean(), first, more=more, **options)


def mlp(row: ns.Normalizer) -> MLP:
    return MLP(6, 4, depth=3, width=8, normalizer=row, generator=fresh())


def trained(model: nn.Module) -> nn.Module:
    """With running statistics of its own."""
    for seed in range(3):
        model.train()(3 * draw(9, 6, seed=100 + seed).float() + 1)
    return model


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_depends_on_the_batch_exactly_where_its_table_says(row: ns.Normalizer, mode: str) -> None:
    subject = subject_of(trained(mlp(row)), draw(9, 6).float(), draw(9, 6, seed=1).float())
    change = BatchDependence(mode=mode)(subject, generator=fresh()).values.item()
    couples = row.couples_batch and (mode == "train" or row.evaluation == "batch")
    assert (change > 1e-3) if couples else (change == 0)


class Centered(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_the_change_is_that_of_the_first_half_relative_to_it() -> None:
    a, b, c = draw(3, 2), draw(4, 2, seed=1), draw(7, 2, seed=2)
    reading = BatchDependence()(subject_of(Centered(), torch.cat([a, b]), c), generator=fresh())

    before = a - torch.cat([a, b]).mean(0)
    after = a - torch.cat([a, c[-4:]]).mean(0)
    torch.testing.assert_close(reading.values, (after - before).norm() / before.norm())
    assert reading.axes == ()
    assert reading.stderr is None


def test_pairs_are_averaged() -> None:
    batches = [draw(6, 2, seed=seed) for seed in range(4)]
    whole = BatchDependence()(subject_of(Centered(), *batches), generator=fresh())
    halves = [
        BatchDependence()(subject_of(Centered(), *pair), generator=fresh()).values
        for pair in (batches[:2], batches[2:])
    ]
    torch.testing.assert_close(whole.values, torch.stack(halves).mean())
    assert whole.stderr is not None


def test_what_has_no_axis_of_examples_is_left_as_it_is() -> None:
    class Scaled(nn.Module):
        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            y = inputs["x"] * inputs["scale"]
            return {"first": y - y.mean(0), "mean": y.mean(), "second": 2 * y}

    batches = [{"x": draw(4, 2, seed=seed), "scale": torch.full((3,), 2.0)[:2]} for seed in range(2)]
    reading = BatchDependence()(subject_of(Scaled(), *batches), generator=fresh())
    x, other = (2 * batch["x"] for batch in batches)
    before, after = x[:2] - x.mean(0), x[:2] - torch.cat([x[:2], other[2:]]).mean(0)
    expected = (after - before).norm() / torch.cat([before, 2 * x[:2]]).norm()
    torch.testing.assert_close(reading.values, expected)


def test_what_a_model_draws_for_itself_is_no_dependence() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn(x.shape)

    subject = subject_of(Noisy(), draw(4, 2), draw(4, 2, seed=1))
    assert BatchDependence()(subject, generator=fresh()).values == 0
    assert TrainEvalGap()(subject, generator=fresh()).values == 0


@pytest.mark.parametrize(("sizes", "message"), [((1, 1), "hold 1 and 1"), ((8, 3), "hold 8 and 3.*equal size")])
def test_batches_that_cannot_be_exchanged_are_refused(sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchDependence()(subject_of(Centered(), *(draw(n, 2) for n in sizes)), generator=fresh())


def test_one_batch_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"BatchDependence does not fit .* Pass further batches in more"):
        BatchDependence()(subject_of(Centered(), draw(4, 2)), generator=fresh())


def test_outputs_without_an_axis_of_examples_are_refused() -> None:
    subject = subject_of(nn.Linear(2, 2).double(), draw(4, 2), draw(4, 2), forward=lambda model, x: model(x).mean())
    with pytest.raises(ValueError, match="no output has a first axis of that length"):
        BatchDependence()(subject, generator=fresh())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_gap_of_batch_norm_is_that_of_its_two_formulas(mode: str) -> None:
    model, x = nn.BatchNorm1d(3, dtype=torch.float64), 2 * draw(8, 3) + 1
    with torch.no_grad():
        model.running_mean.copy_(draw(3, seed=1))
        model.running_var.copy_(1 + draw(3, seed=2).square())
    train = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()
    evaluated = (x - model.running_mean) / (model.running_var + 1e-5).sqrt()
    reading = TrainEvalGap(mode=mode)(subject_of(model, x), generator=fresh())
    expected = (train - evaluated).norm() / (train if mode == "train" else evaluated).norm()
    torch.testing.assert_close(reading.values, expected)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_a_gap_exactly_where_it_keeps_running_statistics(row: ns.Normalizer) -> None:
    gap = TrainEvalGap()(subject_of(trained(mlp(row)), draw(9, 6).float()), generator=fresh()).values.item()
    assert (gap > 0.01) if row.couples_batch and row.evaluation == "running" else (gap < 1e-6)


def test_dropout_is_off_on_both_sides_and_modes_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).double()
    model[1].eval()
    assert TrainEvalGap()(subject_of(model, draw(4, 2)), generator=fresh()).values == 0
    assert [module.training for module in model.modules()] == [True, True, False]
