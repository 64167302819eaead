"""Every claim returns all four verdicts on rows whose effect is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from tests.papers.synthetic import frame

from normscope.study import judge
from normscope_papers.depth_limits import PAPER

from .worlds import WORLDS, final, gaps, turning, weights

CLAIMS = {claim.name: claim for claim in PAPER.claims}
SPREAD = (-0.01, 0.0, 0.01)  # of three seeds, relative


def world(name: str, values: dict[int, float]) -> pd.DataFrame:
    """The rows of these seeds, each with its effect; and the same of another item, which nobody may read."""
    rows = [found | {"seed": seed} for seed, value in values.items() for found in WORLDS[name].rows(value)]
    rows = [found | {"trial": f"{found['trial']}-seed{found['seed']}"} for found in rows]
    elsewhere = [found | {"item": "elsewhere", "run": "elsewhere", "value": 7.0} for found in rows]
    return frame(rows + elsewhere)


def around(middle: float) -> dict[int, float]:
    return {seed: middle * (1 + offset) for seed, offset in enumerate(SPREAD)}


def verdict(name: str, values: dict[int, float]) -> str:
    return judge(CLAIMS[name], world(name, values), scale="laptop", runs=["run"]).verdict


def test_every_claim_has_a_world():
    assert set(WORLDS) == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_all_verdicts(name):
    claim, made = CLAIMS[name], WORLDS[name]
    assert made.below < claim.threshold < made.above
    right, wrong = (made.above, made.below) if claim.holds == "above" else (made.below, made.above)
    values = around(right)
    if made.exact:
        found = claim.effect(world(name, values)).by_seed
        assert dict(found) == pytest.approx(values, rel=1e-3, abs=1e-14)  # the fitted line of a fine curve has rounding
    assert verdict(name, values) == "reproduced"
    assert verdict(name, around(wrong)) == "contradicted"
    assert verdict(name, {0: made.below, 1: made.above, 2: made.above}) == "undecided"
    assert verdict(name, {}) == "not judged"


@pytest.mark.parametrize("name", CLAIMS)
def test_one_condition_alone_raises_nothing(name):
    """A run of which one trial has ended is judged nowhere, but a report of it is written."""
    rows = world(name, {0: WORLDS[name].above})
    for condition in rows["condition"].unique()[[0, -1]]:
        found = CLAIMS[name].effect(rows[rows["condition"] == condition]).by_seed
        assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("c10-activations", "activation=identity"),
        ("c10-activations", "activation=tanh"),
        ("c08-flat", "activation=tanh"),
        ("c08-exponent-0.1", "activation=sin"),
        ("c08-0.4-beside-0.2", "exponent=0.2"),
        ("e2-falls", "exponent=0.8"),
        ("e2-level", "activation=tanh"),
        ("c10-depth", "activation=sin"),
        ("c09-mean", "batchnorm"),
        ("g5-plateau", "activation=sin"),
    ],
)
def test_a_comparison_has_no_number_without_one_of_its_sides(name, without):
    rows = world(name, {0: WORLDS[name].above})
    left = rows[~(rows["condition"].str.contains(without) | (rows["normalizer"] == without))]
    found = CLAIMS[name].effect(left).by_seed
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize("claim", PAPER.claims, ids=lambda claim: claim.name)
def test_a_claim_says_where_it_comes_from(claim):
    assert claim.statement.endswith(".")
    assert claim.source
    assert claim.items


def test_the_checklist_and_the_slips_are_claims():
    numbers = {name.partition("-")[0] for name in CLAIMS}
    assert {f"c{number:02}" for number in range(1, 13)} <= numbers
    assert {"s1", "s2", "s3", "s4", "s5", "n1", "n2"} <= numbers


@pytest.mark.parametrize("prefix", ["s1", "s2-g5", "s3-eq165"])
def test_both_sides_of_a_slip_carry_the_same_remark(prefix):
    remarks = {claim.remark for name, claim in CLAIMS.items() if name.startswith(prefix)}
    assert len(remarks) == 1
    assert remarks != {""}


def test_networks_less_deep_than_the_collapse_do_not_judge_it():
    rows = world("s4-g4-test", around(0.5))
    assert CLAIMS["s4-g4-test"].effect(rows[~rows["condition"].str.contains("500")]).by_seed == {}
    early = rows.assign(step=rows["step"].clip(upper=44_999))
    assert CLAIMS["s4-g4-test"].effect(early).by_seed == {}


@pytest.mark.parametrize(
    ("name", "zero"),
    [("c03-bound", "gap"), ("s1-line-wide", "gap"), ("c11-antisymmetric", "symmetric")],
)
def test_what_is_0_lies_below_every_bound_and_is_not_missing(name, zero):
    rows = world(name, {0: WORLDS[name].below})
    last = (rows["name"] == zero) & (rows["depth"] > 1)
    (found,) = CLAIMS[name].effect(rows.assign(value=rows["value"].mask(last, 0.0))).by_seed.values()
    assert found == -math.inf


def test_a_gap_of_0_lies_as_far_below_its_expected_bound_as_can_be():
    rows = world("c03-corollary-4", {0: 0.5})
    gone = rows.assign(value=rows["value"].mask((rows["name"] == "gap") & (rows["depth"] > 1), 0.0))
    assert CLAIMS["c03-corollary-4"].effect(gone).by_seed == {0: -1.0}


def test_the_bound_on_an_expectation_is_held_against_a_mean_and_not_against_a_mean_of_logarithms():
    rows = frame(
        gaps(50, (1e-3, 5e-4, 1.7 * 4e-4, 0.4 * 3e-4)) + gaps(50, (4e-4, 3e-4), name="expected", first=3)
    )  # ratios 1.7 and 0.4: their logarithms are below 0 on average
    assert CLAIMS["c03-corollary-4"].effect(rows).by_seed[0] == pytest.approx(0.05)


def test_the_paper_s_line_is_compared_where_it_lies_above_rounding():
    first, constant = 1e-4, 0.015 * 10**2 * (1 + 10 * 1e-4)
    drawn = [first * math.exp(-layer / constant) for layer in range(60)]
    last = max(layer for layer, value in enumerate(drawn) if value > 1e-13)
    made = [value * math.exp(0.5 if layer == last else 9.0) for layer, value in enumerate(drawn)]
    rows = frame(gaps(10, [first, *made[1:]]))
    assert drawn[-1] < 1e-17
    assert CLAIMS["s1-line-narrow"].effect(rows).by_seed[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "made"), [("c11-u-shape-f1", weights), ("c11-mechanism-f1", turning)])
def test_networks_that_are_not_deep_against_their_width_have_no_middle(name, made):
    deep, square = (frame(made("f1", 20, -4.0, -1.0, width=width)) for width in (4, 5))
    assert CLAIMS[name].effect(deep).by_seed[0] == pytest.approx(3.0)
    assert math.isnan(CLAIMS[name].effect(square).by_seed[0])
    assert judge(CLAIMS[name], square, scale="laptop", runs=["run"]).verdict == "not judged"


def test_depths_are_compared_at_the_last_step_that_both_have_and_by_seeds_that_have_all():
    rows = final("fig4", {("sin", 30): 0.5, ("sin", 100): 0.5, ("tanh", 30): 0.9, ("tanh", 100): 0.9}, at=20)
    rows += final("fig4", {("tanh", 30): 0.3})[1:]
    short = final("fig4", {("tanh", 500): 0.1})
    every = frame([found | {"seed": seed} for seed in (0, 1) for found in rows] + short)
    found = CLAIMS["c10-depth"].effect(every).by_seed
    assert found[0] == pytest.approx(0.2)
    assert math.isnan(found[1])


def test_a_slope_of_few_copies_is_held_against_no_law():
    rows = world("n2-law", {0: 0.05})
    few = rows[rows["condition"].str.startswith("repeated=1 ")]
    assert all(math.isnan(value) for value in CLAIMS["n2-law"].effect(few).by_seed.values())
