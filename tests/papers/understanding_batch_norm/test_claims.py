"""Every claim returns all four verdicts on rows whose effect is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from normscope.study import judge
from normscope_papers.understanding_batch_norm import PAPER
from papers.synthetic import frame

from .worlds import WORLDS

CLAIMS = {claim.name: claim for claim in PAPER.claims}
SPREAD = (-1.0, 0.0, 1.0)  # of three seeds, in hundredths of the distance between the two sides


def world(name: str, values: dict[int, float]) -> pd.DataFrame:
    """The rows of these seeds, each with its effect; and the same of another item, which nobody may read."""
    rows = [found | {"seed": seed} for seed, value in values.items() for found in WORLDS[name].rows(value)]
    rows = [found | {"trial": f"{found['trial']}-seed{found['seed']}"} for found in rows]
    elsewhere = [
        found | {"item": "elsewhere", "run": "elsewhere", "trial": "elsewhere", "value": 7.0} for found in rows
    ]
    return frame(rows + elsewhere)


def around(name: str, middle: float) -> dict[int, float]:
    step = (WORLDS[name].above - WORLDS[name].below) / 100
    return {seed: middle + step * offset for seed, offset in enumerate(SPREAD)}


def verdict(name: str, values: dict[int, float]) -> str:
    return judge(CLAIMS[name], world(name, values), scale="laptop", runs=["run"]).verdict


def test_every_claim_has_a_world():
    assert set(WORLDS) == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_all_verdicts(name):
    claim, made = CLAIMS[name], WORLDS[name]
    assert made.below < claim.threshold < made.above
    right, wrong = (made.above, made.below) if claim.holds == "above" else (made.below, made.above)
    values = around(name, right)
    rounded = 2e-3 if name in COUNTED else 1e-9
    assert dict(claim.effect(world(name, values)).by_seed) == pytest.approx(values, abs=rounded)
    assert verdict(name, values) == "reproduced"
    assert verdict(name, around(name, wrong)) == "contradicted"
    assert verdict(name, {0: made.below, 1: made.above, 2: made.above}) == "undecided"
    assert verdict(name, {}) == "not judged"


COUNTED = {"c05-few", "c08-none", "c08-batchnorm", "s04-smallest"}
"""Shares of things that are counted: the worlds have 400 of them."""


# Of one row of the table; in s06-noisy-batchnorm conditions of one row are compared.
ALONE = {"c02-diverges", "c07-none", "c07-batchnorm", "c09-batchnorm", "c09-none", "c09-depth", "s06-noisy-batchnorm"}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_comparison_is_not_judged_from_one_of_its_sides(name):
    rows = world(name, {0: WORLDS[name].above})
    own = rows[rows["item"] != "elsewhere"]
    norms = own["normalizer"].unique()
    for norm in norms if len(norms) > 1 and name not in ALONE else ():
        left = CLAIMS[name].effect(own[own["normalizer"] == norm]).by_seed
        assert all(math.isnan(value) for value in left.values()), norm


@pytest.mark.parametrize("claim", PAPER.claims, ids=lambda claim: claim.name)
def test_a_claim_says_where_it_comes_from(claim):
    assert claim.statement.endswith(".")
    assert claim.source
    assert claim.items


def test_both_sides_of_a_slip_are_claims_with_the_same_remark():
    slips = {name.removesuffix("-theory") for name in CLAIMS if name.endswith("-theory")}
    assert slips == {"c10-linear", "c10-zero", "s09-theorem"}
    for slip in slips:
        assert CLAIMS[f"{slip}-paper"].remark == CLAIMS[f"{slip}-theory"].remark != ""
    assert CLAIMS["s03-vgg"].remark == CLAIMS["s04-saturates"].remark != ""


def test_the_checklist_is_covered():
    numbers = {int(name[1:3]) for name in CLAIMS if name.startswith("c")}
    assert numbers == set(range(1, 14))


def test_an_infinite_relative_loss_is_divergence_and_none_is_the_end_of_the_grid():
    rows = world("c04-none", {0: 0.0, 1: 0.0})
    blown = rows.assign(value=rows["value"].where(rows["value"] < 1e3, math.inf))
    none = rows.assign(value=rows["value"].clip(upper=999.0))
    claim = CLAIMS["c04-none"]
    assert claim.effect(blown).by_seed == pytest.approx({0: 0.0, 1: 0.0}, abs=1e-9)
    assert claim.effect(none).by_seed[0] == pytest.approx(math.log10(1.2), abs=1e-9)
