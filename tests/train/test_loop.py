from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.train import DIVERGED_LOSS, Objective, fit, sgd


def quadratic(start: float) -> tuple[nn.Module, object]:
    """Loss w^2 / 2 of one parameter, with the batch as an added constant: the gradient is w."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, start)

    def objective(batch: torch.Tensor) -> Objective:
        loss = model.weight.square().sum() / 2 + batch
        return Objective(loss, loss)

    return model, objective


def test_each_step_is_gradient_descent_and_reports_the_loss_before_it():
    model, objective = quadratic(8.0)
    batches = [torch.zeros((), dtype=torch.float64)] * 3
    steps, weights = [], []
    for step in fit(objective, batches, torch.optim.SGD(model.parameters(), lr=0.5)):
        steps.append(step)
        weights.append(model.weight.item())
    assert weights == [4.0, 2.0, 1.0]
    assert [step.loss for step in steps] == [32.0, 8.0, 2.0]
    assert [step.index for step in steps] == [1, 2, 3]
    assert not any(step.diverged for step in steps)


def test_what_is_minimized_is_the_total_and_what_is_reported_is_the_loss_and_the_parts():
    model, _ = quadratic(1.0)

    def objective(batch: torch.Tensor) -> Objective:
        penalty = 3 * model.weight.sum()
        return Objective(total=penalty, loss=batch, parts={"penalty": penalty.float()})

    batches = [torch.tensor(2.5, dtype=torch.float64)]
    (step,) = fit(objective, batches, torch.optim.SGD(model.parameters(), lr=1.0))
    assert model.weight.item() == -2.0
    assert (step.loss, step.parts) == (2.5, {"penalty": 3.0})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), DIVERGED_LOSS * 1.01])
def test_divergence_ends_the_run_and_leaves_the_parameters(bad):
    model, objective = quadratic(1.0)
    batches = [torch.tensor(value, dtype=torch.float64) for value in (0.0, bad, 0.0)]
    steps = list(fit(objective, batches, torch.optim.SGD(model.parameters(), lr=0.5)))
    assert [(step.index, step.diverged) for step in steps] == [(1, False), (2, True)]
    assert model.weight.item() == 0.5


def test_a_penalty_that_is_not_finite_is_divergence_too():
    model, _ = quadratic(1.0)

    def objective(batch: torch.Tensor) -> Objective:
        return Objective(model.weight.sum() * float("nan"), batch)

    (step,) = fit(objective, [torch.zeros(())], torch.optim.SGD(model.parameters(), lr=1.0))
    assert step.diverged
    assert model.weight.item() == 1.0


def test_a_loss_just_below_the_limit_is_trained_on():
    model, objective = quadratic(1.0)
    batch = torch.tensor(DIVERGED_LOSS - 1, dtype=torch.float64)
    (step,) = fit(objective, [batch], torch.optim.SGD(model.parameters(), lr=0.5))
    assert not step.diverged
    assert model.weight.item() == 0.5


def test_the_limit_may_be_raised_for_a_network_that_begins_above_it():
    for value, diverged in ((10 * DIVERGED_LOSS, False), (200 * DIVERGED_LOSS, True)):
        model, objective = quadratic(1.0)
        batch = torch.tensor(value, dtype=torch.float64)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        (step,) = fit(objective, [batch], optimizer, diverged_loss=100 * DIVERGED_LOSS)
        assert step.diverged == diverged


def test_stopping_early_takes_no_further_step():
    model, objective = quadratic(1.0)
    batches = itertools.repeat(torch.zeros((), dtype=torch.float64))
    next(fit(objective, batches, torch.optim.SGD(model.parameters(), lr=0.5)))
    assert model.weight.item() == 0.5


def test_the_loop_equals_the_bare_loop_bit_for_bit(generator):
    def network() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(model[0].bias)
        nn.init.zeros_(model[3].bias)
        return model

    batches = [(torch.randn(16, 4, generator=generator), torch.arange(16) % 3) for _ in range(5)]
    ours, bare = network(), network()

    def objective(batch):
        loss = F.cross_entropy(ours(batch[0]), batch[1])
        return Objective(loss, loss)

    losses = [step.loss for step in fit(objective, batches, sgd(ours, lr=0.1, weight_decay=1e-3))]
    optimizer = sgd(bare, lr=0.1, weight_decay=1e-3)
    expected = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(bare(inputs), targets)
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == expected
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))


def test_a_schedule_multiplies_the_rates_of_all_groups_and_puts_them_back():
    model = nn.Linear(1, 2, bias=True).double()
    groups = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias], "lr": 0.25}]
    optimizer = torch.optim.SGD(groups)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)

    def objective(batch: torch.Tensor) -> Objective:
        return Objective(model.weight.sum() + model.bias.sum(), batch)

    factors = {3: 1.0, 4: 0.5, 5: 0.0}
    seen, rates = [], []
    batches = [torch.zeros((), dtype=torch.float64)] * 3
    for step in fit(objective, batches, optimizer, schedule=factors.__getitem__, first=3):
        seen.append((step.index, -model.weight[0, 0].item(), -model.bias[0].item()))
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert seen == [(3, 0.5, 0.25), (4, 0.75, 0.375), (5, 0.75, 0.375)]
    assert rates == [[0.5, 0.25]] * 3


def test_the_rates_are_put_back_when_a_step_fails():
    model, objective = quadratic(1.0)

    class Broken(torch.optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("broken")

    optimizer = Broken(model.parameters(), lr=0.5)
    with pytest.raises(RuntimeError, match="broken"):
        list(fit(objective, [torch.zeros((), dtype=torch.float64)], optimizer, schedule=lambda _step: 0.1))
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_constant_schedule_and_none_give_the_same_bits(generator):
    batches = [torch.randn(4, 3, generator=generator) for _ in range(5)]

    def trained(**options) -> torch.Tensor:
        model = nn.Linear(3, 1, bias=False)
        nn.init.constant_(model.weight, 0.3)

        def objective(batch):
            loss = model(batch).square().mean()
            return Objective(loss, loss)

        list(fit(objective, batches, sgd(model, lr=0.1), **options))
        return model.weight.detach()

    assert torch.equal(trained(), trained(schedule=lambda _step: 1.0))


def test_the_backward_pass_may_be_another():
    model, objective = quadratic(1.0)
    totals = []

    def doubled(total: torch.Tensor) -> None:
        totals.append(total.item())
        (2 * total).backward()

    batches = [torch.zeros((), dtype=torch.float64), torch.tensor(float("nan"), dtype=torch.float64)]
    list(fit(objective, batches, torch.optim.SGD(model.parameters(), lr=0.25), backward=doubled))
    assert model.weight.item() == 0.5
    assert totals == [0.5], "a diverged step is not differentiated"
