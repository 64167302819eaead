import math
from itertools import chain

import numpy as np
import pytest
from scipy import stats

from normscope.report import summary
from report import synthetic


def results(rows, recipe):
    return summary.results(synthetic.frame(chain.from_iterable(rows)), recipe).set_index("normalizer")


def grid(norm, validation, *, test=None, diverged=()):
    """Trials of one normalizer from {lr: accuracy per seed}; a trial (lr, seed) in `diverged` has no evaluation."""
    test = test or validation
    return [
        synthetic.trial(norm, lr, seed, validation=value, test=test[lr][seed], diverged=(lr, seed) in diverged)
        for lr, values in validation.items()
        for seed, value in enumerate(values)
    ]


def test_test_accuracy_is_the_mean_with_a_student_t_interval_over_seeds():
    recipe = synthetic.recipe(["a"], lrs=[0.1])
    accuracies = [0.80, 0.90, 0.82]

    row = results(grid("a", {0.1: accuracies}), recipe).loc["a"]

    half = stats.t.ppf(0.975, df=2) * np.std(accuracies, ddof=1) / math.sqrt(3)
    assert row["test_accuracy"] == pytest.approx(0.84)
    assert (row["test_low"], row["test_high"]) == pytest.approx((0.84 - half, 0.84 + half))


def test_the_rate_is_chosen_on_validation_though_another_tests_better():
    recipe = synthetic.recipe(["a"], lrs=[0.1, 0.3], seeds=2)
    trials = grid("a", {0.1: [0.7, 0.7], 0.3: [0.6, 0.6]}, test={0.1: [0.5, 0.5], 0.3: [0.9, 0.9]})

    row = results(trials, recipe).loc["a"]

    assert (row["lr"], row["validation_accuracy"], row["test_accuracy"]) == pytest.approx((0.1, 0.7, 0.5))


def test_a_diverged_trial_counts_as_accuracy_0_in_choice_and_result():
    recipe = synthetic.recipe(["a"], lrs=[0.03, 0.1, 0.3])
    trials = grid(
        "a",
        {0.03: [0.5, 0.5, 0.5], 0.1: [0.9, 0.9, 0.6], 0.3: [0.8, 0.8, 0.8]},
        diverged={(0.1, 2), (0.3, 0), (0.3, 1)},
    )

    row = results(trials, recipe).loc["a"]

    assert row["lr"] == 0.1
    assert row["validation_accuracy"] == pytest.approx((0.9 + 0.9 + 0) / 3)
    assert row["test_accuracy"] == pytest.approx((0.9 + 0.9 + 0) / 3)
    assert (row["diverged"], row["trials"], row["seeds"], row["seeds_diverged"]) == (3, 9, 3, 1)


def test_the_last_evaluation_counts_and_not_the_best():
    recipe = synthetic.recipe(["a"], lrs=[0.1], seeds=1)
    early = synthetic.row("train", "a", 0, 0.1, "evaluation", "validation_accuracy", 0.9, step=10)
    trials = [[early], synthetic.trial("a", 0.1, 0, validation=0.4, test=0.4)]
    assert results(trials, recipe).loc["a", "validation_accuracy"] == 0.4


def test_of_equal_rates_the_smallest_is_chosen():
    recipe = synthetic.recipe(["a"], lrs=[0.3, 0.1, 1.0], seeds=1)
    assert results(grid("a", {0.3: [0.5], 0.1: [0.5], 1.0: [0.5]}), recipe).loc["a", "lr"] == 0.1


@pytest.mark.parametrize(("best", "mark"), [(0.01, "lowest"), (0.1, ""), (1.0, "highest")])
def test_a_best_rate_at_an_end_of_the_grid_is_marked(best, mark):
    recipe = synthetic.recipe(["a"], lrs=[1.0, 0.1, 0.01], seeds=1)
    trials = grid("a", {lr: [0.9 if lr == best else 0.5] for lr in recipe["lrs"]})
    assert results(trials, recipe).loc["a", "edge"] == mark


def test_the_only_rate_is_marked_as_such():
    assert results(grid("a", {0.1: [0.5]}), synthetic.recipe(["a"], lrs=[0.1], seeds=1)).loc["a", "edge"] == "only"


def test_a_normalizer_that_always_diverges_is_shown_with_accuracy_0():
    recipe = synthetic.recipe(["a"], lrs=[0.1, 0.3], seeds=2)
    trials = grid("a", {0.1: [0.5, 0.5], 0.3: [0.5, 0.5]}, diverged={(0.1, 0), (0.1, 1), (0.3, 0), (0.3, 1)})

    row = results(trials, recipe).loc["a"]

    assert (row["lr"], row["test_accuracy"], row["diverged"], row["seeds_diverged"]) == (0.1, 0, 4, 2)


def test_one_row_per_normalizer_in_the_recipes_order_while_trials_are_missing():
    recipe = synthetic.recipe(["b", "a", "c"], lrs=[0.1, 0.3], seeds=2)
    partial = [*grid("a", {0.1: [0.7]}), *grid("b", {0.1: [0.6, 0.8], 0.3: [0.5]})]

    table = results(partial, recipe)

    assert list(table.index) == ["b", "a", "c"]
    assert list(table["trials"]) == [3, 1, 0]
    assert list(table["planned"]) == [4, 4, 4]
    assert table.loc["a", "test_accuracy"] == 0.7
    assert math.isnan(table.loc["a", "test_low"])
    assert table.loc["c", ["lr", "validation_accuracy", "test_accuracy"]].isna().all()
    assert table.loc["c", "edge"] == ""


def test_no_rows_at_all_give_a_table_without_numbers():
    table = results([], synthetic.recipe(["a"]))
    assert list(table["trials"]) == [0]


def test_rates_hold_every_cell_of_the_grid():
    recipe = synthetic.recipe(["a", "b"], lrs=[0.3, 0.1], seeds=2)
    frame = synthetic.frame(chain.from_iterable(grid("a", {0.1: [0.6, 0.8], 0.3: [0.9, 0.9]}, diverged={(0.3, 0)})))

    table = summary.rates(frame, recipe).set_index(["normalizer", "lr"])

    assert list(table.index) == [("a", 0.1), ("a", 0.3), ("b", 0.1), ("b", 0.3)]
    assert table.loc[("a", 0.1), "validation_accuracy"] == pytest.approx(0.7)
    assert table.loc[("a", 0.3), "validation_accuracy"] == pytest.approx(0.45)
    assert table.loc[("a", 0.3), ["diverged", "trials"]].tolist() == [1, 2]
    assert table.loc[("b", 0.1), "trials"] == 0
