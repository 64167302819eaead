"""What is read from rows: the rate that validation chose, final values, tables by seed."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from tests.papers.synthetic import ended, frame, row

from normscope_papers.common.rows import (
    at,
    at_chosen_rate,
    by_seed,
    effect,
    final_values,
    last,
    log,
    pick,
    wide,
)


def rates(chosen):
    return {
        (norm, condition): set(group["lr"]) for (norm, condition), group in chosen.groupby(["normalizer", "condition"])
    }


def grid():
    rows = []
    for norm, best in (("batchnorm", 0.3), ("layernorm", 0.1)):
        for lr in (0.03, 0.1, 0.3):
            for seed in (0, 1):
                accuracy = 0.6 if lr == best else 0.5 + 0.3 * seed  # one lucky seed of another rate has the highest
                rows += ended(
                    "fig3",
                    norm,
                    0.9 - accuracy,
                    validation=accuracy if lr == best else accuracy - 0.25,
                    lr=lr,
                    seed=seed,
                )
    return rows


def test_a_grid_without_final_stage_is_read_at_the_rate_with_the_best_mean_validation_accuracy():
    chosen = at_chosen_rate(frame(grid()), "fig3")
    assert rates(chosen) == {("batchnorm", ""): {0.3}, ("layernorm", ""): {0.1}}
    assert set(chosen["seed"]) == {0, 1}


def test_a_rate_that_diverged_for_one_seed_counts_as_accuracy_zero():
    rows = ended("fig3", "none", 0.5, validation=0.4, lr=0.01) + ended("fig3", "none", 0.5, validation=0.9, lr=0.1)
    rows += ended("fig3", "none", 0.5, validation=0.4, lr=0.01, seed=1)
    rows.append(row("fig3", "none", "outcome", "diverged", 1.0, lr=0.1, seed=1, step=3))
    assert rates(at_chosen_rate(frame(rows), "fig3")) == {("none", ""): {0.1}}
    rows[1] |= {"value": 0.5}
    rows = [
        found | {"value": 0.7} if found["lr"] == 0.1 and found["name"] == "validation_accuracy" else found
        for found in rows
    ]
    assert rates(at_chosen_rate(frame(rows), "fig3")) == {("none", ""): {0.01}}


def test_of_equal_rates_the_smallest_is_taken():
    rows = ended("fig3", "none", 0.5, lr=0.3) + ended("fig3", "none", 0.5, lr=0.1)
    assert rates(at_chosen_rate(frame(rows), "fig3")) == {("none", ""): {0.1}}


def test_a_final_stage_takes_the_place_of_the_search():
    final = [found | {"trial": f"final-{found['trial']}"} for found in ended("fig3", "batchnorm", 0.4, lr=0.03, seed=2)]
    chosen = at_chosen_rate(frame(grid() + final), "fig3")
    assert set(chosen["trial"]) == {final[0]["trial"]}


def test_text_may_choose_by_the_lowest_loss():
    rows = [
        row("table3", "none", "evaluation", name, value, lr=lr)
        for lr, loss in ((0.01, 3.0), (0.1, 4.0))
        for name, value in (("validation_loss", loss), ("validation_accuracy", loss / 10))
    ]
    assert rates(at_chosen_rate(frame(rows), "table3", by="validation_loss")) == {("none", ""): {0.01}}
    assert rates(at_chosen_rate(frame(rows), "table3")) == {("none", ""): {0.1}}


def test_conditions_are_groups_of_their_own_and_what_is_untrained_stays():
    rows = [
        *ended("app9", "none", 0.5, validation=0.9, lr=0.1, condition="k=1"),
        *ended("app9", "none", 0.5, validation=0.1, lr=0.3, condition="k=1"),
        *ended("app9", "none", 0.5, validation=0.1, lr=0.1, condition="k=2"),
        *ended("app9", "none", 0.5, validation=0.9, lr=0.3, condition="k=2"),
        row("app9", "none", "gradient_norm", "norm", 1.0, kind="init", condition="k=3"),
    ]
    chosen = at_chosen_rate(frame(rows), "app9")
    assert rates(pick(chosen, kind="train")) == {("none", "k=1"): {0.1}, ("none", "k=2"): {0.3}}
    assert len(pick(chosen, kind="init")) == 1


def test_rows_are_read_by_item_where_the_frame_has_items():
    rows = frame(ended("fig3", "none", 0.5) + ended("app9", "none", 0.7))
    assert set(at_chosen_rate(rows, "fig3")["item"]) == {"fig3"}
    assert len(at_chosen_rate(rows.drop(columns="item"), "fig3")) == 6


def test_final_values_are_the_last_and_zero_or_infinite_where_training_diverged():
    rows = ended("fig3", "none", 0.3, step=5) + ended("fig3", "none", 0.4, step=10)
    rows += [
        row("fig3", "none", "evaluation", "test_accuracy", 0.9, seed=1, step=1),
        row("fig3", "none", "evaluation", "test_loss", 0.9, seed=1, step=1),
        row("fig3", "none", "outcome", "diverged", 1.0, seed=1, step=2),
    ]
    accuracies, losses = (
        final_values(frame(rows), name).set_index("seed")["value"] for name in ("test_accuracy", "test_loss")
    )
    assert accuracies.to_dict() == {0: 0.4, 1: 0.0}
    assert losses.to_dict() == {1: math.inf}


def test_wide_tables_have_a_column_for_every_name_and_steps_are_taken_out_of_them():
    rows = frame(
        row("fig3", norm, "p", "n", value, seed=seed, step=step)
        for norm, value in (("a", 1.0), ("b", 2.0))
        for seed in (0, 1)
        for step in (0, 10)
        if (norm, seed, step) != ("a", 1, 10)
    )
    table = wide(rows, ["b", "a", "c"], along=["step"])
    assert list(table.columns) == ["b", "a", "c"]
    assert table["c"].isna().all()
    assert at(table, None)["b"].to_dict() == {0: 2.0, 1: 2.0}
    assert math.isnan(at(table, None)["a"][1])  # the last step is that of the table, not each seed's own
    assert effect("a - b", at(table, 0)["a"] - at(table, 0)["b"]).by_seed == {0: -1.0, 1: -1.0}


def test_last_is_each_trials_own():
    rows = frame(
        row("fig3", "a", "p", "n", 1.0, seed=seed, step=step)
        for seed, steps in ((0, (0, 5)), (1, (0, 9)))
        for step in steps
    )
    assert sorted(last(rows, "step")["step"]) == [5, 9]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_seed_without_a_finite_value_stays_in_the_effect(value):
    rows = frame([row("fig3", "a", "p", "n", value), row("fig3", "a", "p", "n", 1.0, seed=1)])
    found = effect("a", wide(rows, ["a"])["a"]).by_seed
    assert found.keys() == {0, 1}
    assert not math.isfinite(found[0])


def test_one_number_a_seed_follows_from_the_rows_of_each():
    rows = frame(row("fig3", "a", "p", "n", value, seed=seed) for seed, value in ((0, 1.0), (0, 3.0), (2, 5.0)))
    largest = by_seed(rows, lambda own: float(own["value"].max()))
    assert largest.to_dict() == {0: 3.0, 2: 5.0}
    assert effect("largest", largest).by_seed == {0: 3.0, 2: 5.0}
    assert effect("nothing", by_seed(rows.iloc[:0], len)).by_seed == {}


def test_a_logarithm_of_nothing_is_no_number_unless_it_is_said_what_it_is():
    values = pd.Series({0: math.e**2, 1: 0.0, 2: -1.0, 3: math.nan, 4: math.inf})
    plain, infinite = log(values), log(values.to_frame("value"), of_zero=-math.inf)["value"]
    assert plain[0] == pytest.approx(2.0)
    assert plain[4] == math.inf
    assert math.isnan(plain[1])
    assert infinite[1] == -math.inf
    assert all(math.isnan(found[seed]) for found in (plain, infinite) for seed in (2, 3))
    assert log(pd.Series({0: 1000.0}), base=10)[0] == pytest.approx(3.0)
