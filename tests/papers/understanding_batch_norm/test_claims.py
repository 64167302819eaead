"""Every claim returns all four verdicts on rows whose effect is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from normscope.study import judge
from normscope_papers.understanding_batch_norm import PAPER
from papers.synthetic import frame

from .worlds import (
    DIVERGING,
    GUESSING,
    LEARNING,
    WORLDS,
    Rows,
    ablation,
    figure_1,
    first_step,
    last_layer,
    noise,
    step_of_channels,
    training,
)

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


COUNTED = {"c05-few", "c08-none", "c08-batchnorm", "c13-rates", "s04-smallest"}
"""Shares of things that are counted: the worlds have 400 of them."""


# Of one row of the table; in s06-noisy-batchnorm conditions of one row are compared.
ALONE = {"c07-none", "c07-batchnorm", "c09-batchnorm", "c09-none", "c09-depth", "s06-noisy-batchnorm"}


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


def effect(name: str, rows: Rows):
    """Of the claim, on rows of one seed: its value there."""
    found = CLAIMS[name].effect(frame(rows))
    return found.by_seed.get(0, math.nan)


@pytest.mark.parametrize("fits", [(95.0, 89.0), (40.0, 95.0)])
@pytest.mark.parametrize("name", ["c01-no-better", "c01-no-worse"])
def test_matched_rates_are_judged_at_the_end_of_training_alone_and_the_reason_is_said(name, fits):
    rows = frame(figure_1((30.0, 50.0), (30.0, 99.0), fits=fits))
    found = judge(CLAIMS[name], rows, scale="laptop", runs=["run"])
    assert found.verdict == "not judged"
    assert f"they have {fits[0]:.0f} % and {fits[1]:.0f} %" in found.what
    assert effect(name, figure_1((30.0, 50.0), (30.0, 99.0))) == 0.0


def test_without_three_rates_no_place_among_them_is_judged():
    assert math.isnan(effect("c02-diverges-highest", figure_1(lost=(0.0, 1.0))))
    assert effect("c02-diverges-highest", figure_1(lost=(0.0, 1.0, 0.0))) == 0.0
    assert effect("c02-diverges-middle", figure_1(lost=(0.0, 1.0, 0.0))) == 1.0


def at_depth(depth: int, **losses: tuple[float, ...]) -> Rows:
    """Trainings at rates 0.001, 0.01 and 0.1 that learn, guess or diverge."""
    rates = (0.001, 0.01, 0.1)
    return [
        found
        for lr, loss in zip(rates, losses.values(), strict=True)
        for found in training("depth", f"depth {depth}", lr, loss, diverged=float(loss == DIVERGING))
    ]


def test_a_network_that_gives_every_image_the_same_answer_bears_no_rate():
    """A dead deep network ends far below its first loss: 2.3 nats beside 886."""
    dead = at_depth(110, low=LEARNING, middle=GUESSING, high=DIVERGING)
    alive = at_depth(8, low=GUESSING, middle=LEARNING, high=GUESSING)
    assert effect("c12-usable", alive + dead) == pytest.approx(1.0)


@pytest.mark.parametrize("losses", [(GUESSING, GUESSING, DIVERGING), (LEARNING, LEARNING, LEARNING)])
def test_two_networks_at_the_same_end_of_the_grid_are_not_told_apart(losses):
    rows = [found for depth in (8, 110) for found in at_depth(depth, **dict(zip("abc", losses, strict=True)))]
    assert math.isnan(effect("c12-usable", rows))
    best = at_depth(8, low=GUESSING, middle=GUESSING, high=LEARNING)
    none = at_depth(110, low=GUESSING, middle=GUESSING, high=GUESSING)
    assert effect("c12-usable", best + none) == pytest.approx(2.0)  # at least
    tied = [found for d in (8, 110) for found in at_depth(d, low=GUESSING, middle=LEARNING, high=DIVERGING)]
    assert effect("c12-usable", tied) == 0.0  # inside the grid a tie is no difference
    steps = frame(first_step(none=1e-3, batchnorm=1e-3))
    unbroken = steps.assign(value=steps["value"].clip(upper=999.0))
    assert math.isnan(CLAIMS["c04-margin"].effect(unbroken).by_seed[0])


def test_initializations_are_not_judged_where_batch_norm_learns_at_no_rate_or_one_is_missing():
    assert math.isnan(effect("c13-rates", ablation(0.0, control=GUESSING)))
    whole = ablation(0.0)
    assert effect("c13-rates", whole) == 0.0
    left = [found for found in whole if not (found["condition"] == "rule 7" and found["lr"] == 0.03)]
    assert math.isnan(effect("c13-rates", left))


def test_noise_is_compared_at_one_step_that_both_networks_came_to():
    both = noise() + [found | {"normalizer": "batchnorm", "trial": "batchnorm"} for found in noise()]
    assert effect("c03-exact", both) == pytest.approx(0.0)
    every = [found | {"depth": 64, "value": 1e-9 if found["name"] == "sampled" else 0.0} for found in noise()]
    for name in ("c03-batch", "c03-rate", "c03-exact"):  # a batch of all examples, with rounding instead of noise
        assert effect(name, noise() + every) == pytest.approx(0.0, abs=1e-9)
    early = [found for found in both if found["normalizer"] == "none" or found["step"] == 0]
    assert all(math.isnan(effect(name, early)) for name in ("c03-batch", "c03-rate", "c03-exact"))


def test_a_step_that_does_not_diverge_is_not_judged():
    means = {("blocks.3", at): (1.0,) for at in (0.0, 1.0)} | {("blocks.39", 0.0): (1.0,), ("blocks.39", 1.0): (1e9,)}
    names = ("c05-upper", "c05-grows", "c05-late", "c05-few")
    assert effect("c05-upper", step_of_channels(means)) == pytest.approx(9.0)
    assert all(math.isnan(effect(name, step_of_channels(means, ratio=999.0))) for name in names)


def test_stages_that_are_no_thirds_have_no_boundaries():
    uneven = [found for found in WORLDS["c06-reset"].rows(0.9) if found["layer"] != "blocks.5"]
    assert math.isnan(effect("c06-reset", uneven))


def test_there_is_no_share_of_a_gain_that_is_none():
    assert effect("c11-share", last_layer(80.0, 70.0, 50.0)) == pytest.approx(0.0)
    assert math.isnan(effect("c11-share", last_layer(20.0, 30.0, 50.0)))
