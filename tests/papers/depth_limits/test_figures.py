"""Figures and tables as specifications: which lines stand where, and what theory adds to them."""

from __future__ import annotations

import math

import pytest
from tests.papers.synthetic import Row, frame

from normscope.study.paper import study_of
from normscope_papers.depth_limits import PAPER, decay
from normscope_papers.depth_limits.rows import conditions_as_columns, rows_with_conditions, slope, straightness

from .worlds import (
    decaying,
    gaps,
    growing,
    last_gap,
    line,
    parts,
    rank,
    rates,
    start,
    theory_line,
    trained,
    turning,
    weights,
)


def study(item: str, scale: str = "laptop"):
    return study_of(PAPER, PAPER.item(item), scale, {})


def drawn(item: str, rows: list[Row]):
    (figure,) = PAPER.item(item).figures(frame(rows).drop(columns="item"), study(item))
    assert figure.name == item
    return figure


def labels(panel):
    return [(series.normalizer, series.kind) for series in panel.series]


def test_figure_1_has_a_panel_for_each_width_and_three_dashed_lines():
    rows = decaying(10, 6.0) + decaying(50, 26.0)
    rows += [found for width in (10, 50) for name in ("bound", "rate") for found in gaps(width, [1e-3] * 5, name=name)]
    narrow, wide = drawn("fig1", rows).panels
    assert labels(narrow) == [("d = 10", "measured"), *[("d = 10", "theory")] * 3]
    assert [panel.title for panel in (narrow, wide)] == ["width 10", "width 50"]
    constant = 0.015 * 50**2 * (1 + 50 * 1e-3)
    assert wide.series[3].y == pytest.approx([1e-3 * math.exp(-layer / constant) for layer in range(5)])
    assert wide.y.log


def test_the_table_of_figure_1_sets_measured_decay_beside_theory():
    (table,) = PAPER.item("fig1").tables(frame(decaying(50, 26.0)).drop(columns="item"), study("fig1"))
    ((width, measured, straight, small, proof, line_),) = table.rows
    assert (width, measured, straight) == ("50", "26.0", "1.00")
    assert (small, proof, line_) == ("25.5", "5.00e+03", "39.4")


def test_predicted_decay_is_half_the_width_plus_one_to_leading_order():
    assert decay.predicted(100) == pytest.approx(51, rel=0.02)


def test_figure_3_draws_log_norms_against_the_depth_of_the_network_with_theory_and_the_parts_of_the_gradient():
    rows = line("fig3", 0.01, "weights=xavier") + line("fig3", 0.0, "weights=orthogonal")
    rows += [found | {"probe": "theory.weight_gradient_norm"} for found in rows]
    figure = drawn("fig3", rows + parts((3.0, 2.0, 1.0), (1.0, 1.0, 1.0)))
    norms, split = figure.panels
    assert labels(norms) == [
        ("xavier", "measured"),
        ("orthogonal", "measured"),
        ("xavier", "theory"),
        ("orthogonal", "theory"),
    ]
    assert norms.series[0].x == (10.0, 100.0, 300.0)
    assert norms.series[0].y == pytest.approx((0.4, 1.3, 3.3))
    assert labels(split) == [("symmetric part", "measured"), ("antisymmetric part", "measured")]


def test_other_layers_than_the_second_are_not_drawn():
    rows = line("fig3", 0.01, "weights=xavier") + line("fig3", 9.0, "weights=xavier", layer=7)
    (norms,) = drawn("fig3", rows).panels
    assert norms.series[0].y == pytest.approx((0.4, 1.3, 3.3))


def test_slopes_stand_beside_theory_s_without_the_norm_that_it_is_drawn_from():
    condition = "activation=sin exponent=0"
    rows = line("fig5", 0.15, condition) + theory_line("fig5", 0.1, condition)
    (table,) = PAPER.item("fig5").tables(frame(rows).drop(columns="item"), study("fig5"))
    assert table.header == ("activation", "exponent", "measured", "theory")
    assert table.rows == (("sin", "0", "0.150", "0.100"),)


@pytest.mark.parametrize(
    ("item", "conditions"),
    [
        ("fig2", ("repeated=0", "repeated=90")),
        ("samples", ("width=100 samples=50", "width=100 samples=75")),
        ("repeated", ("repeated=0", "repeated=5")),
    ],
)
def test_batches_of_lesser_rank_have_a_dashed_line_each(item, conditions):
    rows = [found for one in conditions for found in line(item, 0.02, one) + theory_line(item, 0.01, one)]
    (panel,) = drawn(item, rows).panels
    assert [series.kind for series in panel.series] == ["measured", "measured", "theory", "theory"]
    (table,) = PAPER.item(item).tables(frame(rows).drop(columns="item"), study(item))
    assert [cells[-2:] for cells in table.rows] == [("0.0200", "0.0100")] * 2


def test_figure_5_has_a_panel_for_each_exponent():
    rows = line("fig5", 0.1, "activation=sin exponent=0") + line("fig5", 0.0, "activation=sin exponent=0.4")
    assert [panel.title for panel in drawn("fig5", rows).panels] == ["no gain", "gain l^-0.4"]


