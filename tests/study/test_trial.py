from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

import normscope as ns
from normscope.study import trial as trials
from normscope.study.folder import is_sealed
from normscope.study.plan import Trial, plan
from normscope.study.preparation import load_data
from normscope.study.recipe import Options, Recipe
from normscope.study.rows import frame
from normscope.theory import gradient_growth
from normscope.train import log_spaced

from .conftest import TINY


def rows_of(recipe: Recipe, tmp_path: Path, **wanted: object) -> pd.DataFrame:
    """Run the first trial with these attributes."""
    trial = next(t for t in plan(recipe) if all(getattr(t, name) == value for name, value in wanted.items()))
    folder = tmp_path / recipe.folder_name
    trials.run(folder, trial, recipe, load_data(recipe.dataset))
    return frame([(folder / "trials" / trial.id / "rows.parquet").read_bytes()])


def values(rows: pd.DataFrame, probe: str, name: str) -> torch.Tensor:
    chosen = rows[(rows["probe"] == probe) & (rows["name"] == name)].sort_values(["step", "depth"])
    return torch.tensor(chosen["value"].to_numpy(copy=True))


def test_an_init_trial_measures_every_depth_of_the_full_network(tmp_path):
    recipe = dataclasses.replace(TINY, depth=6, train_depth=2).resolve()
    rows = rows_of(recipe, tmp_path, kind="init")
    assert set(rows["kind"]) == {"init"}
    assert set(rows["step"]) == {0}
    assert rows["lr"].isna().all()
    found = rows.groupby(["probe", "name"])["depth"].apply(list).to_dict()
    sites, layers = list(range(1, 7)), list(range(1, 8))  # the readout is an affine layer without a site
    assert found == {
        ("information_propagation", "correlation"): sites,
        ("gradient_norm", "norm"): sites,
        ("theory.information_propagation", "correlation"): sites,
        ("theory.gradient_norm", "norm"): sites,
        ("gradient_correlation", "similar"): layers,
        ("gradient_correlation", "independent"): layers,
    }
    assert set(rows["unit"]) == {"1"}
    measured = rows[~rows["probe"].str.startswith("theory.")]
    assert (measured[measured["name"] != "independent"]["stderr"] > 0).all()
    assert (rows["layer"] != "").all()


def test_theory_starts_from_the_measurement(tmp_path):
    recipe = dataclasses.replace(TINY, depth=6).resolve()
    rows = rows_of(recipe, tmp_path, kind="init")  # batchnorm, chaotic
    correlation, predicted = (values(rows, p + "information_propagation", "correlation") for p in ("", "theory."))
    assert predicted[0] == correlation[0]
    assert (predicted.diff() < 0).all()
    norm, grown = values(rows, "gradient_norm", "norm"), values(rows, "theory.gradient_norm", "norm")
    assert grown[-1] == norm[-1]
    torch.testing.assert_close((grown[:-1] / grown[1:]).square(), torch.full((5,), gradient_growth("chaotic")).double())


def test_theory_is_silent_for_residual_networks(tmp_path):
    recipe = Options(scale="smoke", norms=("none",), skips=True, max_train=32, batch_size=8).resolve()
    rows = rows_of(recipe, tmp_path, kind="init")
    assert not rows["probe"].str.startswith("theory.").any()
    assert len(values(rows, "information_propagation", "correlation")) == 7


def test_a_train_trial_records_losses_probes_and_evaluations(tmp_path):
    recipe = dataclasses.replace(TINY, steps=7).resolve()
    rows = rows_of(recipe, tmp_path, kind="train", lr=0.1)
    found = rows.groupby(["probe", "name"])["step"].apply(list).to_dict()
    probed = list(log_spaced(7, per_decade=3))
    assert found == {
        ("train", "loss"): list(range(1, 8)),
        ("information_propagation", "correlation"): probed,
        ("gradient_correlation", "similar"): probed,
        ("gradient_correlation", "independent"): probed,
        ("evaluation", "validation_accuracy"): probed,
        ("evaluation", "validation_loss"): probed,
        ("evaluation", "test_accuracy"): [7],
        ("evaluation", "test_loss"): [7],
        ("outcome", "diverged"): [7],
    }
    assert set(rows[rows["name"].str.endswith("loss")]["unit"]) == {"nats"}
    assert set(rows[~rows["name"].str.endswith("loss")]["unit"]) == {"1"}
    last_site = rows[rows["probe"] == "information_propagation"]
    assert set(last_site["depth"]) == {2}
    assert set(rows[rows["probe"] != "information_propagation"]["layer"]) == {""}
    assert (values(rows, "outcome", "diverged") == 0).all()


