from __future__ import annotations

import dataclasses

import pytest

from normscope.study import InlineEngine, LocalEngine, Options, load
from normscope.study import cost as costs
from normscope.study.cost import Cost, estimate
from normscope.study.plan import plan
from normscope.study.preparation import load_data

from .conftest import TINY, run

ASKED = dataclasses.replace(
    TINY,
    norms=("batchnorm", "layernorm"),
    probes=("spectrum",),
    curvature_examples=8,
    lanczos_steps=5,
    lanczos_starts=2,
)


INLINE = InlineEngine()


def of(options: Options, engine=INLINE):
    recipe = options.resolve()
    return recipe, estimate(recipe, {recipe.dataset: load_data(recipe.dataset)}, engine)


def test_the_products_of_each_trial_are_counted_before_it_runs():
    recipe, found = of(ASKED)
    # 2 starts x 5 products, in two modes where there are running statistics; step 0 at the first rate alone
    assert found.products == {
        "batchnorm-train-lr0.1-seed0": 40,
        "batchnorm-train-lr1-seed0": 20,
        "layernorm-train-lr0.1-seed0": 20,
        "layernorm-train-lr1-seed0": 10,
    }
    assert set(found.products) <= {trial.id for trial in plan(recipe)}
    assert found.seconds > 0


def test_the_products_that_were_told_are_those_that_are_done(tmp_path):
    recipe, found = of(dataclasses.replace(ASKED, spectrum_groups=("readout.*", "readout.bias")))
    rows = load(run(recipe, tmp_path))
    nodes = rows[rows["name"] == "node"].groupby("trial").size().to_dict()
    assert nodes == found.products


def test_sharpness_is_counted_by_what_it_took_elsewhere():
    _, found = of(dataclasses.replace(ASKED, probes=("sharpness",), lanczos_steps=None, lanczos_starts=None))
    assert found.products["layernorm-train-lr0.1-seed0"] == 400  # steps 0, 1, 2 and 4
    assert found.products["layernorm-train-lr1-seed0"] == 300


def test_the_cost_is_told_in_words():
    cost = Cost(2.4, {"a": 160, "b": 160, "c": 320, "d": 0})
    assert cost.describe(["a", "b"], workers=1) == "spectra: 2 trials x 160 products of about 2.4 s: about 13 min"
    assert (
        cost.describe(["a", "c"], workers=2) == "spectra: 2 trials x 160 to 320 products of about 2.4 s: about 13 min"
    )
    assert Cost(0.05, {"a": 100}).describe(["a", "x"], workers=1).endswith("100 products of about 0.05 s: about 5 s")
    assert cost.total(["x"], workers=1) == 0


def test_nothing_is_said_where_nothing_is_left():
    assert Cost(2.4, {"a": 160}).describe(["x"], workers=1) == "spectra: all are measured"


def test_workers_share_the_products_but_not_one_trials():
    assert Cost(1.0, {"a": 10, "b": 10, "c": 10}).total(["a", "b", "c"], workers=2) == 15
    assert Cost(1.0, {"a": 10}).total(["a"], workers=8) == 10


def test_a_group_that_matches_nothing_is_refused_before_anything_starts(tmp_path):
    wrong = dataclasses.replace(ASKED, norms=("batchnorm", "none"), spectrum_groups=("norms.*",)).resolve()
    with pytest.raises(ValueError, match=r"'norms.\*' matches none with none; names are such as"):
        run(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_normalizer_without_exact_products_is_refused_by_name(tmp_path, monkeypatch):
    def refuses(subject, **options):
        raise ValueError("no exact second derivative")

    monkeypatch.setattr(costs, "hessian_of", refuses)
    with pytest.raises(ValueError, match="batchnorm: no exact second derivative"):
        run(ASKED.resolve(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(costs.preparation, "memory_limit", lambda *, share: 1000)
    with pytest.raises(ValueError, match="takes about"):
        run(ASKED.resolve(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_product_is_timed_in_a_process_of_its_own_where_workers_are():
    _, found = of(ASKED, LocalEngine(workers=1))
    assert found.seconds > 0
    assert found.products == of(ASKED)[1].products