def test_figure_e1_has_a_line_for_each_layer_and_its_table_the_power():
    rows = rates(lambda _name, gain, layer: 0.1 * gain**3)
    sin, tanh = drawn("e1", rows).panels
    assert labels(sin) == [("l = 100", "measured"), ("l = 200", "measured")]
    assert tanh.series[0].x == (0.3, 0.6, 0.9)
    (table,) = PAPER.item("e1").tables(frame(rows).drop(columns="item"), study("e1"))
    assert table.rows[0][:6] == ("sin", "0.100", "3.00", "0.100", "3.00", "0.0729")


def test_figure_e2_shows_growth_from_the_last_hidden_layer_to_the_second():
    panels = drawn("e2", growing(0.1, 0.01)).panels
    assert [panel.title for panel in panels] == ["sin: growth", "tanh: growth"]
    assert [series.y for series in panels[0].series] == [pytest.approx((1.0,)), pytest.approx((5.0,))]


def test_figure_e2_s_rate_is_over_the_ten_layers_from_the_second_weight_on():
    condition = "activation=sin exponent=0.4 layers=100"
    rows = [
        start("e2", "weight_gradient_norm", "log_norm", value, condition, depth=depth)
        for depth, value in ((1, 9.0), (2, 3.0), (12, 1.0), (100, 0.5))
    ]
    beginning, growth = drawn("e2", rows).panels
    assert beginning.series[0].y == pytest.approx((0.2,))
    assert growth.series[0].y == pytest.approx((2.5,))


def test_figure_g5_has_gradients_and_the_gap_by_normalization():
    rows = last_gap("batchnorm", "gap", 0.1) + last_gap("batchnorm", "uncentered_gap", math.inf)
    rows += line("g5", 0.0, "activation=identity", norm="batchnorm")
    gradients, gap = drawn("g5", rows).panels
    assert (gradients.title, gap.title) == ("gradients, batchnorm", "gap of the last layer, batchnorm")
    assert gap.series[0].y == pytest.approx((9.0, 0.1))


def test_table_d1_has_a_column_for_each_data_set_and_the_figure_shares():
    rows = [rank("raw_rank_float32", 128, 0.5), rank("raw_rank_float32", 16, 1.0, "mnist")]
    (panel,) = drawn("d1", rows).panels
    assert [series.y for series in panel.series] == [(0.5,), (1.0,)]
    first = PAPER.item("d1").tables(frame(rows).drop(columns="item"), study("d1"))[0]
    assert first.header == ("samples", "cifar10", "mnist")
    assert first.rows == (("16", "–", "16.0"), ("128", "64.0", "–"))


def test_figure_6_draws_gap_and_gradients_of_square_weights_by_epoch():
    rows = weights("fig6", 10, -4.0, -2.0)
    for depth, value in ((1, 9.0), (2, 0.0)):
        rows += trained("fig6", "tanh", 10, "weight_gradient_norm", "log_norm", value, depth=depth)
    rows += turning("fig6", 10, -1.0, 0.5)
    rows = [found | {"step": found["step"] * 5} for found in rows]  # 50 steps: an epoch
    gap, gradient, parts_of_it = drawn("fig6", rows).panels
    assert [series.normalizer for series in parts_of_it.series] == ["epoch 0", "epoch 1"]
    assert parts_of_it.series[-1].y[4] == pytest.approx(10**-0.7)
    assert labels(gap) == [("epoch 1", "measured")]
    assert gap.series[0].x == tuple(map(float, range(2, 11)))
    assert gap.series[0].y[5] == pytest.approx(1e-4)
    assert gradient.series[-1].y == pytest.approx((1.0,))


def test_figures_g1_to_g4_have_both_kinds_of_test_accuracy_against_the_epoch():
    rows = trained("g4", "identity", 500, "batch_accuracy", "train_accuracy", 0.5)
    rows += trained("g4", "identity", 500, "batch_accuracy", "test_accuracy", 0.4)
    rows += trained("g4", "identity", 500, "evaluation", "test_accuracy", 0.1)
    panels = drawn("g4", rows).panels
    assert [panel.title for panel in panels] == [
        "identity: train",
        "identity: test, statistics of test batches",
        "identity: test, running statistics",
    ]
    assert panels[2].series[0].x == (0.0, 0.2)  # ten of an epoch's fifty steps
    assert panels[2].series[0].y == pytest.approx((0.123, 0.1))


def test_conditions_become_columns_and_numbers_where_all_are():
    rows = conditions_as_columns(
        frame([start("d1", "p", "n", 1.0, "data_set=mnist samples=16"), start("d1", "p", "n", 1.0, "")])
    )
    assert rows["data_set"].iloc[0] == "mnist"
    both = rows_with_conditions(
        frame(line("fig2", 1.0, "repeated=5") + line("fig2", 1.0, "repeated=0")), "fig2", repeated=5
    )
    assert sorted(both["layers"].unique()) == [10, 100, 300]
    assert rows_with_conditions(frame(line("fig2", 1.0)), "fig2", repeated=5).empty  # no condition has that column


def test_slopes_and_straightness_of_too_few_or_infinite_values_are_no_numbers():
    import pandas as pd

    assert slope(pd.Series({1: 2.0, 3: 6.0})) == pytest.approx(2.0)
    assert math.isnan(slope(pd.Series({1: 2.0})))
    assert math.isnan(slope(pd.Series({1: 2.0, 2: math.inf})))
    assert math.isnan(straightness(pd.Series({1: 2.0, 2: 3.0})))
    assert straightness(pd.Series({1: 2.0, 2: 3.0, 3: 4.0})) == pytest.approx(1.0)
