"""Studies: experiments spelled out one by one, and the stage that the first one decides on."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import msgspec
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from normscope.data import crop_flip, resized_crop_flip, shuffled_batches
from normscope.study import (
    Data,
    Experiment,
    Final,
    InlineEngine,
    LocalEngine,
    Measurement,
    Model,
    Norm,
    Optimizer,
    Planned,
    Schedule,
    Study,
    Switch,
    Training,
    TrialsFailedError,
    load,
    measuring,
    records,
    seeds,
)
from normscope.study.building import network
from normscope.study.comparison import experiment_of
from normscope.study.folder import is_sealed
from normscope.study.measuring import registry
from normscope.study.plan import plan, second_stage
from normscope.study.preparation import load_data

from .conftest import TINY, run

DATA = Data(name="digits", max_train=48, max_eval=16)
MLP = Model(family="mlp", options={"depth": 2, "width": 8})
EVALUATED = Measurement(probe="evaluation", at=(0, 3), options={"split": "validation"})


def experiment(norm: str = "layernorm", lr: float | None = 0.1, seed: int = 0, **changes: object) -> Experiment:
    training = None if lr is None else Training(steps=3, batch_size=8, optimizer=Optimizer(lr=lr))
    fields = {
        "id": f"{norm}-{lr}-{seed}",
        "data": DATA,
        "model": MLP,
        "norm": Norm(norm),
        "seed": seed,
        "training": training,
        "batch_size": 8,
        "measurements": (EVALUATED,),
    }
    return Experiment(**fields | changes)


def study(*experiments: Experiment, **changes: object) -> Study:
    return Study(**{"paper": "some-paper", "item": "fig1", "scale": "smoke", "experiments": experiments} | changes)


GRID = tuple(experiment(norm, lr) for norm in ("batchnorm", "layernorm") for lr in (1e-4, 0.3))
SEARCHED = study(*GRID, final=Final(seeds=(1, 2), measurements=(Measurement(probe="gradient_norm", at=(0, 3)),)))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(SEARCHED, tmp_path_factory.mktemp("searched"))


def test_a_study_is_the_same_after_a_trip_through_its_file():
    assert msgspec.json.decode(SEARCHED.to_json(), type=Study) == SEARCHED
    assert SEARCHED.folder_name == f"some-paper-fig1-{SEARCHED.id[:12]}"
    assert study(*GRID).id != SEARCHED.id


def test_defaults_are_no_part_of_an_id():
    bare = msgspec.to_builtins(experiment())
    assert "switches" not in bare
    assert "condition" not in bare


def test_every_experiment_leaves_its_rows(tmp_path):
    folder = run(study(experiment(lr=None), experiment(condition="wide", id="other")), tmp_path)
    rows = load(folder)
    assert rows.groupby("trial")["kind"].first().to_dict() == {"layernorm-None-0": "init", "other": "train"}
    assert rows.groupby("trial")["condition"].first().to_dict() == {"layernorm-None-0": "", "other": "wide"}
    losses = rows[(rows["probe"] == "train") & (rows["name"] == "loss")]
    assert losses["step"].tolist() == [1, 2, 3]
    assert is_sealed(folder)


def test_the_best_rate_of_each_group_is_run_again(searched):
    rows = load(searched)
    last = rows[(rows["name"] == "validation_accuracy") & (rows["step"] == 3)].set_index(["normalizer", "lr"])["value"]
    final = rows[rows["trial"].str.startswith("final-")]
    for norm in ("batchnorm", "layernorm"):
        chosen = set(final[final["normalizer"] == norm]["lr"])
        assert chosen == {max((1e-4, 0.3), key=lambda lr: (last[norm, lr], -lr))}
    assert set(final["seed"]) == {1, 2}
    assert set(final["probe"]) == {"gradient_norm", "train", "outcome"}
    assert len({*rows["trial"]}) == 4 + 4


def test_of_equal_rates_the_smallest_is_run_again_and_a_diverged_one_never():
    scores = dict.fromkeys((e.id for e in GRID), 0.5)
    assert {trial.lr for trial in second_stage(SEARCHED, scores)} == {1e-4}
    assert {trial.lr for trial in second_stage(SEARCHED, scores | {GRID[0].id: 0.0, GRID[2].id: 0.0})} == {0.3}


def test_seeds_of_a_group_count_by_their_mean():
    grid = [experiment(lr=lr, seed=seed) for lr, seed in itertools.product((0.1, 0.2), (0, 1))]
    asked = study(*grid, final=Final(seeds=(5,)))
    scores = dict(zip((e.id for e in grid), (0.9, 0.0, 0.5, 0.5), strict=True))
    (trial,) = second_stage(asked, scores)
    assert (trial.lr, trial.seed, trial.id) == (0.2, 5, "final-layernorm-0.2-0-seed5")


def test_conditions_are_groups_of_their_own():
    grid = [experiment(id=name, condition=name) for name in ("a", "b")]
    trials = second_stage(study(*grid, final=Final(seeds=(0,))), {"a": 0.1, "b": 0.9})
    assert [trial.condition for trial in trials] == ["a", "b"]


def test_the_second_stage_is_told_when_it_is_known(tmp_path):
    told = []
    run(SEARCHED, tmp_path, listen=lambda event: told.append(event) if isinstance(event, Planned) else None)
    assert [len(event.trials) for event in told] == [4, 8]


def test_a_study_goes_on_where_it_was(searched, tmp_path):
    class StoppedError(Exception):
        pass

    def stop_after(count: int):
        seen = []

        def listen(event: object) -> None:
            seen.append(event)
            if len([e for e in seen if type(e).__name__ == "Finished"]) == count:
                raise StoppedError

        return listen

    for count in (2, 3):
        with pytest.raises(StoppedError):
            run(SEARCHED, tmp_path, listen=stop_after(count))
    folder = run(SEARCHED, tmp_path)
    pd.testing.assert_frame_equal(load(folder), load(searched), check_exact=True)


def test_worker_processes_give_the_same_numbers_in_both_stages(searched, tmp_path):
    folder = run(SEARCHED, tmp_path, engine=LocalEngine(workers=2))
    pd.testing.assert_frame_equal(load(folder), load(searched), check_exact=True)


def test_a_finished_study_costs_nothing(searched):
    def refuse(folder: Path) -> Path:
        raise AssertionError("it was begun again")

    assert run(SEARCHED, searched.parent, write_report=refuse) == searched


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": Model(family="vit")}, "Unknown family 'vit'"),
        ({"norm": "batchnom"}, "did you mean batchnorm"),
        ({"measurements": (Measurement(probe="entropy", at=(0,)),)}, "a measurement must be one of"),
        (
            {"measurements": (Measurement(probe="gradient_norm", at=(0,), options={"nois": 1}),)},
            "options of gradient_norm are batches, source, theory, got 'nois'",
        ),
        ({"norm": "batchnorm", "batch_size": 1}, "batchnorm takes statistics over the batch"),
        (
            {"measurements": (Measurement(probe="gradient_correlation", at=(0,), options={"noise": 0}),)},
            "noise must be positive and finite, got 0",
        ),
        ({"batch_size": 49}, "batch_size must lie between 1 and the 48 training examples"),
        ({"switches": (Switch(name="dropit"),)}, "dropit"),
    ],
)
def test_bad_input_is_refused_before_a_folder_is_made(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        run(study(experiment(**wrong)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_trial_that_fails_stops_before_the_second_stage(tmp_path, monkeypatch):
    def fails(scene: object, model: object, step: int, *, split: str) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("normscope.study.measuring.registry", lambda: {**registry(), "evaluation": fails})
    with pytest.raises(TrialsFailedError, match="4 of 4 trials failed"):
        run(SEARCHED, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len(records.trials(folder, SEARCHED)) == 4


def test_a_comparison_is_spelled_out_as_experiments():
    recipe = dataclasses.replace(TINY, probes=("gradient_norm",)).resolve()
    spelled = {trial.kind: experiment_of(trial, recipe) for trial in plan(recipe)}
    assert [m.probe for m in spelled["init"].measurements] == ["gradient_norm"]
    assert [m.probe for m in spelled["train"].measurements] == ["evaluation", "evaluation"]
    assert spelled["train"].training.steps == recipe.steps
    assert spelled["init"].training is None


def test_the_penalty_alone_can_be_minimized(tmp_path):
    training = Training(
        steps=60, batch_size=8, optimizer=Optimizer(name="adam", lr=1e-2), penalty_weight=1.0, objective="penalty"
    )
    rows = load(run(study(experiment("regnorm", training=training, measurements=())), tmp_path))
    found = rows[(rows["probe"] == "train") & (rows["name"] == "penalty")]["value"].to_numpy()
    assert found[-5:].mean() < 0.6 * found[:5].mean()


def test_a_study_loads_beside_a_comparison(searched, unbroken):
    assert list(load(searched).columns) == list(load(unbroken).columns)
    assert set(load(unbroken)["condition"]) == {""}


def test_threads_are_the_engines(tmp_path):
    assert run(study(experiment()), tmp_path, engine=InlineEngine(threads=1)).is_dir()


LONG = Training(
    steps=9, batch_size=8, optimizer=Optimizer(lr=0.1), schedule=Schedule(name="cosine", options={"total": 9}),
    penalty_weight=0.1, checkpoint_every=4,
)  # fmt: skip
NOISY = Data(name="digits", max_train=48, max_eval=16, augment="crop_flip")


@pytest.mark.parametrize("augment", [crop_flip, resized_crop_flip])
def test_a_step_is_taken_on_the_batch_that_its_own_draws_make(augment, tmp_path):
    """A training of one step, by hand: its loss is that of the first batch, augmented from the step's own seed."""
    asked = experiment(data=msgspec.structs.replace(NOISY, augment=augment.__name__), measurements=())
    found = load(run(study(asked), tmp_path)).query("probe == 'train' and step == 1")["value"].item()
    digits = load_data(asked.data)
    batches = shuffled_batches(digits.train, asked.training.batch_size, generator=seeds.generator(asked.seed, "data"))
    inputs, targets = next(batches)
    built = network(asked, digits, generator=seeds.generator(asked.seed, "init")).model
    outputs = built(augment(inputs, generator=seeds.generator(asked.seed, "augment", 1)))
    assert found == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-5)
    assert found != pytest.approx(F.cross_entropy(built(inputs), targets).item(), rel=1e-5)


