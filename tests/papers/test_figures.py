"""The figures as specifications: panels, axes, lines, and what theory or a floor adds to them."""

from __future__ import annotations

import pytest

from normscope.report import LOG_STEP
from normscope.study import Study
from normscope.study.paper import study_of
from normscope_papers.is_batch_norm_unique import PAPER

from .synthetic import Row, ended, frame, row
from .worlds import (
    batches,
    final_layer,
    gradients,
    layer_gradients,
    minimized,
    norms,
    propagation,
    spectrum,
    through_steps,
)


def drawn(item: str, rows: list[Row], scale: str = "laptop"):
    """The only figure of an item, from rows as its own run has them."""
    study = study_of(PAPER, PAPER.item(item), scale, {})
    (figure,) = PAPER.item(item).figures(frame(rows).drop(columns="item"), study)
    assert figure.name == item
    return figure


def labels(panel):
    return [(line.normalizer, line.kind) for line in panel.series]


def theory(rows: list[Row]) -> list[Row]:
    return [found | {"probe": f"theory.{found['probe']}"} for found in rows]


def test_figure_1_has_activations_with_theory_both_kinds_of_gradient_pairs_and_the_norm():
    signal, growth = propagation("fig1", layernorm=(0.9, 0.8), batchnorm=(0.9, 0.5)), norms("fig1", batchnorm=1.4)
    rows = signal + theory(signal) + growth + layer_gradients("similar", batchnorm=0.5)
    figure = drawn("fig1", rows + layer_gradients("independent", batchnorm=0.1))
    activations, similar, independent, norm = figure.panels
    assert labels(activations)[:2] == [("batchnorm", "measured"), ("layernorm", "measured")]  # in the study's order
    assert {kind for _, kind in labels(activations)[2:]} == {"theory"}
    assert activations.series[0].y == pytest.approx((0.9, 0.5))
    assert activations.x.title == "depth (normalizer site)"
    assert similar.series[0].y == pytest.approx((0.51, 0.49))
    assert independent.series[0].y == pytest.approx((0.11, 0.09))
    assert norm.y.log


def test_figure_2_and_its_twins_draw_signal_and_gradient_norm_by_depth():
    rows = propagation("fig2", batchnorm=(0.9, 0.5)) + norms("fig2", batchnorm=1.4)
    assert [panel.y.title for panel in drawn("fig2", rows).panels] == ["correlation", "gradient norm"]
    assert [panel.y.title for panel in drawn("app1", propagation("app1", batchnorm=(0.9, 0.5))).panels] == [
        "correlation"
    ]
    assert [panel.y.title for panel in drawn("app2", norms("app2", batchnorm=1.4)).panels] == ["gradient norm"]


def test_figure_3_is_drawn_from_the_final_stage_against_the_step():
    rows = through_steps("fig3", "evaluation", "test_accuracy", batchnorm=(0.1, 0.3, 0.5))
    rows += final_layer(batchnorm=(0.1, 0.6, 0.4)) + gradients("similar", batchnorm=0.3)
    rows += [found | {"value": 0.99, "lr": 0.7, "trial": "search"} for found in rows]
    rows = [found if found["trial"] == "search" else found | {"trial": "final-x"} for found in rows]
    accuracy, final, similar = drawn("fig3", rows).panels
    assert accuracy.series[0].x == (0.0, 50.0, 100.0)
    assert accuracy.x == final.x == similar.x == LOG_STEP
    assert accuracy.series[0].y == pytest.approx((0.1, 0.3, 0.5))
    assert final.series[0].y == pytest.approx((0.1, 0.6, 0.4))
    assert similar.title == "(c) gradients, similar batches"
    assert accuracy.y.bounds == (0.0, 1.0)


@pytest.mark.parametrize("item", ["fig4", "app5"])
def test_spectra_are_densities_one_panel_a_normalizer_of_the_first_seed(item):
    rows = [found for norm in ("batchnorm", "layernorm") for found in spectrum(item, norm, 50, ratio=3.0)]
    rows += [found | {"name": "weight", "value": 1 / 12} for found in rows]
    rows += [found for norm in ("batchnorm", "layernorm") for found in ended(item, norm, 0.5, step=100)]
    rows += [found | {"seed": 1, "trial": f"{found['trial']}-1", "value": 99.0} for found in rows]
    study = study_of(PAPER, PAPER.item(item), "laptop", {})
    (figure,) = PAPER.item(item).figures(frame(rows).drop(columns="item"), study)
    assert figure.name == f"{item}_spectral_density_step50"
    assert [labels(panel) for panel in figure.panels] == [[("batchnorm", "measured")], [("layernorm", "measured")]]
    assert max(figure.panels[0].series[0].x) < 3  # nothing of the second seed
    assert f"{PAPER.item(item).fields['laptop']['examples']} training examples" in figure.caption


