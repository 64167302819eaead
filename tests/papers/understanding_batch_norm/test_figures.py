"""The figures and tables as specifications: panels, axes, lines, grids, and what theory adds to them."""

from __future__ import annotations

import math

import pytest

from normscope.report import LineFigure, RasterFigure
from normscope.study import Study
from normscope.study.paper import study_of
from normscope_papers.understanding_batch_norm import PAPER
from papers.synthetic import Row, ended, frame, row

from .worlds import (
    DIVERGING,
    GUESSING,
    LEARNING,
    along,
    grid,
    logits,
    noise,
    relative,
    shifted,
    singular,
    step_of_channels,
    sums,
    training,
    trainings,
)


def drawn(item: str, rows: list[Row], scale: str = "laptop") -> tuple:
    """The figures of an item, from rows as its own run has them."""
    study = study_of(PAPER, PAPER.item(item), scale, {})
    assert isinstance(study, Study)
    return PAPER.item(item).figures(frame(rows).drop(columns="item"), study)


def tables(item: str, rows: list[Row]) -> tuple:
    study = study_of(PAPER, PAPER.item(item), "laptop", {})
    return PAPER.item(item).tables(frame(rows).drop(columns="item"), study)


def names(panel) -> list[str]:
    return [line.normalizer for line in panel.series]


def test_figure_1_goes_along_the_share_of_each_training_with_a_line_for_each_rate():
    rows = [
        row("fig1", norm, "evaluation", name, value, step=step, lr=lr)
        for norm, lr in (("batchnorm", 0.1), ("batchnorm", 0.003), ("none", 0.0001))
        for name in ("test_accuracy", "train_accuracy")
        for step, value in ((0, 0.1), (130, 0.4), (260, 0.5))
    ]
    rows += [row("fig1", "none", "evaluation", "train_accuracy", 0.1, step=5, lr=0.1)]  # of five steps asked for
    rows += [
        row("fig1", "none", "channel_moments", name, factor**step, step=step, lr=0.0001, layer=f"blocks.{block}")
        for name, factor in (("std", 10.0), ("mean", 5.0))
        for step in (0, 2)
        for block in (0, 1)
    ]
    accuracy, means, moments = drawn("fig1", rows)
    test, train = accuracy.panels
    assert (test.title, train.title) == ("test accuracy", "training accuracy")
    assert sorted(names(test)) == ["batchnorm, rate 0.003", "batchnorm, rate 0.1", "none, rate 0.0001"]
    assert test.series[0].x == (0.0, 50.0, 100.0)
    assert test.series[0].y == pytest.approx((0.1, 0.4, 0.5))
    (panel,) = moments.panels
    assert moments.name == "fig1_channel_deviations"
    assert (panel.xs, panel.ys) == ((0.0, 2.0), (2.0, 4.0))
    assert panel.values == ((1.0, 100.0), (1.0, 100.0))
    assert panel.color.log
    assert (means.name, means.panels[0].values) == ("fig1_channel_means", ((1.0, 25.0), (1.0, 25.0)))
    assert (means.panels[0].color.title, panel.color.title) == ("|channel mean|", "channel deviation")
    (short,) = [line for line in train.series if line.normalizer == "none, rate 0.1"]
    assert short.x == (100.0,)


def test_figure_2_draws_densities_on_each_networks_own_scale_of_the_first_seed():
    rows = [
        row("fig2", norm, "gradient_histogram", name, value, depth=place, seed=seed, kind="init", trial=f"{norm}{seed}")
        for norm, width in (("batchnorm", 0.1), ("none", 10.0))
        for seed in (0, 1)
        for place, (left, share) in enumerate(((-1.0, 0.25), (0.0, 0.75), (1.0, 0.0)), start=1)
        for name, value in (("left", left * width), ("right", (left + 1) * width), ("share", share))
    ]
    (figure,) = drawn("fig2", rows)
    small, large = figure.panels
    assert (small.title, large.title) == ("batchnorm", "none")
    assert small.series[0].x == pytest.approx((-0.05, 0.05, 0.15))
    assert small.series[0].y[:2] == pytest.approx((2.5, 7.5))
    assert math.isnan(small.series[0].y[2])  # an empty bin, on a log axis
    assert large.series[0].y[:2] == pytest.approx((0.025, 0.075))


