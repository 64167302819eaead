"""Table 2: every sign follows from a number by a rule, and the paper's stands beside it."""

from __future__ import annotations

import math

import pytest

import normscope as ns
from normscope.probes.moments import QUANTITIES
from normscope.study.paper import study_of
from normscope_papers.is_batch_norm_unique import PAPER
from normscope_papers.is_batch_norm_unique.properties import EXPLOSION, NORMS, PROPERTIES, growth
from normscope_papers.is_batch_norm_unique.tables import conditioning, definitions, properties, variants
from normscope_papers.is_batch_norm_unique.tables import scores as table_of_scores

from .synthetic import ended, frame, row
from .worlds import final_layer, gradients, losses, norms, scores, sharpness, through_steps

TABLE_2 = study_of(PAPER, PAPER.item("table2"), "smoke", {})


def test_the_papers_signs_are_those_of_its_table():
    assert [one.paper for one in PROPERTIES] == [
        "+++++", "++-++", "+++++", "++-++", "--+++", "--+++", "--+++", "++-~~", "+++++", "++---",
    ]  # fmt: skip


def test_explosion_begins_half_way_between_the_two_values_of_theory():
    assert pytest.approx(math.sqrt(ns.theory.gradient_growth("ordered") * ns.theory.CHAOTIC_GROWTH)) == EXPLOSION


@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.name)
def test_signs_change_at_the_limits_of_the_rule(one):
    side = 1 if one.holds == "above" else -1
    assert side * one.plus >= side * one.minus
    assert one.sign(one.plus) == one.sign(one.plus + side) == "+"
    assert one.sign(one.minus - side * 1e-6) == "-"
    if one.plus != one.minus:
        assert one.sign((one.plus + one.minus) / 2) == "~"


def init(probe: str, name: str, value: float, **more: int):
    return row("table2", "regnorm", probe, name, value, kind="init", **more)


def moments(**by_quantity: tuple[float, ...]):
    """The numbers of two sites; those that are not given are 0."""
    quantities = dict.fromkeys(QUANTITIES, (0.0, 0.0)) | by_quantity
    return [
        init("moments", name, value, depth=depth)
        for name, values in quantities.items()
        for depth, value in enumerate(values, start=1)
    ]


ROWS = {
    # Centered over the batch and scaled over the layer: the squared distances of two sites are 0.04 and 0.16.
    "consistent": (
        moments(batch_mean=(0.0, 0.1), layer_mean=(0.5, 0.9), batch_rms=(9.0, 9.0), layer_rms=(1.2, 0.6)),
        0.1,
        "+",
    ),
    "faster": (through_steps("fig3", "evaluation", "test_accuracy", batchnorm=(0.5,), regnorm=(0.3,)), 0.6, "-"),
    "allows": (ended("fig3", "regnorm", 0.17), 0.17, "~"),
    "suppresses": (sharpness("lambda_ratio", none=(1, 1, 4), regnorm=(9, 9, 2)), 0.5, "+"),
    "no": ([init("batch_dependence", "train_change", 0.0)], 0.0, "+"),
    "consistent_": ([init("train_eval_gap", "change", 0.3)], 0.3, "-"),
    "easy": ([init("batch_dependence", "train_change", 0.0), init("train_eval_gap", "change", 0.3)], 0.3, "-"),
    "reduces": (gradients("similar", regnorm=0.7), 0.7, "~"),
    "goes": (final_layer(regnorm=(0.97, 0.98, 0.9)), 0.01, "-"),
    "induces": (norms("table2", regnorm=1.4), 1.4, "+"),
}


@pytest.mark.parametrize(("key", "rows", "value", "sign"), [(k, *v) for k, v in ROWS.items()], ids=list(ROWS))
def test_each_property_is_read_from_its_rows(key, rows, value, sign):
    one = PROPERTIES[list(ROWS).index(key)]
    found = one.measured(frame(rows), "regnorm")
    assert found.by_seed == {0: pytest.approx(value)}
    assert one.sign(found.interval().mean) == sign
    assert all(math.isnan(v) for v in one.measured(frame(rows), "bmlv").by_seed.values())


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"batch_mean": (0.6, 0.6), "layer_mean": (0.8, 0.0), "batch_rms": (1.0, 1.0), "layer_rms": (1.0, 1.0)}, 0.32),
        ({"batch_rms": (1.0, 1.0), "batch_spread": (0.3, 0.1), "layer_rms": (1.2, 1.2)}, 0.04),
        ({"batch_rms": (3.0, 3.0), "layer_rms": (2.0, 2.0)}, 1.0),
    ],
)
def test_consistency_takes_centering_and_scaling_each_where_it_is_better_over_all_sites(given, value):
    found = PROPERTIES[0].measured(frame(moments(**given)), "regnorm")
    assert found.by_seed == {0: pytest.approx(value)}


