import math

import numpy as np
import pytest

from normscope.report import curvature, figures
from normscope.report.density import Rule, smooth
from report import synthetic


def recipe(names=("a", "b"), **changes):
    return synthetic.recipe(list(names), lrs=[0.1, 0.3], seeds=1, **{**synthetic.CURVATURE, **changes})


def trained(norm, best=0.1):
    """Outcomes by which the learning rate is chosen."""
    return [row for lr in (0.1, 0.3) for row in synthetic.trial(norm, lr, 0, validation=1.0 if lr == best else 0.1)]


NODES, WEIGHTS = [-1.0, 0.0, 2.0, 9.0] * 2, [0.1, 0.7, 0.15, 0.05] * 2


def spectra(frame_rows, asked=None):
    return {
        figure.name: figure
        for figure in curvature.spectral_densities(synthetic.frame(frame_rows), asked or recipe())
    }  # fmt: skip


def line(panel, normalizer):
    (found,) = [series for series in panel.series if series.normalizer == normalizer]
    return found


def test_a_spectrum_is_drawn_as_smoothed_from_its_nodes():
    drawn = spectra([*trained("a"), *synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS)])
    (panel,) = drawn["spectral_density_step50"].panels
    series = line(panel, "a")
    rule = Rule(np.array(NODES), np.array(WEIGHTS))
    x, y = np.array(series.x), np.array(series.y)
    np.testing.assert_allclose(y, np.maximum(smooth(rule, x), 1e-12), rtol=1e-9)
    assert series.seeds == ()
    assert np.isnan(series.lo).all()
    assert len(x) <= curvature.MAX_POINTS_OF_ONE
    grid = rule.grid()
    drawn_curve = np.interp(grid, x, np.log10(y))
    assert np.abs(drawn_curve - np.log10(np.maximum(smooth(rule, grid), 1e-12))).max() < 0.02


def titles(figure):
    return [panel.title for panel in figure.panels]


def test_the_width_stands_above_the_panel_and_the_axes_are_the_papers():
    wide = [10 * node for node in NODES]
    drawn = spectra([*trained("a"), *trained("b"), *synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS),
                     *synthetic.spectrum("b", 0.1, 50, wide, WEIGHTS)])  # fmt: skip
    figure = drawn["spectral_density_step50"]
    widths = [f"{math.sqrt(variance):.2g}" for variance in (1e-4, 1e-3)]
    assert titles(figure) == [f"a, train mode, width {widths[0]}", f"b, train mode, width {widths[1]}"]
    for panel in figure.panels:
        assert panel.view == (1e-10, 1e2)
        assert panel.y.log
        assert not panel.x.log


def test_eval_mode_is_beside_train_mode_and_who_has_none_is_named():
    rows = [*trained("a"), *trained("b")]
    for norm in ("a", "b"):
        rows += synthetic.spectrum(norm, 0.1, 50, NODES, WEIGHTS)
    rows += synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS, probe="spectrum.eval")
    rows += [synthetic.row("train", "b", 0, 0.1, "spectrum.eval", "same_as_train", 1.0, step=50)]
    figure = spectra(rows)["spectral_density_step50"]
    assert [title.rpartition(",")[0] for title in titles(figure)] == ["a, train mode", "a, eval mode", "b, train mode"]
    assert [[series.normalizer for series in panel.series] for panel in figure.panels] == [["a"], ["a"], ["b"]]
    assert "In eval mode b normalize as in train mode" in figure.caption
    assert "512 training examples" in figure.caption


def test_the_points_of_a_figure_are_bounded_whatever_it_holds():
    names = [f"n{index}" for index in range(30)]
    nodes = [float(node) for node in np.linspace(-1, 60, 80)] * 2
    rows = [row for name in names for row in trained(name)]
    rows += [row for name in names for row in synthetic.spectrum(name, 0.1, 50, nodes, [1 / 80] * 160)]
    figure = spectra(rows, recipe(names))["spectral_density_step50"]
    assert len(figure.panels) == 30
    assert sum(len(line.x) for panel in figure.panels for line in panel.series) <= curvature.MAX_POINTS