def test_figure_3_has_a_panel_for_each_minibatch_and_leaves_infinity_out():
    rows = relative("fig3", "none", 1e-2, step=0) + relative("fig3", "batchnorm", 1e-1, step=3)
    rows += grid("fig3", "none", "relative_loss", "relative_loss", {0.2: math.inf}, step=0)
    (figure,) = drawn("fig3", rows)
    first, fourth = figure.panels
    assert (first.title, fourth.title) == ("minibatch 1", "minibatch 4")
    assert first.series[0].x == pytest.approx((0.001, 0.01, 0.011, 0.012, 0.2))
    assert first.series[0].y[1] == pytest.approx(2e3)
    assert math.isnan(first.series[0].y[-1])
    assert first.x.log
    assert first.y.log


def test_figure_4_has_means_above_variances_by_layer_and_share():
    means = {("blocks.3", 0.0): (1.0, -2.0), ("blocks.3", 1.0): (3.0, 4.0), ("blocks.39", 1.0): (math.inf, 5.0)}
    rows = step_of_channels(means)
    rows += [found | {"name": "channel_variance", "value": 7.0} for found in rows]
    (figure,) = drawn("fig4", rows)
    assert isinstance(figure, RasterFigure)
    assert [panel.title for panel in figure.panels] == [
        "mean, layer 8", "mean, layer 80", "variance, layer 8", "variance, layer 80",
    ]  # fmt: skip
    first, second = figure.panels[:2]
    assert (first.xs, first.ys) == ((1.0, 2.0), (0.0, 1.0))
    assert first.values == ((1.0, -2.0), (3.0, 4.0))
    assert first.signed
    assert math.isinf(second.values[0][0])
    assert figure.panels[2].color.log
    assert "of rate 0.0002, the first size of the grid whose relative loss exceeds 1,000" in figure.caption
    (calm,) = drawn("fig4", step_of_channels(means, ratio=2.0))
    assert "of rate 0.0002, the last size of the grid, since no size is one whose" in calm.caption


def test_figure_5_draws_both_moments_against_the_papers_layer():
    rows = [
        row("fig5", norm, "channel_moments", name, 2.0, layer=f"blocks.{block}", depth=block + 1, kind="init")
        for norm in ("batchnorm", "none")
        for name in ("mean", "std")
        for block in (0, 3, 53)
    ]
    rows += [found | {"layer": "readout"} for found in rows if found["layer"] == "blocks.0"]
    (figure,) = drawn("fig5", rows)
    assert [panel.y.title for panel in figure.panels] == ["channel deviation", "|channel mean|"]
    assert figure.panels[0].series[0].x == (2.0, 8.0, 108.0, 110.0)
    assert names(figure.panels[0]) == ["batchnorm", "none"]


def test_figure_6_has_images_down_and_classes_across():
    (figure,) = drawn("fig6", logits(none=0.5)[:40])
    (panel,) = figure.panels
    assert (panel.title, panel.x.title, panel.y.title) == ("none", "class", "image")
    assert len(panel.ys) == 20
    assert panel.xs == (1.0, 4.0)
    assert all(values == (1.0, 0.0) for values in panel.values)
    (table,) = tables("fig6", [row("fig6", "none", "logit_gradients", "cosine", 0.4, kind="init")])
    assert table.rows == (("batchnorm", "not measured"), ("none", "0.400"))


def law(*factors: int) -> list[Row]:
    return [
        row("fig8", "none", "theory.gaussian_products", name, 1.0 / at, layer=f"{m}@{at:g}", depth=place, kind="init")
        for m in factors
        for name in ("density", "squared_density")
        for place, at in enumerate((0.5, 1.0, 2.0), start=1)
    ]


