"""Every claim returns all four verdicts on rows whose effect is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from normscope.study import judge
from normscope_papers.is_batch_norm_unique import PAPER
from normscope_papers.is_batch_norm_unique.claims.minimized import best_rate

from .synthetic import frame
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
    assert dict(claim.effect(world(name, values)).by_seed) == pytest.approx(values, abs=1e-9)
    assert verdict(name, values) == "reproduced"
    assert verdict(name, around(name, wrong)) == "contradicted"
    assert verdict(name, {0: made.below, 1: made.above, 2: made.above}) == "undecided"
    assert verdict(name, {}) == "not judged"


@pytest.mark.parametrize("name", CLAIMS)
def test_a_comparison_is_not_judged_from_one_of_its_sides(name):
    rows = world(name, {0: WORLDS[name].above})
    own = rows[rows["item"] != "elsewhere"]
    norms = own["normalizer"].unique()
    for norm in norms if len(norms) > 1 else ():
        left = CLAIMS[name].effect(own[own["normalizer"] == norm]).by_seed
        assert all(math.isnan(value) for value in left.values()), norm


@pytest.mark.parametrize("claim", PAPER.claims, ids=lambda claim: claim.name)
def test_a_claim_says_where_it_comes_from(claim):
    assert claim.statement.endswith(".")
    assert claim.source
    assert claim.items


def test_where_theory_or_another_paper_disagrees_both_sides_are_claims():
    sides = {name.removesuffix("-theory") for name in CLAIMS if name.endswith("-theory")}
    for side in sides:
        assert CLAIMS[f"{side}-paper"].remark == CLAIMS[f"{side}-theory"].remark != ""
    assert sides == {"c17-wrn", "c17-mlp", "c17-regnorm", "c18-layernorm", "c18-regnorm"}
    assert CLAIMS["c09-batchnorm"].remark == CLAIMS["c09-other-meaning"].remark != ""


def test_a_rate_that_a_seed_did_not_survive_is_not_the_best():
    rows = pd.concat([world("c06-best-rate", {0: 0.1}), world("c06-best-rate", {1: 0.1})])
    assert best_rate(rows) == 1e-3
    lost = (rows["lr"] == 1e-3) & (rows["seed"] == 1) & (rows["step"] == 100)
    assert best_rate(rows[~lost]) == 3e-3
    assert best_rate(rows[rows["kind"] == "init"]) is None


def test_accuracy_by_step_1000_is_not_judged_before_step_1000():
    rows = world("c07-accuracy", around("c07-accuracy", 0.7))
    early = rows.assign(step=rows["step"].clip(upper=999))
    assert CLAIMS["c07-accuracy"].effect(early).by_seed == {}
