"""Every item at every scale is a study that can be asked for, as it will be run."""

from __future__ import annotations

import re
from collections import defaultdict

import msgspec
import pytest
import torch

import normscope as ns
from normscope.nn import switches
from normscope.study import Experiment, InlineEngine, Norm, Study, compare, load
from normscope.study.measuring import check
from normscope.study.paper import study_of
from normscope_papers.is_batch_norm_unique import PAPER

SCALES = ("smoke", "laptop", "paper")
CASES = [(item, scale) for item in PAPER.items for scale in SCALES]
IDS = [f"{item.name}-{scale}" for item, scale in CASES]
STUDIES = {(item.name, scale): study_of(PAPER, item, scale, {}) for item, scale in CASES}

each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=IDS)


def experiments(study: Study) -> list[Experiment]:
    """Those of the study, and one of each group as the final stage will run it."""
    final = () if study.final is None else study.final.measurements
    groups = {(e.condition, e.norm.label): e for e in study.experiments}
    return [*study.experiments, *(msgspec.structs.replace(e, measurements=final) for e in groups.values() if final)]


def test_every_item_of_the_paper_is_there():
    figures = {"fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "app1", "app2", "app5", "app9", "app10", "app11"}
    tables = {"table1", "table2", "table3"}
    others = {"propagation", "recurrent", "batch-noise", "chaos", "logits", "variance"}
    assert {item.name for item in PAPER.items} == figures | tables | others


@each_study
def test_a_study_survives_its_file(study):
    assert msgspec.json.decode(study.to_json(), type=Study) == study


@each_study
def test_ids_are_distinct_names_of_folders(study):
    names = [experiment.id for experiment in study.experiments]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,-]*", name) for name in names)


@each_study
def test_normalizers_are_paired_by_seed_and_tried_at_the_same_rates(study):
    asked = defaultdict(lambda: defaultdict(set))
    for experiment in study.experiments:
        training = experiment.training
        rate = None if training is None else training.optimizer.lr
        asked[experiment.condition, training is None][experiment.norm.label].add((rate, experiment.seed))
    for by_norm in asked.values():
        assert len({frozenset(pairs) for pairs in by_norm.values()}) == 1


@each_study
def test_what_is_paired_differs_in_normalizer_and_switches_alone(study):
    """Data, batches and, where no switch changes it, the network: else the same seed would not mean the same."""
    groups = defaultdict(set)
    for e in study.experiments:
        if study.item == "fig5" or study.item == "table3":  # conditions are trainings of their own
            key = (e.condition, e.seed, e.training is None)
        else:
            key = (e.seed, e.training is None or e.training.objective)
        seen = msgspec.structs.replace(e, id="", norm=Norm("none"), condition="", switches=(), measurements=())
        lr = None if e.training is None else e.training.optimizer.lr
        groups[*key, lr, e.model.options.get("cell")].add(msgspec.json.encode(seen, order="sorted"))
    assert {len(group) for group in groups.values()} == {1}


@each_study
def test_everything_asked_for_exists(study):
    for experiment in experiments(study):
        ns.normalizer(experiment.norm.name, **experiment.norm.options)
        for one in experiment.switches:
            switches.switch(one.name, **one.options)
        for measurement in experiment.measurements:
            check(measurement)
        family = ns.models.family(experiment.model.family)
        assert set(experiment.model.options) <= set(family.options)
        if experiment.training is not None:
            asked = experiment.training.optimizer
            ns.train.optimizer(torch.nn.Linear(2, 2), asked.name, asked.lr, **asked.options)
            ns.train.schedule(experiment.training.schedule.name, **experiment.training.schedule.options)


@each_study
def test_measurements_fall_into_the_training_and_training_is_judged_at_its_end(study):
    for experiment in experiments(study):
        last = 0 if experiment.training is None else experiment.training.steps
        assert all(0 <= step <= last for measurement in experiment.measurements for step in measurement.at)
        if experiment.training is not None:
            at_end = {m.options["split"] for m in experiment.measurements if m.probe == "evaluation" and last in m.at}
            assert "validation" in at_end
            searches = study.final is not None and not experiment.measurements[1:]
            assert searches or "test" in at_end or study.item == "propagation"


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_smoke_runs_on_built_in_data_and_tiny_networks(item):
    study = STUDIES[item.name, "smoke"]
    data = {"lm1b": "declaration"}
    assert all(experiment.data.name == data.get(experiment.condition, "digits") for experiment in study.experiments)
    assert len(study.experiments) <= 14
    assert all(e.training is None or e.training.steps <= 6 for e in study.experiments)


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_scales_have_the_same_fields_and_what_is_reduced_is_said(item):
    assert len({frozenset(fields) for fields in item.fields.values()}) == 1
    said = " ".join(item.notes)
    assert item.fields["laptop"] == item.fields["paper"] or "laptop" in said
    assert "smoke" in said or item.name == "table1"  # which says that its network is the same everywhere


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_a_claim_or_a_table_speaks_of_every_item(item):
    assert any(item.name in claim.items for claim in PAPER.claims) or item.name in ("table1", "table2")


