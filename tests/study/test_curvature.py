from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from normscope.curvature import HessianOperator
from normscope.study import seeds
from normscope.study import trial as trials
from normscope.study.building import network
from normscope.study.comparison import experiment_of
from normscope.study.curvature import curvature_batch, total_norm
from normscope.study.plan import plan
from normscope.study.preparation import load_data
from normscope.study.rows import frame

from .conftest import TINY

ASKED = dataclasses.replace(
    TINY,
    norms=("batchnorm", "layernorm"),
    lrs=(0.1,),
    probes=("spectrum", "sharpness"),
    curvature_examples=12,
    lanczos_steps=5,
    lanczos_starts=2,
    spectrum_groups=("readout.*",),
)


def rows_of(tmp_path, norm, options=ASKED, **means):
    recipe = options.resolve()
    trial = next(trial for trial in plan(recipe) if trial.norm.name == norm and trial.kind == "train")
    trials.run(tmp_path / recipe.folder_name, trial, recipe, load_data(recipe.dataset), **means)
    return frame([(tmp_path / recipe.folder_name / "trials" / trial.id / "rows.parquet").read_bytes()])


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return rows_of(tmp_path_factory.mktemp("runs"), "batchnorm")


def initial(norm):
    """The untrained network, its Hessian in full, and the recipe."""
    recipe = ASKED.resolve()
    trial = next(trial for trial in plan(recipe) if trial.norm.name == norm and trial.kind == "train")
    data = load_data(recipe.dataset)
    model = network(experiment_of(trial, recipe), data, generator=seeds.generator(0, "init")).model
    return model, curvature_batch(data, 12, seed=0)


def dense(model, batch, params=None, mode="train"):
    hessian = HessianOperator(model, F.cross_entropy, batch, params, mode=mode, dtype=torch.float64)
    return torch.linalg.eigvalsh(hessian.matmat(torch.eye(hessian.size, dtype=torch.float64)))


def test_rows_hold_every_node_weight_and_residual_of_every_start(rows):
    found = rows[rows["probe"].str.startswith("spectrum")]
    for probe, layer in (("spectrum", ""), ("spectrum.eval", ""), ("spectrum", "readout.*")):
        own = found[(found["probe"] == probe) & (found["layer"] == layer)]
        assert set(own["step"]) == {0, 4}
        for name in ("node", "weight", "residual"):
            assert own[own["name"] == name].groupby("step")["depth"].apply(list).to_list() == [list(range(1, 11))] * 2
        weights = own[(own["name"] == "weight") & (own["step"] == 0)].sort_values("depth")["value"].to_numpy()
        assert weights[:5].sum() == pytest.approx(1)
        assert weights[5:].sum() == pytest.approx(1)
        nodes = own[(own["name"] == "node") & (own["step"] == 0)].sort_values("depth")["value"].to_numpy()
        assert (nodes[1:5] > nodes[:4]).all()
        assert not (nodes[:5] == nodes[5:]).any()


@pytest.mark.parametrize(
    ("probe", "layer", "params", "mode"),
    [
        ("spectrum", "", None, "train"),
        ("spectrum.eval", "", None, "eval"),
        ("spectrum", "readout.*", "readout.*", "train"),
    ],
)
def test_nodes_lie_within_their_residuals_of_the_eigenvalues_of_the_loss_alone(rows, probe, layer, params, mode):
    model, batch = initial("batchnorm")
    exact = dense(model, batch, params, mode)
    own = rows[(rows["probe"] == probe) & (rows["layer"] == layer) & (rows["step"] == 0)]
    table = own.pivot(index="depth", columns="name", values="value")
    for node, residual in zip(table["node"], table["residual"], strict=True):
        assert (exact - node).abs().min() <= residual + 1e-5 * exact.abs().max()


