from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.isolation import StandIn, isolated, seeded
from normscope.probes import Subject


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), random.random(), np.random.random()


def test_seeded_draws_repeat_and_leave_the_global_states_alone() -> None:
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with seeded(3):
        first = draws()
    with seeded(3):
        assert draws() == first
    with seeded(4):
        assert draws() != first

    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]


def subject() -> Subject:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Dropout(), nn.AlphaDropout())
    return Subject(model, F.cross_entropy, (torch.eye(3), torch.tensor([0, 1, 1])))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_inside_every_module_but_dropout_is_in_the_mode_asked_for(mode: str) -> None:
    one = subject()
    one.model[0].eval()
    before = [module.training for module in one.model.modules()]
    with isolated(one, mode=mode, seed=0):
        inside = [module.training for module in one.model.modules()]

    assert inside == [mode == "train"] * 3 + [False] * 2
    assert [module.training for module in one.model.modules()] == before


def test_a_train_method_of_the_users_own_is_not_called() -> None:
    class Merging(nn.Linear):
        def train(self, mode: bool = True) -> Merging:
            raise AssertionError("merged")

    one = Subject(Merging(3, 2), F.cross_entropy, (torch.eye(3), torch.tensor([0, 1, 1])))
    with isolated(one, mode="eval", seed=0):
        assert not one.model.training


def test_a_stand_in_computes_what_the_model_does_without_recording_a_graph() -> None:
    one = subject()
    outputs = StandIn.of(one).run(lambda model: model[:2](torch.eye(3)), seed=0)

    assert torch.equal(outputs, one.model[:2](torch.eye(3)))
    assert not outputs.requires_grad


def test_a_stand_in_differentiates_by_what_is_asked_for() -> None:
    stand_in = StandIn.of(subject(), differentiate=frozenset({"0.weight"}))

    assert [name for name, parameter in stand_in.parameters.items() if parameter.requires_grad] == ["0.weight"]


def test_every_run_starts_from_the_models_buffers() -> None:
    one = subject()
    stand_in = StandIn.of(one)
    counts = [
        stand_in.run(lambda model: (model(torch.eye(3)), model[1].num_batches_tracked.item())[1], seed=0)
        for _ in range(2)
    ]

    assert counts == [1, 1]
    assert one.model[1].num_batches_tracked == 0