def test_figure_7_is_theory_alone_of_values_and_squares():
    values, squares = drawn("fig7", law(1, 3))
    assert (values.name, squares.name) == ("fig7", "fig7_squares")
    assert [panel.title for panel in values.panels] == ["1 matrix", "3 matrices"]
    assert {line.kind for panel in (*values.panels, *squares.panels) for line in panel.series} == {"theory"}
    assert values.normalizers == ()  # nothing is measured, and nothing to choose in a legend
    assert values.panels[0].series[0].x == (0.5, 1.0, 2.0)
    assert values.theory.startswith("Fuss-Catalan")


def test_figure_8_has_histograms_of_unit_mass_beside_the_law_and_a_table():
    sampled = singular({1: tuple(0.02 * k for k in range(1, 101)), 3: (3.0, 0.1, 0.1, 0.1)})
    edge = [row("fig8", "none", "theory.gaussian_products", "largest", 2.0, layer="1", kind="init")]
    (figure,) = drawn("fig8", sampled + law(1, 3))
    one, three = figure.panels
    assert [line.kind for line in one.series] == ["measured", "theory"]
    width = 2.0 / 50
    assert sum(one.series[0].y) * width == pytest.approx(1.0)
    assert len(three.series[0].x) == 2  # empty bins are left out
    (table,) = tables("fig8", sampled + edge)
    assert table.rows[0] == ("1", "2.00", "2", "4", "100")
    assert table.rows[1][2:4] == ("–", "–")


def test_the_noise_is_drawn_by_rate_at_the_last_step_with_the_bound_as_theory():
    (figure,) = drawn("noise", noise(beside_bound=0.5))
    assert [panel.title for panel in figure.panels] == ["rate 0.01", "rate 0.1"]
    measured, bound = figure.panels[0].series
    assert (measured.kind, bound.kind) == ("measured", "theory")
    assert measured.x == bound.x == (1.0, 4.0, 16.0)
    assert bound.y == pytest.approx([2 * value for value in measured.y])
    assert figure.theory == "α²C/B"


def test_usable_rates_are_drawn_against_depth_beside_the_relative_loss():
    rows = trainings("depth", "depth 8", 0.1) + trainings("depth", "depth 56", 0.01)
    rows += relative("depth", "none", 0.1, kind="init", condition="depth 8")
    (figure,) = drawn("depth", rows)
    usable, along_gradient = figure.panels
    lines = {line.normalizer: line for line in usable.series}
    assert lines["learns"].x == (8.0, 56.0)
    assert lines["learns"].y == pytest.approx((0.1, 0.01))
    assert lines["does not diverge"].y == pytest.approx((0.3, 0.03))
    assert names(along_gradient) == ["depth 8"]


def test_at_each_rate_seeds_that_learn_are_counted_beside_those_that_do_not_diverge():
    ends = ((LEARNING, 0.0), (GUESSING, 0.0), (DIVERGING, 1.0))
    rows = [
        found | {"seed": seed, "trial": f"{found['trial']}-{seed}"}
        for seed, (losses, diverged) in enumerate(ends)
        for found in training("depth", "depth 8", 0.1, losses, diverged=diverged)
    ]
    unfinished = row("depth", "none", "train", "loss", 2.0, condition="depth 8", lr=0.01, step=1)
    untrained = relative("depth", "none", 0.1, kind="init", condition="depth 20")
    rates, sizes = tables("depth", [*rows, unfinished, *untrained])
    cells = {line[:2]: line[2:] for line in rates.rows}
    assert cells["depth 8", "0.1"] == ("1 of 3", "2 of 3")
    assert cells["depth 8", "0.01"] == cells["depth 56", "0.001"] == ("not measured", "not measured")
    assert dict(sizes.rows) == {"depth 8": "not measured", "depth 20": "0.100", "depth 56": "not measured"}


def test_initializations_have_moments_and_relative_loss_by_rule():
    rows = relative("initializations", "none", 0.1, kind="init", condition="he")
    rows += [
        row("initializations", "none", "channel_moments", name, 2.0, layer="blocks.1", kind="init", condition=init)
        for name in ("mean", "std")
        for init in ("he", "small")
    ]
    (figure,) = drawn("initializations", rows)
    assert [names(panel) for panel in figure.panels] == [["he", "small"], ["he", "small"], ["he"]]