def test_probes_that_are_not_asked_for_leave_no_rows(tmp_path):
    recipe = dataclasses.replace(TINY, probes=("gradient_norm",)).resolve()
    assert set(rows_of(recipe, tmp_path, kind="init")["probe"]) == {"gradient_norm", "theory.gradient_norm"}
    assert set(rows_of(recipe, tmp_path, kind="train")["probe"]) == {"train", "evaluation", "outcome"}
    recipe = dataclasses.replace(TINY, probes=("information_propagation",)).resolve()
    assert set(rows_of(recipe, tmp_path, kind="init")["probe"]) == {
        "information_propagation", "theory.information_propagation"
    }  # fmt: skip
    assert "information_propagation" in set(rows_of(recipe, tmp_path, kind="train")["probe"])


def test_only_a_penalized_row_records_its_penalty(tmp_path):
    recipe = TINY.resolve()
    regnorm = next(norm for norm in recipe.norms if norm.name == "regnorm")
    assert len(values(rows_of(recipe, tmp_path, kind="train", norm=regnorm), "train", "penalty")) == recipe.steps
    assert len(values(rows_of(recipe, tmp_path, kind="train"), "train", "penalty")) == 0


def test_the_penalty_is_trained_on_with_its_weight(tmp_path):
    def final(weight: float) -> float:
        recipe = dataclasses.replace(TINY, norms=("regnorm",), steps=60, penalty_weight=weight).resolve()
        return values(rows_of(recipe, tmp_path, kind="train", lr=0.1), "train", "penalty")[-10:].mean().item()

    assert final(10.0) < 0.8 * final(0.0)


def test_training_lowers_the_loss(tmp_path):
    rows = rows_of(dataclasses.replace(TINY, steps=60).resolve(), tmp_path, kind="train", lr=0.1)
    losses = values(rows, "train", "loss")
    assert losses[-10:].mean() < 0.5 * losses[:10].mean()


def test_a_diverging_training_is_a_result(tmp_path):
    recipe = dataclasses.replace(TINY, norms=("none",), lrs=(1e4,), steps=20, depth=3).resolve()
    rows = rows_of(recipe, tmp_path, kind="train")
    assert values(rows, "outcome", "diverged").tolist() == [1.0]
    last = rows[rows["probe"] == "outcome"]["step"].item()
    assert last < 20
    assert rows["step"].max() == last == len(values(rows, "train", "loss"))
    assert len(values(rows, "evaluation", "test_accuracy")) == 0
    assert is_sealed(tmp_path / recipe.folder_name / "trials" / rows["trial"].iloc[0])


def test_the_same_trial_gives_the_same_bytes(tmp_path, recipe):
    for index in (0, 1):  # one of each kind
        trial = plan(recipe)[index]
        found = []
        for name in ("a", "b"):
            torch.manual_seed(len(found))  # the global random state plays no part
            trials.run(tmp_path / name / recipe.folder_name, trial, recipe, load_data(recipe.dataset))
            place = tmp_path / name / recipe.folder_name / "trials" / trial.id
            found.append((place / "rows.parquet").read_bytes())
            assert sorted(path.name for path in place.iterdir()) == ["COMPLETED", "rows.parquet", "trial.json"]
        assert found[0] == found[1]