def test_groups_have_a_figure_of_their_own():
    rows = [*trained("a"), *synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS),
            *synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS, layer="readout.*")]  # fmt: skip
    drawn = spectra(rows)
    assert list(drawn) == ["spectral_density_step50", "spectral_density_step50_groups"]
    (panel,) = drawn["spectral_density_step50_groups"].panels
    assert panel.title.startswith("a, readout.*, width")
    assert len(drawn["spectral_density_step50"].panels) == 1


def test_every_normalizer_is_drawn_at_its_chosen_rate_and_initialization_from_whichever_has_it():
    rows = trained("a", best=0.3)
    rows += synthetic.spectrum("a", 0.1, 0, NODES, WEIGHTS)
    rows += synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS)
    rows += synthetic.spectrum("a", 0.3, 50, [2 * node for node in NODES], WEIGHTS)
    drawn = spectra(rows)
    assert list(drawn) == ["spectral_density_step0", "spectral_density_step50"]
    assert max(line(drawn["spectral_density_step0"].panels[0], "a").x) == pytest.approx(9.01)
    assert max(line(drawn["spectral_density_step50"].panels[0], "a").x) == pytest.approx(18.01)
    assert "at initialization" in drawn["spectral_density_step0"].title


def test_initialization_counts_once_where_the_chosen_rate_has_it():
    rows = [*trained("a", best=0.1), *synthetic.spectrum("a", 0.1, 0, NODES, WEIGHTS)]
    assert list(spectra(rows)) == ["spectral_density_step0"]


def test_a_spectrum_that_is_not_finite_is_not_drawn():
    rows = [*trained("a"), *synthetic.spectrum("a", 0.1, 50, [math.nan] * 8, [math.nan] * 8)]
    assert spectra(rows) == {}


def test_sharpness_is_drawn_against_the_step_on_log_axes_that_begin_at_zero():
    rows = trained("a", best=0.3)
    rows += synthetic.sharpness("a", 0.1, 0, 8.0, 2.0, -4.0)
    rows += synthetic.sharpness("a", 0.1, 9, 1.0, 1.0, -1.0)
    rows += synthetic.sharpness("a", 0.3, 9, 30.0, 10.0, 0.5)
    figure = curvature.sharpness(synthetic.frame(rows), recipe())
    largest, ratio, smallest = figure.panels
    assert all(panel.x.log and panel.x.shift == 1 and panel.y.log for panel in figure.panels)
    assert (line(largest, "a").x, line(largest, "a").y) == ((0, 9), pytest.approx((8, 30)))
    assert line(ratio, "a").y == pytest.approx((4, 3))
    assert (line(smallest, "a").x, line(smallest, "a").y) == ((0,), pytest.approx((4,)))


def test_what_has_not_converged_is_left_out():
    rows = [*trained("a"), *synthetic.sharpness("a", 0.1, 0, 8.0, 2.0, -4.0)]
    late = synthetic.sharpness("a", 0.1, 9, 30.0, 10.0, -0.5)
    late[0]["value"], late[1]["value"], late[-1]["value"] = 0.0, 0.0, math.nan
    panels = curvature.sharpness(synthetic.frame(rows + late), recipe()).panels
    assert [line(panel, "a").x for panel in panels] == [(0,)] * 3


def test_a_record_without_curvature_has_neither_figure(drawn):
    assert not {name for name in drawn if name.startswith(("spectral", "sharpness"))}


def test_a_record_with_curvature_has_both_figures():
    rows = [*trained("a"), *synthetic.spectrum("a", 0.1, 50, NODES, WEIGHTS),
            *synthetic.sharpness("a", 0.1, 50, 8.0, 2.0, -4.0)]  # fmt: skip
    assert [figure.name for figure in figures.draw(synthetic.frame(rows), recipe())] == [
        "training", "learning_rate", "sharpness", "spectral_density_step50"
    ]  # fmt: skip
