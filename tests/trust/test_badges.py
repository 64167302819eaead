"""A right row earns every badge; a row with one mistake loses the badge that is about it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist

import normscope as ns
from normscope import trust
from normscope.trust import Outcome
from normscope.trust.bench import Pair
from normscope.trust.outcome import Finding, judged
from normscope.trust.references import Known
from normscope.trust.values import distance
from trust import broken
from trust.broken import Row

QUICK = [badge.name for badge in trust.BADGES if not badge.slow]


def outcome(row: object, badge: str, **options: object) -> Outcome:
    (result,) = trust.check([row], trust.select([badge]), **options)
    return result.outcome


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.mark.parametrize("badge", QUICK)
def test_a_right_row_has_every_badge(badge):
    found = outcome(Row(broken.Right), badge)
    assert found.state == ("does not apply" if badge == "train=eval" else "passed"), found


@pytest.mark.parametrize(
    ("kind", "badge"),
    [
        (broken.WrongVariance, "reference"),
        (broken.StaleStatistics, "reference"),
        (broken.DetachedMean, "gradcheck"),
        (broken.DetachedMean, "hessian"),
        (broken.WrongSecondDerivative, "gradgradcheck"),
        (broken.WrongSecondDerivative, "hessian"),
        (broken.NarrowStatistics, "fp16/bf16"),
        (broken.SquareOfTheMean, "fp16/bf16"),
        (broken.LostFormat, "channels_last"),
        (broken.MissingBuffer, "state_dict"),
        (broken.GraphBreak, "compile"),
        *((broken.Raises, badge) for badge in QUICK if badge != "train=eval"),
    ],
)
def test_a_mistake_fails_the_badge_about_it(kind, badge):
    found = outcome(Row(kind), badge)
    assert found.state == "failed"
    assert "\n" not in found.reason
    if found.measured is not None:
        assert not found.measured <= found.bound
    else:
        assert found.reason


@pytest.mark.parametrize(
    ("kind", "badge"),
    [
        (broken.DetachedMean, "reference"),
        (broken.WrongSecondDerivative, "gradcheck"),
        (broken.WrongVariance, "gradcheck"),
        (broken.LostFormat, "reference"),
        (broken.MissingBuffer, "reference"),
        (broken.NarrowStatistics, "reference"),
    ],
)
def test_a_mistake_leaves_other_badges(kind, badge):
    assert outcome(Row(kind), badge).state == "passed"


def test_evaluation_that_is_not_the_training_is_found():
    row = Row(broken.Right, evaluation="batch")
    assert outcome(row, "train=eval").state == "failed"
    assert outcome(dataclasses.replace(row, evaluation="running"), "train=eval").state == "does not apply"
    assert outcome(ns.normalizer("batchnorm_train"), "train=eval").state == "passed"


def test_a_graph_break_is_named():
    assert "graph break" in outcome(Row(broken.GraphBreak), "compile").reason


def test_what_the_machine_lacks_is_not_a_failure(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("CXX", "no-such-compiler")
        found = outcome(Row(broken.Right), "compile")
    assert (found.state, found.reason) == ("not run here", "no C++ compiler: no-such-compiler is not on the path")
    monkeypatch.setattr(dist, "is_gloo_available", lambda: False)
    assert outcome(Row(broken.Right), "ddp").state == "not run here"
    assert outcome(Row(broken.Right, name="mine"), "reference").state == "not run here"
    assert outcome(ns.normalizer("layernorm", over="channels"), "reference").state == "not run here"
    assert outcome(ns.normalizer("lpnorm", p="inf"), "reference").state == "passed"


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="this torch has no gloo")
@pytest.mark.parametrize(
    ("row", "state", "where"),
    [
        (Row(broken.Synchronized), "passed", ""),
        (Row(broken.MeanOfMeans), "failed", ""),
        (Row(broken.SumsCut), "failed", "gradient"),
        (Row(broken.Right), "does not apply", "no synchronization yet"),
        (ns.normalizer("layernorm"), "passed", ""),
    ],
    ids=["synchronized", "mean of means", "gradient cut", "each its own", "layernorm"],
)
def test_two_processes_beside_one(row, state, where, pair):
    found = outcome(row, "ddp", pair=pair)
    assert found.state == state, found
    assert where in found.reason


def test_a_row_that_cannot_travel_is_not_run():
    class Local(broken.Right):
        pass

    found = outcome(Row(Local), "ddp")
    assert found.state == "not run here"
    assert "cannot be sent" in found.reason


def test_a_layout_that_a_row_refuses_is_left_out():
    assert outcome(Row(broken.RefusesTokens), "reference").state == "passed"


def test_a_surrogate_is_judged_by_its_definition():
    """A backward that is not the derivative is no mistake where the row declares it."""

    @dataclasses.dataclass(frozen=True)
    class Surrogate(Row):
        surrogate_backward: bool = True

    for badge in ("gradcheck", "gradgradcheck", "hessian"):
        found = outcome(Surrogate(broken.DetachedMean), badge)
        assert found.state == "does not apply"
        assert "surrogate by definition" in found.reason
    assert outcome(Surrogate(broken.DetachedMean), "reference").state == "passed"


def test_a_reference_may_be_injected():
    references = {"mine": Known((lambda given: given.affine(given.x),))}
    row = Row(broken.Right, name="mine")
    assert outcome(row, "reference", references=references).state == "failed"
    right = dataclasses.replace(ns.normalizer("none"), name="mine")
    assert outcome(right, "reference", references=references).state == "passed"


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0])
def test_a_number_that_is_not_within_the_bound_fails(value):
    found = judged([Finding(0.5, "here"), Finding(value, "there"), Finding(0.7, "here")], 1.0)
    assert found.state == "failed"
    assert "there" in found.reason


def test_distance_is_never_small_where_something_is_not_finite():
    one = torch.ones(3)
    assert distance(one, one) == 0.0
    assert not distance(torch.tensor([1.0, math.nan, 1.0]), one) <= 1.0
    assert not distance(one, torch.tensor([1.0, math.nan, 1.0])) <= 1.0
    assert not distance(torch.tensor([1.0, math.inf, 1.0]), one) <= 1.0


def test_checking_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    outcome(ns.normalizer("weightnorm"), "reference")
    outcome(ns.normalizer("weightnorm"), "hessian")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.long
@pytest.mark.parametrize("badge", [*QUICK, "ddp"])
def test_no_row_of_the_table_fails(badge, pair):
    results = trust.check(ns.normalizers(), trust.select([badge]), pair=pair)
    assert not [str(result) for result in results if result.outcome.state == "failed"]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "state"), [(broken.Right, "passed"), (broken.OtherWhenCompiled, "failed")])
def test_compiled_code_is_compared(kind, state):
    assert outcome(Row(kind), "compile").state == state