def test_sharpness_rows_are_the_outermost_eigenvalues(rows):
    model, batch = initial("batchnorm")
    exact = dense(model, batch).flip(0)
    own = rows[(rows["probe"] == "sharpness") & (rows["step"] == 0)]
    ranked = own[own["name"] == "eigenvalue"].sort_values("depth")["value"]
    assert ranked.to_numpy() == pytest.approx(exact[:10].numpy(), rel=1e-3, abs=1e-3 * float(exact[0]))
    found = own[own["depth"] == 0].set_index("name")["value"]
    assert found["lambda_max"] == ranked.iloc[0]
    assert found["lambda_min"] == pytest.approx(float(exact[-1]), abs=1e-3 * float(exact.abs().max()))
    assert found["lambda_abs_max"] == max(found["lambda_max"], -found["lambda_min"])
    assert found["lambda_ratio"] == ranked.iloc[0] / ranked.iloc[9]
    assert found["num_matvecs"] > 10
    assert set(own[own["name"] == "converged"]["value"]) == {1.0}


def test_the_ratio_is_not_told_before_both_eigenvalues_have_converged(tmp_path, monkeypatch):
    from normscope.study import curvature

    real = curvature.Sharpness
    monkeypatch.setattr(curvature, "Sharpness", lambda **options: real(max_matvecs=60, tolerance=1e-12, **options))
    rows = rows_of(tmp_path, "layernorm")
    own = rows[(rows["probe"] == "sharpness") & (rows["step"] == 0)]
    assert 0 in set(own[own["name"] == "converged"]["value"])
    assert own[(own["name"] == "eigenvalue") & (own["depth"] == 10)]["value"].item() > 0
    assert own[own["name"] == "lambda_ratio"]["value"].isna().all()
    assert own[own["name"] == "lambda_max"]["value"].notna().all()


def test_eval_mode_is_not_measured_twice_where_it_is_the_same_function(tmp_path, rows):
    plain = rows_of(tmp_path, "layernorm")
    said = plain[plain["probe"] == "spectrum.eval"]
    assert said[["name", "value"]].to_numpy().tolist() == [["same_as_train", 1.0]] * 2
    assert "same_as_train" not in set(rows["name"])


def test_train_mode_alone_says_nothing_of_eval_mode(tmp_path):
    rows = rows_of(tmp_path, "batchnorm", dataclasses.replace(ASKED, spectrum_modes=("train",)))
    assert "spectrum.eval" not in set(rows["probe"])


def test_the_norm_of_all_weights_is_recorded(rows):
    model, _ = initial("batchnorm")
    squares = sum(float(parameter.detach().double().square().sum()) for parameter in model.parameters())
    own = rows[(rows["probe"] == "weights") & (rows["name"] == "norm")].sort_values("step")
    assert own["value"].iloc[0] == pytest.approx(squares**0.5) == pytest.approx(total_norm(model))
    assert own["step"].to_list() == [0, 1, 2, 4]


def test_the_spectrum_does_not_disturb_the_training(tmp_path, rows):
    quiet = rows_of(tmp_path, "batchnorm", dataclasses.replace(TINY, norms=("batchnorm",), probes=("gradient_norm",)))
    losses = [found[found["name"] == "loss"]["value"].to_list() for found in (quiet, rows)]
    assert losses[0] == losses[1]


def test_products_are_told_with_what_they_are_for(tmp_path):
    told = []
    rows_of(tmp_path, "batchnorm", advance=lambda *said: told.append(said))
    assert told[0] == ("spectrum at step 0, train mode", 1, 10)
    assert ("spectrum at step 0, eval mode", 10, 10) in told
    assert ("spectrum of readout.* at step 4, train mode", 10, 10) in told
    assert told[-1][0] == "sharpness at step 4"
    assert told[-1][2] is None


def test_memory_that_does_not_suffice_fails_the_trial(tmp_path):
    with pytest.raises(ValueError, match="takes about"):
        rows_of(tmp_path, "batchnorm", memory_limit=1000)


def test_the_batch_is_the_same_for_every_normalizer_and_step():
    (_, (first, labels)), (_, (second, again)) = initial("batchnorm"), initial("layernorm")
    assert torch.equal(first, second)
    assert torch.equal(labels, again)
    data = load_data(ASKED.resolve().dataset).train
    drawn = torch.randperm(len(data), generator=seeds.generator(0, "probe"))[:12]
    assert torch.equal(first, data.inputs[drawn])
    assert torch.equal(labels, data.targets[drawn])
