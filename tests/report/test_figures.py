import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from normscope.report import curves, figures
from report import synthetic

NAMES = [
    "information_propagation", "gradient_correlation", "gradient_norm", "training", "correlation_in_training",
    "learning_rate",
]  # fmt: skip


def line(panel, normalizer, kind="measured"):
    (found,) = [s for s in panel.series if (s.normalizer, s.kind) == (normalizer, kind)]
    return found


def init_rows(values, *, probe="information_propagation", name="correlation"):
    """Rows of one normalizer from {seed: value per depth}."""
    return [
        synthetic.row("init", "batchnorm", seed, math.nan, probe, name, value, depth=depth)
        for seed, by_depth in values.items()
        for depth, value in enumerate(by_depth, start=1)
    ]


def test_a_whole_comparison_gives_every_figure(drawn):
    assert list(drawn) == NAMES


def test_panels_and_axes(drawn):
    described = {
        name: [(panel.title, panel.x.label, panel.y.label, panel.y.log) for panel in figure.panels]
        for name, figure in drawn.items()
        if name != "learning_rate"
    }
    assert described == {
        "information_propagation": [("", "depth (normalizer site)", "correlation", False)],
        "gradient_correlation": [
            ("similar batches", "depth (affine layer)", "correlation", False),
            ("independent batches", "depth (affine layer)", "correlation", False),
        ],
        "gradient_norm": [("", "depth (normalizer site)", "gradient norm", True)],
        "training": [
            ("validation accuracy", "optimizer steps done", "validation accuracy", False),
            ("training loss", "optimizer steps done", "training loss (nats)", True),
        ],
        "correlation_in_training": [
            ("outputs of the last site", "optimizer steps done", "correlation", False),
            ("gradients, similar batches", "optimizer steps done", "correlation", False),
            ("gradients, independent batches", "optimizer steps done", "correlation", False),
        ],
    }


def test_every_panel_draws_every_normalizer_in_the_recipes_order(drawn):
    for figure in drawn.values():
        assert list(figure.normalizers) == synthetic.TEN_ROWS


def test_theory_is_drawn_with_propagation_and_gradient_norm_alone(drawn):
    assert [name for name in NAMES[:-1] if drawn[name].has_theory] == ["information_propagation", "gradient_norm"]


def test_figures_without_rows_are_left_out(frame, recipe):
    drawn = figures.draw(frame[frame["kind"] == "init"], recipe)
    assert [figure.name for figure in drawn] == NAMES[:3]


def test_a_figure_cannot_be_changed(drawn):
    with pytest.raises(dataclasses.FrozenInstanceError):
        drawn["training"].title = "other"


def test_a_line_holds_mean_interval_and_seeds():
    rows = init_rows({0: [0.9, 0.5], 1: [0.8, 0.7], 2: [0.7, 0.3]})

    (panel,) = figures.information_propagation(synthetic.frame(rows), synthetic.recipe()).panels
    drawn = line(panel, "batchnorm")

    low, high = stats.t.interval(0.95, df=2, loc=0.8, scale=stats.sem([0.9, 0.8, 0.7]))
    assert drawn.x == (1, 2)
    assert drawn.y == pytest.approx((0.8, 0.5))
    assert (drawn.lo[0], drawn.hi[0]) == pytest.approx((low, high))
    assert drawn.seeds == ((0, (0.9, 0.5)), (1, (0.8, 0.7)), (2, (0.7, 0.3)))


def test_on_a_log_axis_the_mean_is_geometric():
    rows = init_rows({0: [1.0], 1: [100.0]}, probe="gradient_norm", name="norm")
    (panel,) = figures.gradient_norm(synthetic.frame(rows), synthetic.recipe()).panels
    assert line(panel, "batchnorm").y == pytest.approx((10.0,))


def test_one_seed_has_no_band():
    rows = init_rows({0: [0.9, 0.5]})
    figure = figures.information_propagation(synthetic.frame(rows), synthetic.recipe(seeds=1))
    assert np.isnan(line(figure.panels[0], "batchnorm").lo).all()
    assert "One seed, so there is no band." in figure.caption