DROPPING = Model(family="wrn", options={"depth": 8, "width": 1, "dropout": 0.3})


def checkpointed(**changes: object) -> Study:
    return study(experiment("regnorm", training=LONG, data=NOISY, model=DROPPING, **changes))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, *, exception: type[BaseException] = KeyboardInterrupt) -> None:
    measure = measuring.Measurements.take

    def take(self: object, model: object, at: int) -> None:
        if at == step:
            raise exception
        measure(self, model, at)

    monkeypatch.setattr(measuring.Measurements, "take", take)


def test_training_goes_on_from_its_checkpoint_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    unbroken = run(checkpointed(), tmp_path / "a")
    stop_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        run(checkpointed(), tmp_path / "b")
    monkeypatch.undo()
    (place,) = (tmp_path / "b").glob("*/trials/*")
    assert (place / "checkpoint.safetensors").exists()
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(
            measuring.Measurements, "take", spy(measuring.Measurements.take, lambda _self, _model, at: seen.append(at))
        )
        resumed = run(checkpointed(), tmp_path / "b")
    assert seen == [5, 6, 7, 8, 9]
    pd.testing.assert_frame_equal(load(resumed), load(unbroken), check_exact=True)
    assert sorted(path.name for path in place.iterdir()) == ["COMPLETED", "rows.parquet", "trial.json"]