def test_table_1_names_the_papers_layers():
    (table,) = tables("table1", sums(batchnorm=(228.0, 24.0)))
    assert table.header == ("normalizer", "layer", "a", "b", "a/b")
    assert table.rows[0] == ("batchnorm", "18", "not measured", "not measured", "228")
    assert table.rows[1][1] == "90"


def test_the_landscape_is_drawn_for_each_network_with_both_ends_of_the_bands_and_saturation():
    rows = [
        found
        for network in ("vgg", "dln")
        for name in ("loss", "gradient_distance", "smoothness")
        for step in (0, 20)
        for found in along(network, name, {"batchnorm": (2.0, 3.0), "none": (2.0, 9.0)}, step=step)
    ]
    theory = [
        found | {"probe": "theory.loss_along_gradient", "value": 1 / float(found["layer"])}
        for found in rows
        if found["name"] == "smoothness"
    ]
    figures = drawn("smoothness", rows + theory)
    assert [figure.name for figure in figures] == ["smoothness_vgg", "smoothness_dln"]
    loss, gradient, largest, by_size = figures[0].panels
    assert sorted(names(loss)) == ["batchnorm, largest", "batchnorm, smallest", "none, largest", "none, smallest"]
    ends = {line.normalizer: line.y for line in loss.series}
    assert ends["none, largest"] == pytest.approx((9.0, 9.0))
    assert ends["none, smallest"] == pytest.approx((2.0, 2.0))
    assert gradient.x.title == "optimizer steps done"
    level = largest.series[-1]
    assert (level.kind, level.y) == ("theory", pytest.approx((20.0, 20.0)))
    assert by_size.series[-1].y == pytest.approx((20.0, 2.5))
    assert by_size.x.title == "step size"


def test_covariate_shift_leaves_the_first_layer_out_and_names_noisy_batch_norm():
    noisy = [
        found | {"condition": "noisy batch norm", "trial": "noisy"} for found in shifted("distance", batchnorm=4.0)
    ]
    rows = shifted("distance", batchnorm=2.0, none=1.0) + noisy + shifted("cosine", none=0.5)
    rows += ended("covariate-shift", "batchnorm", 0.5)
    rows += shifted("distance", "dln", none=4.0) + shifted("cosine", "dln", none=0.5)
    figure, linear = drawn("covariate-shift", rows)
    assert isinstance(figure, LineFigure)
    assert [one.name for one in (figure, linear)] == ["covariate-shift", "covariate-shift_dln"]
    assert [names(panel) for panel in linear.panels] == [["none"]] * 4
    assert linear.panels[0].series[0].y == pytest.approx((2.0, 6.0))
    distance = figure.panels[0]
    assert sorted(names(distance)) == ["batchnorm", "noisy batch norm", "none"]
    lines = {line.normalizer: line.y for line in distance.series}
    assert lines["none"] == pytest.approx((0.5, 1.5))
    assert lines["noisy batch norm"] == pytest.approx((2.0, 6.0))
    assert figure.panels[-1].title == "test accuracy"


def test_figure_1s_table_counts_divergences():
    rows = [*ended("fig1", "none", 0.3, lr=0.0001), row("fig1", "none", "outcome", "diverged", 1.0, lr=0.1)]
    (table,) = tables("fig1", rows)
    cells = {row[:2]: row[2:] for row in table.rows}
    assert cells["none", "0.0001"] == ("0.300", "0 of 1")
    assert cells["none", "0.1"] == ("0.00", "1 of 1")
    assert cells["batchnorm", "0.1"] == ("not measured", "–")


def test_the_last_layers_table_is_of_the_final_stage():
    rows = [found | {"trial": "final-x"} for found in ended("last-layer", "none", 0.4, condition="nowhere", lr=0.003)]
    rows += ended("last-layer", "none", 0.9, condition="nowhere", lr=0.1)
    (table,) = tables("last-layer", rows)
    assert table.rows[2] == ("nowhere", "0.003", "0.400")
