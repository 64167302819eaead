"""Every item at every scale is a study that can be asked for, as it will be run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import torch
from tests.papers.synthetic import frame

import normscope as ns
from normscope.report.published import beside
from normscope.study import InlineEngine, Study, compare, load
from normscope.study.measuring import check
from normscope.study.paper import study_of
from normscope_papers.costs import THREAD, cost, table_of_trained
from normscope_papers.depth_limits import PAPER
from normscope_papers.depth_limits.claims.training import DEEP
from normscope_papers.depth_limits.experiments import DEPTHS

from .worlds import trained as made

SCALES = ("smoke", "laptop", "paper")
CASES = [(item, scale) for item in PAPER.items for scale in SCALES]
IDS = [f"{item.name}-{scale}" for item, scale in CASES]
STUDIES = {(item.name, scale): study_of(PAPER, item, scale, {}) for item, scale in CASES}
INITIALIZATION = {"fig1", "fig2", "fig3", "fig5", "e1", "e2", "d1", "g5", "g6", "samples", "repeated"}

each_study = pytest.mark.parametrize("study", STUDIES.values(), ids=IDS)


def test_every_item_of_the_paper_is_there_and_what_it_did_not_test():
    figures = {f"fig{number}" for number in range(1, 7)} | {"e1", "e2", "f1", "f2"} | {f"g{n}" for n in range(1, 7)}
    assert {item.name for item in PAPER.items} == figures | {"d1", "samples", "repeated"}


@each_study
def test_a_study_survives_its_file_and_its_ids_are_names_of_folders(study):
    assert msgspec.json.decode(study.to_json(), type=Study) == study
    names = [experiment.id for experiment in study.experiments]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.,-]*", name) for name in names)


@each_study
def test_everything_asked_for_exists(study):
    for e in study.experiments:
        ns.normalizer(e.norm.name, **e.norm.options)
        assert set(e.model.options) <= set(ns.models.family(e.model.family).options)
        last = 0 if e.training is None else e.training.steps
        for measurement in e.measurements:
            check(measurement)
            assert all(0 <= step <= last for step in measurement.at)
        if e.training is not None:
            asked = e.training.optimizer
            ns.train.optimizer(torch.nn.Linear(2, 2), asked.name, asked.lr, **asked.options)


@each_study
def test_networks_at_initialization_are_in_float64_and_several_in_one_trial(study):
    untrained = [experiment for experiment in study.experiments if experiment.training is None]
    assert bool(untrained) == (study.item in INITIALIZATION)
    assert {experiment.dtype for experiment in untrained} <= {"float64"}
    assert all(experiment.replicas > 1 for experiment in untrained)


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_smoke_is_small_and_reductions_are_said(item):
    study = STUDIES[item.name, "smoke"]
    assert {experiment.data.name for experiment in study.experiments} == {"digits"}
    assert all(experiment.model.options["depth"] <= 24 for experiment in study.experiments)
    assert all(e.training is None or e.training.steps <= 4 for e in study.experiments)
    said = " ".join(item.notes)
    assert "smoke" in said
    assert "laptop" in said
    assert len({frozenset(fields) for fields in item.fields.values()}) == 1


def test_figures_at_initialization_have_the_paper_s_own_sizes_at_paper_scale():
    for name in ("fig2", "fig3", "fig5", "g5", "g6"):
        study = STUDIES[name, "paper"]
        assert tuple(sorted({e.model.options["depth"] for e in study.experiments})) == DEPTHS
        assert {(e.model.options["width"], e.batch_size, e.replicas) for e in study.experiments} == {(100, 100, 10)}
    assert {e.model.options["depth"] for e in STUDIES["e1", "paper"].experiments} == {1000}
    assert {e.model.options["width"] for e in STUDIES["fig1", "paper"].experiments} == {10, 50, 100}


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_a_claim_or_a_table_speaks_of_every_item(item):
    assert any(item.name in claim.items for claim in PAPER.claims)


@pytest.mark.parametrize(("scale", "lr"), [("laptop", 0.01), ("paper", 0.001)])
def test_training_is_as_in_the_authors_code_and_identity_networks_have_no_gain(scale, lr):
    for name in ("fig4", "g1"):
        for e in STUDIES[name, scale].experiments:
            assert (e.training.optimizer.lr, e.training.optimizer.options) == (lr, {"momentum": 0.0})
            identity = e.model.options["activation"] == "identity"
            assert e.model.options["gain_exponent"] == (0.0 if identity else 0.4)
            assert e.norm.name == "batchnorm"


def trained(name: str, scale: str) -> dict[tuple[str, int], tuple[int, int]]:
    """Steps and seeds of every activation and depth."""
    of: dict[tuple[str, int], list[int]] = {}
    for e in STUDIES[name, scale].experiments:
        of.setdefault((e.model.options["activation"], e.model.options["depth"]), []).append(e.training.steps)
    return {key: (steps[0], len(steps)) for key, steps in of.items()}


def test_depths_that_are_too_dear_train_for_a_few_epochs():
    assert trained("fig4", "laptop") == {
        **{(name, depth): (2500, 3) for name in ("identity", "tanh", "sin") for depth in (30, 100)},
        **{(name, depth): (250, 2) for name in ("identity", "tanh") for depth in (500, 1000)},
    }
    assert trained("fig6", "laptop") == {("tanh", 100): (2500, 3), ("tanh", 500): (500, 3), ("tanh", 1000): (500, 3)}
    assert trained("g1", "laptop").pop(("identity", 500)) == (500, 3)
    for name in ("g2", "g3", "g4"):
        assert trained(name, "laptop") == {("identity", 100): (2500, 3), ("tanh", 100): (2500, 3)}
    every = {(name, depth) for name in ("identity", "tanh", "sin") for depth in (100, 500, 1000)}
    assert trained("g4", "paper") == trained("fig4", "paper") == dict.fromkeys(every, (450_000, 3))


def test_curves_that_end_at_different_steps_share_some_and_the_figure_s_last_epoch_is_measured():
    steps = [set(e.measurements[0].at) for e in STUDIES["fig4", "laptop"].experiments]
    assert max(set.intersection(*steps)) == 250  # the fifth epoch, the last of the deepest
    assert 300 * 450 in STUDIES["fig6", "paper"].experiments[0].measurements[0].at


@pytest.mark.parametrize(("name", "scale"), [("fig6", "laptop"), ("f1", "laptop"), ("f2", "laptop"), ("fig6", "paper")])
def test_the_deepest_network_whose_weights_are_shown_has_a_middle(name, scale):
    widest = max(e.model.options["depth"] / e.model.options["width"] for e in STUDIES[name, scale].experiments)
    assert widest >= DEEP


def test_figure_6_s_published_values_are_read_after_300_epochs_where_these_were_measured():
    rows = []
    for depth in range(1, 12):
        for step, value in ((450, 9.0), (300 * 450, 1e-4), (450_000, 7.0)):
            rows += made("fig6", "tanh", 10, "isometry_gap", "weight_gap", value, depth=depth, at=step)[1:]
    first, _ = PAPER.item("fig6").published
    found = first.measured(frame(rows))
    assert found.by_seed == {0: pytest.approx(1e-4)}
    assert "depth 10, step 135000" in found.what
    short = first.measured(frame([row for row in rows if row["step"] < 100_000]))
    assert (short.by_seed[0], "step 450" in short.what) == (9.0, True)


def test_fields_can_be_set_by_hand_and_wrong_ones_are_refused():
    study = study_of(PAPER, PAPER.item("repeated"), "laptop", {"repeated": "0,7", "depths": "10", "seeds": "2"})
    assert [e.condition for e in study.experiments] == ["repeated=0 layers=10", "repeated=7 layers=10"]
    with pytest.raises(ValueError, match="sets must be among cifar10, mnist, fashion, cifar100, got 'svhn'"):
        study_of(PAPER, PAPER.item("d1"), "smoke", {"sets": "svhn"})


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_published_values_have_a_reason_for_a_gap_and_are_no_result(item):
    for value in beside(item, None):
        assert value.gap.endswith(".")
        assert value.ours == "not run"


@pytest.mark.parametrize("item", PAPER.items, ids=lambda item: item.name)
def test_published_values_stand_beside_nothing_before_a_trial_has_ended(item):
    assert len(beside(item, frame([]).drop(columns="item"))) == len(item.published)


QUICK = ("fig2", "fig3", "fig4", "fig6", "d1", "e1", "g1")


@pytest.mark.parametrize("name", QUICK)
def test_an_item_runs_at_smoke_scale_and_its_figures_and_tables_follow(name, tmp_path):
    item, study = PAPER.item(name), STUDIES[name, "smoke"]
    folder = compare(study, out=tmp_path, engine=InlineEngine(), command="test", write_report=lambda folder: folder)
    rows = load(folder)
    assert set(rows["seed"]) == {0, 1}
    drawn = item.figures(rows, study)
    assert drawn
    assert all(panel.series for figure in drawn for panel in figure.panels)
    assert all(table.rows for table in item.tables(rows, study))
    assert item.figures(rows.iloc[:0], study) == ()  # a report may be written before a trial has ended
    item.tables(rows.iloc[:0], study)
    assert len(beside(item, rows)) == len(item.published)


def test_the_document_shows_the_table_of_costs_as_it_is_computed():
    document = Path(__file__).parents[3] / "docs" / "depth-limits.md"
    assert table_of_trained(PAPER) in document.read_text()


def test_trainings_keep_their_budget_at_laptop_scale():
    """All of them together, on two cores."""
    found = [cost(item, "laptop") for item in PAPER.items if item.name not in INITIALIZATION]
    assert all(each.trained == each.runs for each in found)
    assert 0 < sum(each.hours(THREAD, workers=2) for each in found) <= 0.9


def test_one_place_does_not_stand_for_several_data_sets():
    with pytest.raises(ValueError, match="d1 has data sets of its own; set cifar10_data, mnist_data"):
        study_of(PAPER, PAPER.item("d1"), "paper", {"data": "somewhere"})