def test_the_view_holds_every_line_and_no_more_of_a_band_than_is_possible():
    rows = init_rows({0: [0.98, 0.5], 1: [0.6, 0.5], 2: [0.99, 0.5]})
    (panel,) = figures.information_propagation(synthetic.frame(rows), synthetic.recipe()).panels
    drawn = line(panel, "batchnorm")

    low, high = panel.view

    assert max(drawn.hi) > 1.2
    assert low < min(drawn.lo)
    assert max(drawn.y) < 1 < high < 1.1


def test_a_gradient_norm_has_no_bounds_to_keep_to(drawn):
    assert drawn["gradient_norm"].panels[0].view is None


def training_rows(lr, seed, accuracies, *, diverged=False):
    rows = [
        synthetic.row("train", "a", seed, lr, "evaluation", "validation_accuracy", value, step=step)
        for step, value in enumerate(accuracies)
    ]
    return [*rows, synthetic.row("train", "a", seed, lr, "outcome", "diverged", float(diverged), step=len(rows) - 1)]


def test_training_curves_are_those_of_the_chosen_rate():
    recipe = synthetic.recipe(["a"], lrs=[0.1, 0.3], seeds=1)
    rows = [*training_rows(0.1, 0, [0.1, 0.9]), *training_rows(0.3, 0, [0.2, 0.5])]
    assert line(figures.training(synthetic.frame(rows), recipe).panels[0], "a").y == (0.1, 0.9)


def test_a_diverged_seed_is_in_the_curve_up_to_its_last_step():
    recipe = synthetic.recipe(["a"], lrs=[0.1], seeds=2)
    rows = [*training_rows(0.1, 0, [0.1, 0.5, 0.9]), *training_rows(0.1, 1, [0.3, 0.1], diverged=True)]
    drawn = line(figures.training(synthetic.frame(rows), recipe).panels[0], "a")
    assert drawn.y == pytest.approx((0.2, 0.3, 0.9))


def test_long_training_is_thinned_with_both_ends_kept_and_the_caption_says_so():
    steps = 3 * curves.MAX_POINTS
    recipe = synthetic.recipe(["a"], lrs=[0.1], seeds=1, steps=steps)
    losses = [
        synthetic.row("train", "a", 0, 0.1, "train", "loss", 1.0, step=s, unit="nats") for s in range(1, steps + 1)
    ]
    frame = synthetic.frame([*losses, *training_rows(0.1, 0, [0.1, 0.5])])

    figure = figures.training(frame, recipe)
    drawn = line(figure.panels[-1], "a")

    assert len(drawn.x) == curves.MAX_POINTS
    assert (drawn.x[0], drawn.x[-1]) == (1, steps)
    assert f"{curves.MAX_POINTS} of {steps} steps are drawn" in figure.caption


def test_heat_map_counts_divergences_and_draws_the_stability_edge(drawn):
    figure = drawn["learning_rate"]
    none, layernorm = (figure.normalizers.index(name) for name in ("none", "layernorm"))

    assert figure.rates == (0.03, 0.1, 0.3)
    assert figure.diverged[none] == (0, 0, 3)
    assert figure.diverged[layernorm] == (0, 0, 1)
    assert figure.values[none][2] == 0
    assert figure.stable[none] == figure.stable[layernorm] == 2
    assert {count for i, count in enumerate(figure.stable) if i not in (none, layernorm)} == {3}


@pytest.mark.parametrize(
    ("diverging", "stable"), [({}, 3), ({0.3}, 2), ({0.03, 0.1, 0.3}, 0), ({0.1}, 3), ({0.03, 0.3}, 2)]
)
def test_the_edge_lies_after_the_largest_rate_without_divergence(diverging, stable):
    recipe = synthetic.recipe(["a"], seeds=2)
    rows = [
        row
        for lr in recipe["lrs"]
        for seed in range(2)
        for row in synthetic.trial("a", lr, seed, validation=0.5, diverged=lr in diverging and seed == 1)
    ]
    assert figures.learning_rate(synthetic.frame(rows), recipe).stable == (stable,)


def test_a_normalizer_without_trials_has_no_edge_and_no_values():
    recipe = synthetic.recipe(["a", "b"], lrs=[0.1])
    figure = figures.learning_rate(synthetic.frame(synthetic.trial("a", 0.1, 0, validation=0.5)), recipe)
    assert figure.stable == (1, None)
    assert math.isnan(figure.values[1][0])
