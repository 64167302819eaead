"""An experiment of several untrained networks, and experiments in float64."""

from __future__ import annotations

import msgspec
import pytest
import torch

from normscope import data
from normscope.study import (
    Data,
    Experiment,
    InlineEngine,
    Measurement,
    Model,
    Norm,
    Optimizer,
    Study,
    Training,
    compare,
    load,
    preparation,
)
from normscope.study.building import network
from normscope.study.plan import trial_of

ONE = Experiment(
    id="one",
    data=Data(name="digits", max_train=64, max_eval=16),
    model=Model(family="deep_mlp", options={"depth": 4, "width": 8}),
    norm=Norm("bnl2"),
    seed=2,
    batch_size=8,
    measurements=(
        Measurement(probe="weight_gradient_norm", at=(0,)),
        Measurement(probe="isometry_gap", at=(0,), options={"near_identity": 0.1}),
    ),
    dtype="float64",
)
TRAINING = Training(steps=2, batch_size=8, optimizer=Optimizer(lr=0.1))


def study(*experiments: Experiment) -> Study:
    return Study(paper="p", item="i", scale="smoke", experiments=experiments)


def rows_of(tmp_path, *experiments):
    folder = compare(
        study(*experiments), out=tmp_path, engine=InlineEngine(), command="test", write_report=lambda folder: folder
    )
    return folder, load(folder)


def test_replicas_are_what_experiments_of_each_seed_would_be_bit_for_bit(tmp_path):
    folder, together = rows_of(tmp_path / "together", msgspec.structs.replace(ONE, replicas=3))
    alone = (msgspec.structs.replace(ONE, id=f"seed{seed}", seed=seed) for seed in (2, 3, 4))
    _, apart = rows_of(tmp_path / "apart", *alone)
    assert list(together["seed"].unique()) == [2, 3, 4]
    columns = ["seed", "probe", "name", "layer", "depth", "value"]
    assert together[columns].to_csv() == apart[columns].to_csv()
    assert [path.name for path in (folder / "trials").iterdir()] == ["one"]
    assert set(together["trial"]) == {"one"}


def test_a_trial_of_replicas_says_its_seeds():
    assert str(trial_of(msgspec.structs.replace(ONE, replicas=3))) == "bnl2 at initialization seeds 2 to 4"
    assert str(trial_of(ONE)) == "bnl2 at initialization seed 2"


def test_recipes_from_before_there_were_replicas_and_dtypes_keep_their_ids():
    plain = msgspec.structs.replace(ONE, dtype="float32")
    held = msgspec.json.decode(msgspec.json.encode(plain))
    assert not {"dtype", "replicas"} & set(held)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replicas": 0}, "replicas must be at least 1, got 0"),
        ({"replicas": 2, "training": TRAINING}, "replicas are of untrained networks, got 2 that are trained"),
        (
            {"training": msgspec.structs.replace(TRAINING, precision="bf16-mixed")},
            "float64 trains as it is, in precision 32-true, got bf16-mixed",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        rows_of(tmp_path / "runs", msgspec.structs.replace(ONE, **changes))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-13)])
def test_weights_are_drawn_in_the_dtype_and_orthogonal_to_its_rounding(dtype, rounding):
    asked, dataset = msgspec.structs.replace(ONE, dtype=dtype), preparation.load_data(ONE.data)
    model = network(asked, dataset, generator=torch.Generator().manual_seed(0)).model
    weight = model.affines[1].weight
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}
    assert (weight @ weight.T - torch.eye(8)).abs().max() < rounding
    assert torch.get_default_dtype() == torch.float32


def test_an_error_while_building_leaves_the_default_dtype_as_it_was():
    broken = msgspec.structs.replace(ONE, model=Model(family="deep_mlp", options={"depth": 0, "width": 8}))
    with pytest.raises(ValueError, match="depth"):
        network(broken, preparation.load_data(ONE.data), generator=torch.Generator().manual_seed(0))
    assert torch.get_default_dtype() == torch.float32


def test_a_network_in_float64_trains_and_is_measured_in_it(tmp_path):
    measurements = (
        Measurement(probe="evaluation", at=(0, 2)),
        Measurement(probe="batch_size_accuracy", at=(2,), options={"sizes": "4"}),
        Measurement(probe="sharpness", at=(2,), options={"examples": 8}),
        Measurement(probe="batch_accuracy", at=(2,), options={"examples": 16}),
    )
    asked = msgspec.structs.replace(ONE, norm=Norm("batchnorm"), training=TRAINING, measurements=measurements)
    _, frame = rows_of(tmp_path, asked)
    assert frame["value"].notna().all()
    first = frame[(frame["probe"] == "train") & (frame["step"] == 1)]["value"].item()
    dataset = data.load("digits", max_train=64, max_eval=16)
    assert dataset.train.inputs.dtype == torch.float32
    assert first != float(torch.tensor(first, dtype=torch.float32))  # it has the digits of float64
