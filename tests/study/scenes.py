"""A scene of a small network on digits, and the rows that a measurement leaves."""

from __future__ import annotations

import io
from typing import Any

from torch import nn

from normscope.study import Data, Experiment, Model, Norm, Optimizer, Training, seeds
from normscope.study.building import network
from normscope.study.measuring import Scene, registry
from normscope.study.plan import trial_of
from normscope.study.preparation import load_data
from normscope.study.rows import Rows

RESNET = Model(family="cifar_resnet", options={"depth": 8, "width": 2})


def scene_of(norm: str = "none", *, model: Model = RESNET, data: str = "digits", **changes: Any) -> Scene:
    experiment = Experiment(
        id="one", data=Data(name=data, max_train=48, max_eval=16), model=model, norm=Norm(norm), seed=3, batch_size=16
    )
    for name, value in changes.items():
        experiment = type(experiment)(
            **{f: getattr(experiment, f) for f in experiment.__struct_fields__} | {name: value}
        )
    rows = Rows("run", trial_of(experiment), io.StringIO())
    return Scene(experiment=experiment, dataset=load_data(experiment.data), rows=rows)


def model_of(scene: Scene) -> nn.Module:
    return network(scene.experiment, scene.dataset, generator=seeds.generator(3, "init")).model


def training(batch_size: int = 16, steps: int = 9) -> Training:
    return Training(steps=steps, batch_size=batch_size, optimizer=Optimizer(lr=0.1))


def measure(scene: Scene, model: nn.Module, name: str, step: int = 0, **options: Any) -> list[dict[str, Any]]:
    """The rows of one measurement."""
    before = len(scene.rows.plain())
    registry()[name](scene, model, step, **options)
    return scene.rows.plain()[before:]


def curve(rows: list[dict[str, Any]], name: str, probe: str | None = None) -> dict[str, float]:
    """Values by the column `layer`."""
    return {r["layer"]: r["value"] for r in rows if r["name"] == name and probe in (None, r["probe"])}