def test_normalizers_and_rates_see_the_same_weights_data_and_noise(tmp_path):
    # Two rows that are the identity at initialization differ in nothing but their name.
    recipe = dataclasses.replace(TINY, norms=("none", "weightnorm"), lrs=(0.1, 0.2), seeds=2).resolve()
    none, weightnorm = (rows_of(recipe, tmp_path, kind="init", norm=norm, seed=1) for norm in recipe.norms)
    for probe, name in (("information_propagation", "correlation"), ("gradient_norm", "norm")):
        torch.testing.assert_close(values(none, probe, name), values(weightnorm, probe, name), rtol=1e-4, atol=1e-7)
    first = [
        values(rows_of(recipe, tmp_path, kind="train", norm=norm, lr=lr, seed=1), "train", "loss")[0].item()
        for norm in recipe.norms
        for lr in recipe.lrs
    ]
    assert first == pytest.approx([first[0]] * 4, rel=1e-5)
    other = values(rows_of(recipe, tmp_path, kind="train", seed=0), "train", "loss")[0].item()
    assert other != pytest.approx(first[0], rel=1e-3)


def test_leftovers_of_an_attempt_are_removed(tmp_path, recipe):
    trial = plan(recipe)[0]
    place = tmp_path / "trials" / trial.id
    place.mkdir(parents=True)
    for name in ("rows.jsonl", "error.txt", ".rows.parquet.123"):
        (place / name).write_text("old")
    trials.run(tmp_path, trial, recipe, load_data(recipe.dataset))
    assert sorted(path.name for path in place.iterdir()) == ["COMPLETED", "rows.parquet", "trial.json"]


def test_options_of_a_normalizer_reach_its_rows(tmp_path):
    recipe = dataclasses.replace(TINY, norms=("regnorm", "regnorm:penalty=B")).resolve()
    plain, form_b = (rows_of(recipe, tmp_path, kind="train", norm=norm) for norm in recipe.norms)
    assert set(form_b["normalizer"]) == {"regnorm:penalty=B"}
    assert values(plain, "train", "penalty")[0] != values(form_b, "train", "penalty")[0]


def test_trial_json_says_what_the_trial_was(tmp_path, recipe):
    from normscope.study import seeds
    from normscope.study.folder import read_json

    trial: Trial = plan(recipe)[1]
    trials.run(tmp_path, trial, recipe, load_data(recipe.dataset))
    said = read_json(tmp_path / "trials" / trial.id / "trial.json")
    assert (said["id"], said["kind"], said["lr"], said["seed"]) == (trial.id, "train", 0.1, 0)
    assert said["norm"] == {"name": "batchnorm", "options": {}}
    assert said["generator_seeds"]["init"] == seeds.derive(0, "init")
    assert said["device"] == "cpu" or math.isfinite(torch.cuda.device_count())
    assert ns.normalizer(said["norm"]["name"]).couples_batch


def test_evaluation_is_in_eval_mode_from_the_seeds_weights(tmp_path):
    from torch.nn import functional as F

    from normscope.study import seeds
    from normscope.study.building import network
    from normscope.study.comparison import experiment_of

    recipe = dataclasses.replace(TINY, norms=("batchnorm",)).resolve()
    rows = rows_of(recipe, tmp_path, kind="train", seed=0)
    data = load_data(recipe.dataset)
    trial = next(trial for trial in plan(recipe) if trial.kind == "train")
    model = network(experiment_of(trial, recipe), data, generator=seeds.generator(0, "init")).model
    with torch.no_grad():
        outputs = model.eval()(data.validation.inputs)
    expected = F.cross_entropy(outputs, data.validation.targets).item()
    assert values(rows, "evaluation", "validation_loss")[0].item() == pytest.approx(expected, rel=1e-6)
    correct = (outputs.argmax(1) == data.validation.targets).double().mean().item()
    assert values(rows, "evaluation", "validation_accuracy")[0].item() == pytest.approx(correct)


def test_test_data_touch_nothing_but_the_test_rows(tmp_path, recipe):
    trial = plan(recipe)[1]
    data = load_data(recipe.dataset)
    wrong = dataclasses.replace(data, test=dataclasses.replace(data.test, targets=(data.test.targets + 1) % 10))
    frames = []
    for name, dataset in (("right", data), ("wrong", wrong)):
        trials.run(tmp_path / name, trial, recipe, dataset)
        frames.append(frame([(tmp_path / name / "trials" / trial.id / "rows.parquet").read_bytes()]))
    differing = frames[0]["value"] != frames[1]["value"]
    assert set(frames[0]["name"][differing]) <= {"test_loss", "test_accuracy"}
    assert differing.any()