def test_fields_can_be_set_by_hand():
    fig3 = PAPER.item("fig3")
    study = study_of(PAPER, fig3, "laptop", {"norms": "regnorm:penalty=B,lmbv:moment=rms", "lrs": "0.1", "seeds": "2"})
    assert {e.norm.label for e in study.experiments} == {"regnorm:penalty=B", "lmbv:moment=rms"}
    assert study.final is None  # one rate is no search
    assert len(study.experiments) == 4


def test_the_gradient_factor_of_app10_ends_where_that_of_app9_stays():
    fixed, decayed = (STUDIES[name, "laptop"].experiments[0].switches[0] for name in ("app9", "app10"))
    assert (fixed.options["until"], decayed.options["until"]) == (None, 50)


def test_a_column_of_table3_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="columns must be among cifar10, resnet50, resnet101, lm1b, got 'vgg'"):
        study_of(PAPER, PAPER.item("table3"), "smoke", {"columns": "vgg"})
    with pytest.raises(ValueError, match="variants must be among mean, variance, both, got 'max'"):
        study_of(PAPER, PAPER.item("logits"), "smoke", {"variants": "max"})


def test_table3_trains_each_column_as_its_own_and_evaluates_batch_train_without_training_it():
    study = STUDIES["table3", "paper"]
    assert {e.condition for e in study.experiments} == {"cifar10", "resnet50", "resnet101", "lm1b"}
    assert not any(e.norm.name == "batchnorm_train" for e in study.experiments)
    by_batch = {e.norm.name for e in study.experiments for m in e.measurements if m.probe == "batch_size_accuracy"}
    assert by_batch == {"batchnorm", "bmlv", "lmbv"}
    lm1b = [e for e in study.experiments if e.condition == "lm1b"]
    assert {e.norm.name for e in lm1b} == {"none", "layernorm", "prelayernorm"}
    assert {e.training.optimizer.name for e in lm1b} == {"adamw"}
    assert all(0 in e.measurements[0].at for e in study.experiments)  # chance


def test_table3_crops_imagenet_at_random_sizes_at_paper_scale_alone():
    found = {
        scale: {e.condition: e.data.augment for e in STUDIES["table3", scale].experiments}
        for scale in ("laptop", "paper")
    }
    plain = {"resnet50": "crop_flip", "resnet101": "crop_flip", "lm1b": "none"}
    assert found["laptop"] == plain | {"cifar10": "none"}
    resized = dict.fromkeys(("resnet50", "resnet101"), "resized_crop_flip")
    assert found["paper"] == plain | resized | {"cifar10": "crop_flip"}


def test_table3_streams_what_no_memory_holds_at_paper_scale_alone():
    by_column = {e.condition: e.data for e in STUDIES["table3", "paper"].experiments}
    assert {column for column, data in by_column.items() if data.buffer} == {"resnet50", "resnet101", "lm1b"}
    assert all(data.max_eval for data in by_column.values())  # what is evaluated is held
    for scale in ("smoke", "laptop"):
        assert not any(e.data.buffer for e in STUDIES["table3", scale].experiments)


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_an_item_runs_at_smoke_scale_and_its_figures_and_tables_follow(item, tmp_path):
    study = STUDIES[item.name, "smoke"]
    folder = compare(study, out=tmp_path, engine=InlineEngine(), command="test", write_report=lambda folder: folder)
    frame = load(folder)
    assert set(frame["normalizer"]) == {experiment.norm.label for experiment in study.experiments}
    drawn = item.figures(frame, study)
    assert all(panel.series for figure in drawn for panel in figure.panels)
    assert drawn or item.tables(frame, study)
    assert item.figures(frame.iloc[:0], study) == ()  # a report may be written before a trial has ended
    for table in item.tables(frame.iloc[:0], study):
        assert table.rows