def test_figure_6_has_logarithmic_axes_and_drops_what_has_not_converged():
    rows = through_steps("fig6", "sharpness", "lambda_ratio", batchnorm=(float("nan"), 3.0, 2.0))
    rows += through_steps("fig6", "sharpness", "lambda_max", batchnorm=(9.0, 3.0, 2.0))
    rows += through_steps("fig6", "sharpness", "lambda_min", batchnorm=(-9.0, -1.0, 0.5))
    ratio, largest, negative = drawn("fig6", rows).panels
    assert ratio.series[0].x == (50.0, 100.0)
    assert largest.series[0].y == pytest.approx((9.0, 3.0, 2.0))
    assert negative.series[0].y == pytest.approx((9.0, 1.0))
    assert all(panel.x == LOG_STEP and panel.y.log for panel in (ratio, largest, negative))


def test_figure_5_has_a_panel_for_each_training_batch_with_running_statistics_as_level_lines():
    rows = batches({"batchnorm": 0.7, "prelayernorm": 0.6}, batchnorm=(0.3, 0.5))
    start = row(
        "fig5", "batchnorm", "information_propagation", "correlation", 0.5, kind="init", condition="batch 4", depth=1
    )
    small, reference, depth = drawn("fig5", [*rows, start]).panels
    assert {small.title, reference.title} == {"trained at 16", "trained at 64"}
    own = small if small.title == "trained at 64" else reference
    assert [line.normalizer for line in own.series] == ["batchnorm", "prelayernorm", "batchnorm, running"]
    curve, free, running = own.series
    assert curve.y == pytest.approx((0.3, 0.5))
    assert free.x == curve.x == running.x == (2.0, 512.0)
    assert free.y == pytest.approx((0.6, 0.6))
    assert running.y == pytest.approx((0.7, 0.7))
    assert depth.title == "correlation at initialization, batch 4"


def test_app11_has_the_sampling_floor_as_theory():
    rows = [
        row("app11", "regnorm", "penalty", "R", r, step=step, depth=depth)
        for step, r in ((0, 0.8), (9, 0.1))
        for depth in (1, 2)
    ]
    rows += [row("app11", "regnorm", "penalty", "floor", 1 / 64, step=step) for step in (0, 9)]
    mean, *_ = drawn("app11", rows).panels
    assert labels(mean) == [("regnorm", "measured"), ("regnorm", "theory")]
    assert mean.series[1].y == pytest.approx((1 / 64, 1 / 64))
    assert mean.series[0].y == pytest.approx((0.8, 0.1))


def test_the_propagation_check_sets_before_beside_after():
    rows = propagation("propagation", bmlv=(0.5, 0.2), layernorm=(0.9, 0.9))
    rows += minimized(0.1, lr=3e-4) + minimized(0.2, lr=1e-3)
    before, *after, falling = drawn("propagation", rows).panels
    assert [panel.title for panel in after] == ["after minimizing R, lr=0.0003", "after minimizing R, lr=0.001"]
    for panel, left in ((before, 1.0), *zip(after, (0.1, 0.2), strict=True)):
        by_norm = {line.normalizer: line.y for line in panel.series}
        assert by_norm["regnorm"] == pytest.approx((0.2 + 0.4 * left, 0.4 + 0.4 * left))
        assert by_norm["bmlv"] == pytest.approx((0.5, 0.2))
    assert labels(falling) == [("regnorm, lr=0.0003", "measured"), ("regnorm, lr=0.001", "measured")]
    assert falling.series[0].x == (0.0, 50.0, 100.0)


@pytest.mark.parametrize("item", ["app9", "app10"])
def test_accuracy_is_drawn_against_the_factor(item):
    rows = [
        found
        for k, accuracy in (("k=0.8", 0.3), ("k=1", 0.6), ("k=1.21", 0.5))
        for found in ended(item, "layernorm", accuracy, condition=k)
    ]
    (panel,) = drawn(item, rows).panels
    assert panel.series[0].x == (0.8, 1.0, 1.21)
    assert panel.series[0].y == pytest.approx((0.3, 0.6, 0.5))


def test_recurrent_cells_and_variants_of_chaos_have_panels_of_their_own():
    rows = [
        row("recurrent", "none", "evaluation", "test_accuracy", 0.5, step=s, condition=c)
        for c in ("lstm", "gru")
        for s in (0, 9)
    ]
    assert [panel.title for panel in drawn("recurrent", rows).panels] == ["lstm", "gru"]
    rows = [found | {"condition": c} for c in ("plain", "tlu") for found in propagation("chaos", layernorm=(0.9, 0.5))]
    assert [panel.title for panel in drawn("chaos", rows).panels] == ["plain", "tlu"]


def test_captions_say_how_many_seeds_there_are():
    assert "One seed" in drawn("fig2", propagation("fig2", batchnorm=(0.9, 0.5))).caption
    two = [
        found | {"seed": seed, "trial": str(seed)}
        for seed in (0, 1)
        for found in propagation("fig2", batchnorm=(0.9, 0.5))
    ]
    assert "2 seeds" in drawn("fig2", two).caption


def test_items_that_are_tables_draw_nothing():
    for name in ("table1", "table2", "table3"):
        study = study_of(PAPER, PAPER.item(name), "smoke", {})
        assert isinstance(study, Study)
        assert PAPER.item(name).figures(frame([]), study) == ()
