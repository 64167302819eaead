"""The linear map as data: what it is, that networks are trained on it by squared distance, and who refuses it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from normscope.study import Measurement, Model, Optimizer, Training
from normscope.study.building import data_loss
from normscope.study.execution import execute
from normscope.study.linear_map import linear_map
from normscope.study.preparation import try_out

from .conftest import TINY
from .scenes import measure, model_of, scene_of

LINEAR = Model(family="deep_linear", options={"depth": 2, "width": 10})


def test_targets_are_one_linear_map_of_the_inputs_and_the_same_every_time():
    data = linear_map(max_train=None, max_eval=None)
    solution = torch.linalg.lstsq(data.train.inputs.double(), data.train.targets.double()).solution
    for split in (data.train, data.validation, data.test):
        torch.testing.assert_close(split.inputs.double() @ solution, split.targets.double(), atol=1e-4, rtol=0)
    assert (len(data.train), len(data.validation), len(data.test)) == (1000, 200, 200)
    small = linear_map(max_train=10, max_eval=5)
    assert torch.equal(small.train.targets, data.train.targets[:10])
    assert small.task == "regression"


def test_real_targets_have_the_squared_distance_as_loss():
    outputs, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert data_loss(outputs, targets).item() == pytest.approx((5 + 25) / 2)
    assert data_loss(outputs, targets, reduction="sum").item() == pytest.approx(30)
    classes = torch.tensor([0, 1])
    assert data_loss(outputs, classes).item() == pytest.approx(
        torch.nn.functional.cross_entropy(outputs, classes).item()
    )


def test_a_deep_linear_network_learns_it_and_has_a_loss_without_accuracy(tmp_path):
    training = Training(steps=60, batch_size=48, optimizer=Optimizer(lr=0.01))
    evaluated = Measurement(probe="evaluation", at=(0, 60), options={"split": "validation"})
    scene = scene_of(model=LINEAR, data="linear-map", training=training, measurements=(evaluated,))
    execute(scene, tmp_path / "kept")
    rows = scene.rows.plain()
    losses = [r["value"] for r in rows if r["probe"] == "train"]
    assert losses[-1] < 0.5 * losses[0]
    names = {r["name"] for r in rows if r["probe"] == "evaluation"}
    assert names == {"validation_loss"}
    along = measure(scene, model_of(scene), "loss_along_gradient", low=1e-3, high=1e-2, points=2)
    assert {r["unit"] for r in along} == {"1"}


def test_a_comparison_of_accuracies_refuses_it():
    recipe = dataclasses.replace(TINY, data="linear-map").resolve()
    with pytest.raises(ValueError, match=r"a comparison needs classes or texts, got linear-map; choose other data\."):
        try_out(recipe)


@pytest.mark.parametrize(("limit", "diverged"), [(1e-3, 1.0), (1e6, 0.0)])
def test_a_training_diverges_at_its_own_bound(limit, diverged, tmp_path):
    training = Training(steps=2, batch_size=48, optimizer=Optimizer(lr=0.01), diverged_loss=limit)
    scene = scene_of(model=LINEAR, data="linear-map", training=training)
    execute(scene, tmp_path / "kept")
    (outcome,) = (r["value"] for r in scene.rows.plain() if r["name"] == "diverged")
    assert outcome == diverged
