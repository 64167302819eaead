"""What an interval over seeds says of a claim."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from normscope.report.intervals import t_interval
from normscope.study.claims import Claim, Effect, judge, paired, value


def claim(values: dict[int, float], *, holds: str = "above", threshold: float = 0.5, unit: str = "1") -> Claim:
    return Claim(
        name="a", statement="It grows", source="section 1", items=("fig1",), threshold=threshold, holds=holds,
        effect=lambda _frame: Effect("growth per layer", unit, values), remark="Theory disagrees.",
    )  # fmt: skip


def verdict(values: dict[int, float], **changes: object):
    return judge(claim(values, **changes), pd.DataFrame(), scale="smoke", runs=["some-run"])


ABOVE, BELOW, BOTH = {0: 0.8, 1: 0.81, 2: 0.82}, {0: 0.1, 1: 0.11, 2: 0.12}, {0: 0.1, 1: 0.9, 2: 0.5}


@pytest.mark.parametrize(
    ("values", "holds", "expected"),
    [
        (ABOVE, "above", "reproduced"),
        (BELOW, "above", "contradicted"),
        (BOTH, "above", "undecided"),
        (ABOVE, "below", "contradicted"),
        (BELOW, "below", "reproduced"),
        (BOTH, "below", "undecided"),
        ({}, "above", "not judged"),
        ({0: math.nan, 1: math.nan}, "above", "not judged"),
        ({0: 0.9}, "above", "undecided"),
        ({0: 0.9, 1: math.nan}, "above", "undecided"),
        ({0: math.inf, 1: math.inf, 2: math.inf}, "above", "undecided"),
        ({0: 0.5, 1: 0.5}, "above", "undecided"),  # on the threshold: on neither side of it
        ({0: 0.7, 1: 0.7}, "above", "reproduced"),  # seeds that agree exactly
    ],
)
def test_a_verdict_follows_from_where_the_whole_interval_lies(values, holds, expected):
    assert verdict(values, holds=holds).verdict == expected


def test_a_verdict_carries_what_it_rests_on():
    found = verdict(ABOVE, unit="nats")
    assert (found.claim, found.statement, found.source, found.scale) == ("a", "It grows", "section 1", "smoke")
    assert (found.what, found.threshold) == ("growth per layer (nats)", "above 0.5 nats")
    assert (found.seeds, found.remark, found.runs) == (3, "Theory disagrees.", ("some-run",))
    mean, low, high = t_interval(np.array(list(ABOVE.values())))
    assert (found.mean, found.low, found.high) == pytest.approx((mean, low, high), rel=1e-12)


def test_the_interval_is_scipys():
    values = [0.3, 0.9, 1.7, 0.2]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = Effect("", "1", dict(enumerate(values))).interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_one_seed_is_told_but_not_judged_by():
    found = verdict({4: 0.9})
    assert (found.mean, found.seeds) == (0.9, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_seeds_without_a_number_are_left_out_and_counted():
    found = verdict({**ABOVE, 3: math.nan})
    assert (found.verdict, found.seeds, found.mean) == ("reproduced", 3, pytest.approx(0.81))
    assert found.what == "growth per layer; 1 of 4 seeds left out, not a number"


def test_infinite_seeds_are_counted_and_leave_no_interval():
    found = verdict({**ABOVE, 3: math.inf, 4: math.nan})
    assert (found.verdict, found.seeds) == ("undecided", 4)
    assert math.isnan(found.mean)
    assert found.what.endswith("1 of 5 seeds left out, not a number; infinite for 1 of 5 seeds")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_covers_the_truth_as_often_as_it_says(seeds):
    """1,500 draws: a share of 0.95 has a standard error of 0.0056; 0.02 is 3.5 of these."""
    draws = np.random.default_rng(seeds).normal(0.3, 2.0, size=(1500, seeds))
    found = [Effect("", "1", dict(enumerate(draw))).interval() for draw in draws]
    assert np.mean([one.low <= 0.3 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def row(normalizer: str, seed: int, value: float, *, depth: int = 1, step: int = 0, probe: str = "p", lr: float = 0.1):
    trial = f"{normalizer}-{lr}-{seed}"
    return {
        "trial": trial, "normalizer": normalizer, "seed": seed, "lr": lr, "step": step, "probe": probe, "layer": "",
        "depth": depth, "name": "n", "value": value, "stderr": math.nan,
    }  # fmt: skip


ROWS = pd.DataFrame(
    [
        *(row("a", seed, 10 * seed + depth, depth=depth) for seed in (0, 1, 2) for depth in (1, 2, 3)),
        *(row("b", seed, 10 * seed, depth=depth) for seed in (1, 2, 5) for depth in (1, 2)),
    ]
)


def test_value_picks_one_number_per_seed():
    assert value(ROWS, normalizer="a", depth=2) == {0: 2.0, 1: 12.0, 2: 22.0}
    assert value(ROWS, normalizer="a", depth="last", probe="p", name="n", step=0) == {0: 3.0, 1: 13.0, 2: 23.0}
    assert value(ROWS, normalizer="a", depth="first") == {0: 1.0, 1: 11.0, 2: 21.0}
    assert value(ROWS, normalizer="c") == {}


def test_the_last_step_is_each_trials_own_among_the_rows_meant():
    rows = pd.DataFrame(
        [
            row("a", 0, 1.0, step=5),
            row("a", 0, 2.0, step=7),
            row("a", 1, 3.0, step=9),
            row("a", 0, 9.0, step=8, probe="q"),
        ]
    )
    assert value(rows, probe="p", step="last") == {0: 2.0, 1: 3.0}


def test_value_refuses_what_is_not_one_number_per_seed():
    with pytest.raises(ValueError, match="a seed has several rows, which differ in depth; say which is meant"):
        value(ROWS, normalizer="a")
    with pytest.raises(ValueError, match=r"rows have the columns .*, got norm"):
        value(ROWS, norm="a")


def test_paired_subtracts_seed_by_seed_where_both_have_one():
    assert paired(ROWS, {"normalizer": "a"}, {"normalizer": "b"}, depth=2) == {1: 2.0, 2: 2.0}
    ratios = paired(ROWS, {"normalizer": "a"}, {"normalizer": "b"}, depth="last", combine=lambda x, y: x / y)
    assert ratios == {1: 1.3, 2: 1.15}
    assert paired(ROWS, {"normalizer": "a", "depth": 3}, {"normalizer": "b", "depth": 1}) == {1: 3.0, 2: 3.0}


def test_pairing_takes_out_what_seeds_share():
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 10, size=4)
    rows = pd.DataFrame(
        [
            row(name, s, shared[s] + shift + 0.1 * generator.normal())
            for name, shift in (("a", 1), ("b", 0))
            for s in range(4)
        ]
    )
    found = Effect("", "1", paired(rows, {"normalizer": "a"}, {"normalizer": "b"})).interval()
    assert 0 < found.low < 1 < found.high < 2