def test_growth_is_that_of_the_squared_norm_per_layer():
    assert growth(frame(norms("fig2", batchnorm=1.467)), "fig2", "batchnorm").by_seed == {0: pytest.approx(1.467)}


def test_the_table_shows_number_and_both_signs_and_says_what_was_not_measured():
    rows = frame(norms("table2", regnorm=1.4)).drop(columns="item")
    (table,) = properties(rows, TABLE_2)
    assert table.header == ("property", *NORMS, "decided by")
    cells = {found[0].split()[0]: found[1 + NORMS.index("regnorm")] for found in table.rows}
    assert cells["induces"].startswith("+  1.4")
    assert cells["induces"].endswith("(paper -)")
    assert cells["reduces"] == "not measured  (paper ~)"  # of a run of table2 alone, which says nothing of training


def test_the_table_takes_other_items_rows_where_they_are_given():
    (table,) = properties(frame(gradients("similar", regnorm=0.7)), TABLE_2)
    cells = {found[0].split()[0]: found[1 + NORMS.index("regnorm")] for found in table.rows}
    assert cells["reduces"] == "~  0.700  (paper ~)"
    assert cells["induces"] == "not measured  (paper -)"


def test_table_1_is_the_table_of_normalizers():
    item = PAPER.item("table1")
    study = study_of(
        PAPER, item, "smoke", {"norms": "regnorm:penalty=B,batchnorm,prelayernorm,weightnorm,bmlv,lmbv,layernorm"}
    )
    (table,) = definitions(frame([]), study)
    cells = {found[0]: found[1:] for found in table.rows}
    assert next(iter(cells)) == "batchnorm"  # in the order of normscope.normalizers()
    assert cells["batchnorm"][1:4] == ("(z - μ) / σ", "(N, H, W)", "(N, H, W)")
    assert cells["layernorm"][1:4] == ("(z - μ) / σ", "(H, W, C)", "(H, W, C)")
    assert cells["bmlv"][2:4] == ("(N, H, W)", "(H, W, C)")
    assert cells["lmbv"][2:4] == ("(H, W, C)", "(N, H, W)")
    assert cells["prelayernorm"] == (
        "x̃ = x - mean x over (H, W, C), z = W x̃ + b",
        "z / σ",
        "-",
        "(H, W, C)",
        "not measured",
    )
    assert cells["regnorm:penalty=B"][1:4] == ("z / rms (+ penalty in the loss)", "-", "(H, W, C)")
    assert cells["weightnorm"][1:4] == ("-", "-", "-")


def test_table_3_says_which_columns_are_judged():
    study = study_of(PAPER, PAPER.item("table3"), "smoke", {"columns": "cifar10,resnet50"})
    (table,) = table_of_scores(frame(scores("cifar10", batchnorm=0.75) + scores("resnet50", batchnorm=0.2)), study)
    assert table.header == ("", "cifar10 (%)", "resnet50 (%)")
    cells = {found[0]: found[1:] for found in table.rows}
    assert cells["Batch"] == ("75.0", "20.0")
    assert cells["judged"] == ("yes", "not judged")


def test_a_perplexity_that_is_infinite_says_in_table_3_that_the_training_diverged():
    study = study_of(PAPER, PAPER.item("table3"), "smoke", {"columns": "lm1b"})
    rows = losses(layernorm=4.0)
    rows.append(row("table3", "none", "outcome", "diverged", 1.0, condition="lm1b", step=3))
    (table,) = table_of_scores(frame(rows), study)
    assert dict(table.rows)["None"] == "diverged for 1 of 1 seeds"


def test_variants_are_compared_by_condition_and_what_was_not_asked_for_is_left_empty():
    study = study_of(PAPER, PAPER.item("variance"), "smoke", {})
    (table,) = variants(frame(ended("variance", "regnorm", 0.5, condition="plain")), study)
    assert table.header == ("", "regnorm", "none")
    assert table.rows == (("plain", "0.500", ""), ("variance penalty 1", "", "not measured"))


def test_conditioning_is_that_of_the_last_step():
    study = study_of(PAPER, PAPER.item("logits"), "smoke", {})
    rows = [
        row("logits", "none", "sharpness", "lambda_ratio", v, step=s, condition="both") for s, v in ((0, 9.0), (3, 2.0))
    ]
    _, ratios = conditioning(frame(rows), study)
    assert ratios.rows == (("plain", "not measured"), ("both", "2.00"))
