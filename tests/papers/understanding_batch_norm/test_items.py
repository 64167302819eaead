"""Every item at every scale is a study that can be asked for, as it will be run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import torch

import normscope as ns
from normscope.nn import switches
from normscope.study import Data, Experiment, InlineEngine, Norm, Study, compare, load
from normscope.study.measuring import check
from normscope.study.paper import study_of
from normscope_papers.costs import GRADIENT, THREAD, cost, forward_operations, table
from normscope_papers.understanding_batch_norm import PAPER
from normscope_papers.understanding_batch_norm.experiments import CONTROL, block, convolution, layer_of

SCALES = ("smoke", "laptop", "paper")
CASES = [(item, scale) for item in PAPER.items for scale in SCALES]
STUDIES = {(item.name, scale): study_of(PAPER, item, scale, {}) for item, scale in CASES}

each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=[f"{item.name}-{scale}" for item, scale in CASES])
each_item = pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)

PAPERS_OWN_SIZE = ("fig2", "fig3", "fig4", "fig5", "fig6", "table1")
TABLES = ("last-layer", "table1")


def experiments(study: Study) -> list[Experiment]:
    """Those of the study, and one of each group as the final stage will run it."""
    final = () if study.final is None else study.final.measurements
    groups = {(e.condition, e.norm.label): e for e in study.experiments}
    return [*study.experiments, *(msgspec.structs.replace(e, measurements=final) for e in groups.values() if final)]


def test_every_item_of_both_papers_is_there():
    figures = {f"fig{n}" for n in range(1, 9)} | {"table1"}
    texts = {"noise", "last-layer", "depth", "initializations"}
    assert {item.name for item in PAPER.items} == figures | texts | {"smoothness", "covariate-shift"}


@each_study
def test_a_study_survives_its_file_with_ids_that_name_folders(study):
    assert msgspec.json.decode(study.to_json(), type=Study) == study
    names = [experiment.id for experiment in study.experiments]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,-]*", name) for name in names)


@each_study
def test_everything_asked_for_exists_and_falls_into_the_training(study):
    for experiment in experiments(study):
        ns.normalizer(experiment.norm.name, **experiment.norm.options)
        for one in experiment.switches:
            switches.switch(one.name, **one.options)
        assert set(experiment.model.options) <= set(ns.models.family(experiment.model.family).options)
        last = 0 if experiment.training is None else experiment.training.steps
        for measurement in experiment.measurements:
            check(measurement)
            assert all(0 <= step <= last for step in measurement.at)
        if experiment.training is not None:
            asked = experiment.training.optimizer
            ns.train.optimizer(torch.nn.Linear(2, 2), asked.name, asked.lr, **asked.options)
            ns.train.schedule(experiment.training.schedule.name, **experiment.training.schedule.options)


@each_study
def test_batch_norm_and_none_are_paired_by_seed_on_the_same_network_and_data(study):
    seen: dict[tuple[object, ...], set[bytes]] = {}
    for e in study.experiments:
        depth = e.condition if study.item in ("depth", "initializations") else e.model.family
        if study.item == "fig1":  # whose diverging trainings are of the paper's depth
            depth = str(e.model.options["depth"])
        training = None if e.training is None else msgspec.structs.replace(e.training, steps=1)
        if training is not None:
            optimizer = msgspec.structs.replace(training.optimizer, lr=1.0)
            plain = msgspec.convert({}, type(training.schedule))
            training = msgspec.structs.replace(training, optimizer=optimizer, schedule=plain)
        options = {name: value for name, value in e.model.options.items() if name != "norm_at"}
        model = msgspec.structs.replace(e.model, options=options)
        same = msgspec.structs.replace(
            e, id="", norm=Norm("none"), condition="", switches=(), measurements=(), model=model, training=training
        )
        key = (depth, e.seed, training is None)
        seen.setdefault(key, set()).add(msgspec.json.encode(same, order="sorted"))
    assert {len(group) for group in seen.values()} == {1}


@each_item
def test_smoke_runs_on_built_in_data_and_tiny_networks(item):
    study = STUDIES[item.name, "smoke"]
    assert {experiment.data.name for experiment in study.experiments} <= {"digits", "linear-map"}
    assert len(study.experiments) <= 8
    assert all(e.training is None or e.training.steps <= 6 for e in study.experiments)


@each_item
def test_scales_have_the_same_fields_and_what_is_reduced_is_said(item):
    assert len({frozenset(fields) for fields in item.fields.values()}) == 1
    said = " ".join(item.notes)
    assert "laptop" in said
    assert "smoke" in said


@pytest.mark.parametrize("name", PAPERS_OWN_SIZE)
def test_items_at_initialization_have_the_papers_own_network_and_batch_at_laptop_scale(name):
    for e in STUDIES[name, "laptop"].experiments:
        assert (e.model.options["depth"], e.model.options["width"], e.batch_size) == (110, 16, 128)
        assert e.data.name == "uoft-cs/cifar10"


@each_item
def test_an_hour_on_two_cores_is_enough_half_of_one_without_training(item):
    found = cost(item, "laptop")
    hours = found.hours(THREAD, workers=2)
    assert hours <= 1.0 if found.trained else hours <= 0.5


def test_steps_along_a_gradient_cost_a_gradient_and_a_forward_pass_each():
    item = PAPER.item("fig3")
    found, fields = cost(item, "laptop"), item.fields["laptop"]
    one = forward_operations(STUDIES["fig3", "laptop"].experiments[0].model, Data(name="uoft-cs/cifar10"))
    measured = 6 * 3 * 128 * (GRADIENT + fields["points"]) * one  # networks, minibatches, images
    assert found.measuring == {"cifar_resnet": pytest.approx(measured)}
    assert found.training == {"cifar_resnet": pytest.approx(6 * 7 * 128 * GRADIENT * one)}


@each_item
def test_a_claim_or_a_figure_speaks_of_every_item(item):
    assert any(item.name in claim.items for claim in PAPER.claims) or item.name == "fig7"


def test_published_values_say_why_ours_may_differ_and_what_is_only_remembered():
    values = [value for item in PAPER.items for value in item.published]
    assert all(value.gap for value in values)
    remembered = [value for value in values if "remembered" in value.quantity]
    assert len(remembered) == 19  # table 1, and the accuracy of batch norm at the last layer
    assert all("a hint only" in value.gap for value in remembered)
    read = [value for value in values if value not in remembered]
    assert all(value.gap.startswith("Read off the figure.") for value in read)


def test_layers_and_modules_are_told_apart_both_ways():
    for layer in (2, 18, 54, 55, 90, 109):
        assert layer_of(convolution(layer, depth=110)) == layer
        assert layer_of(block(layer, depth=110)) == layer - layer % 2
    network = ns.models.family("cifar_resnet").build(
        (3, 32, 32), 10, normalizer=ns.normalizer("none"), generator=torch.Generator(), depth=20, width=1
    )
    convolutions = [name for name, m in network.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert [name for name in convolutions[1:] if "shortcut" not in name] == [
        convolution(layer, depth=20) for layer in range(2, 20)
    ]
    for wrong in (1, 110):
        with pytest.raises(
            ValueError, match=f"layers of blocks lie between 2 and 109 in a network of depth 110, got {wrong}"
        ):
            convolution(wrong, depth=110)


def test_the_last_layer_item_differs_in_where_batch_norm_stands_alone():
    places = {
        e.condition: (e.norm.name, e.model.options.get("norm_at")) for e in STUDIES["last-layer", "laptop"].experiments
    }
    assert places == {
        "everywhere": ("batchnorm", None), "last layer": ("batchnorm", "last"), "nowhere": ("none", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("item", "fields", "message"),
    [
        ("fig1", {"points": "1"}, "points must be at least 2, got 1"),
        ("fig3", {"points": "1"}, "points must be at least 2, got 1"),
        ("fig4", {"points": "1"}, "points must be at least 2, got 1"),
        ("fig4", {"layers": "8,110"}, "layers of blocks lie between 2 and 109 in a network of depth 110, got 110"),
        ("fig7", {"factors": "3,0"}, "factors must be at least 1, got 0"),
        ("fig8", {"size": "0"}, "size must be at least 1, got 0"),
        ("noise", {"sizes": "4,512"}, "sizes must lie between 1 and the 256 examples, got 512; change the one or"),
        ("noise", {"draws": "0"}, "draws must be at least 1, got 0"),
        ("fig1", {"none_cut": "0"}, "none_cut must be at least 1, got 0"),
        ("fig4", {"sizes": "1"}, "sizes must be at least 2, got 1"),
        ("smoothness", {"every": "0"}, "every must be at least 1, got 0"),
        ("covariate-shift", {"linear_every": "0"}, "every must be at least 1, got 0"),
    ],
)
def test_fields_that_make_no_sense_are_refused_before_anything_runs(item, fields, message):
    with pytest.raises(ValueError, match=message):
        study_of(PAPER, PAPER.item(item), "laptop", fields)


def test_figure_1s_higher_rates_without_batch_norm_are_of_the_papers_depth_and_few_steps():
    asked = {
        (e.norm.name, e.training.optimizer.lr): (e.model.options["depth"], e.training.steps, e.training.schedule)
        for e in STUDIES["fig1", "laptop"].experiments
    }
    whole = asked["none", 1e-4]
    assert whole[:2] == asked["batchnorm", 0.1][:2] == (20, 260)
    assert asked["none", 0.1] == asked["none", 0.003] == (110, 5, whole[2])  # the schedule is that of the whole
    full = {(e.model.options["depth"], e.training.steps) for e in STUDIES["fig1", "paper"].experiments}
    assert full == {(110, 165 * 351), (110, 2400 * 351)}


def test_figure_1_ends_on_all_test_images():
    for scale in ("laptop", "paper"):
        for e in STUDIES["fig1", scale].experiments:
            assert e.data.max_eval is None
            tests = [m for m in e.measurements if m.options.get("split") == "test"]
            cut = e.training.steps == 5
            assert cut == (not tests)
            assert cut or max(tests[0].at) == e.training.steps


@pytest.mark.parametrize("scale", SCALES)
def test_noise_is_measured_at_one_step_of_both_networks_alone(scale):
    by_norm = {e.norm.name: e for e in STUDIES["noise", scale].experiments}
    for e in by_norm.values():
        (asked,) = (m for m in e.measurements if m.probe == "gradient_noise")
        assert asked.at == (e.training.steps,)
        assert e.training.diverged_loss == 1e6
    assert by_norm["none"].training.optimizer.lr == 1e-4
    assert by_norm["batchnorm"].training.steps == by_norm["none"].training.steps


def test_initializations_have_batch_norm_beside_them_at_every_rate():
    for scale in SCALES:
        trained = [e for e in STUDIES["initializations", scale].experiments if e.training is not None]
        controls = {e.training.optimizer.lr for e in trained if e.condition == CONTROL}
        assert controls == {e.training.optimizer.lr for e in trained}
        assert {e.norm.name for e in trained if e.condition == CONTROL} == {"batchnorm"}
        assert {e.norm.name for e in trained if e.condition != CONTROL} == {"none"}


def test_all_trainings_of_laptop_scale_take_little_more_than_an_hour():
    found = [cost(item, "laptop") for item in PAPER.items]
    assert sum(60 * one.hours(THREAD, workers=2) for one in found if one.trained) < 80


def test_verdicts_that_come_with_the_paper_have_a_file():
    assert PAPER.shipped is not None
    assert PAPER.shipped.parent.name == "understanding_batch_norm"


QUICK = ("fig1", "fig4", "fig5", "fig6", "table1", "fig8", "noise", "last-layer", "initializations", "smoothness")
QUICK += ("covariate-shift",)


@pytest.mark.parametrize("name", QUICK)
def test_an_item_runs_at_smoke_scale_and_its_figures_and_tables_follow(name, tmp_path):
    item, study = PAPER.item(name), STUDIES[name, "smoke"]
    folder = compare(study, out=tmp_path, engine=InlineEngine(), command="test", write_report=lambda folder: folder)
    frame = load(folder)
    drawn = item.figures(frame, study)
    assert (drawn == ()) == (name in TABLES)
    assert item.figures(frame.iloc[:0], study) == ()  # a report may be written before a trial has ended
    for rows in (frame, frame.iloc[:0]):
        assert all(one.rows for one in item.tables(rows, study))
        for value in item.published:
            value.measured(rows)


def test_the_document_shows_the_table_as_it_is_computed():
    document = Path(__file__).parents[3] / "docs" / "understanding-batch-norm.md"
    assert table(PAPER) in document.read_text()