def spy(function, tell):
    def told(*arguments: object) -> object:
        tell(*arguments)
        return function(*arguments)

    return told


def test_a_damaged_checkpoint_is_set_aside_and_the_trial_begins_anew(tmp_path, monkeypatch):
    unbroken = run(checkpointed(), tmp_path / "a")
    stop_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        run(checkpointed(), tmp_path / "b")
    monkeypatch.undo()
    (kept,) = (tmp_path / "b").glob("*/trials/*/checkpoint.safetensors")
    kept.write_bytes(kept.read_bytes()[:-5])
    resumed = run(checkpointed(), tmp_path / "b")
    pd.testing.assert_frame_equal(load(resumed), load(unbroken), check_exact=True)
    assert "truncated or damaged" in (kept.parent / "checkpoint.refused.txt").read_text()


def test_training_leaves_the_global_random_state(tmp_path):
    before = torch.random.get_rng_state()
    run(checkpointed(), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_in_bfloat16_is_another_training(tmp_path):
    mixed = msgspec.structs.replace(LONG, precision="bf16-mixed", checkpoint_every=None)
    plain = msgspec.structs.replace(LONG, checkpoint_every=None)
    losses = [
        load(run(study(experiment(training=training)), tmp_path / name)).query("probe == 'train'")["value"].to_numpy()
        for name, training in (("mixed", mixed), ("plain", plain))
    ]
    assert (losses[0] != losses[1]).any()
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
