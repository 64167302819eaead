from __future__ import annotations

import itertools

from normscope.study.plan import cost, plan
from normscope.study.recipe import Options


def test_every_combination_is_one_trial():
    recipe = Options(norms=("none", "batchnorm"), lrs=(0.1, 0.2, 0.3), seeds=2).resolve()
    trials = plan(recipe)
    train = {(t.norm.label, t.lr, t.seed) for t in trials if t.kind == "train"}
    init = {(t.norm.label, t.seed) for t in trials if t.kind == "init"}
    assert train == set(itertools.product(("none", "batchnorm"), (0.1, 0.2, 0.3), (0, 1)))
    assert init == set(itertools.product(("none", "batchnorm"), (0, 1)))
    assert len(trials) == len({t.id for t in trials}) == 2 * (3 + 1) * 2
    assert all((t.lr is None) == (t.kind == "init") for t in trials)


def test_trials_come_normalizer_by_normalizer():
    labels = [t.norm.label for t in plan(Options().resolve())]
    assert [label for label, _ in itertools.groupby(labels)] == list(dict.fromkeys(labels))


def test_ids_are_names_for_files_and_tell_options_apart():
    ids = [t.id for t in plan(Options(norms=("regnorm", "regnorm:penalty=B", "regnorm:penalty=C")).resolve())]
    assert len(set(ids)) == len(ids)
    assert not any(set(name) & set('/\\:*?"<>|') for name in ids)


def test_cost_grows_with_depth_and_steps():
    small, large = Options(scale="smoke").resolve(), Options().resolve()
    pairs = [(a, b) for a, b in zip(plan(small)[::3], plan(large)[::9], strict=False) if a.kind == b.kind]
    assert pairs
    assert all(cost(a, small, products=0) < cost(b, large, products=0) for a, b in pairs)


def test_cost_grows_with_products_and_their_examples():
    few, many = (Options(probes=("spectrum",), curvature_examples=count).resolve() for count in (64, 512))
    trial = next(trial for trial in plan(few) if trial.kind == "train")
    assert cost(trial, few, products=0) == cost(trial, many, products=0)
    assert cost(trial, few, products=1) < cost(trial, few, products=2) < cost(trial, many, products=2)


def test_initialization_is_no_trial_where_no_probe_reads_it():
    assert {trial.kind for trial in plan(Options(probes=("spectrum",)).resolve())} == {"train"}
    assert {trial.kind for trial in plan(Options(probes=("spectrum", "gradient_norm")).resolve())} == {"init", "train"}
