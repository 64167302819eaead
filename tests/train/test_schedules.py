from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from normscope.train import schedule


def torchs(make, steps: int) -> list[float]:
    """The factors that one of torch's own schedulers gives for so many steps."""
    optimizer = torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=1.0)
    scheduler, factors = make(optimizer), []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def ours(name: str, steps: int, **options) -> list[float]:
    return [schedule(name, **options)(step) for step in range(1, steps + 1)]


def test_a_constant_schedule_changes_nothing():
    assert ours("constant", 3) == [1.0, 1.0, 1.0]


def test_piecewise_is_torchs_multistep():
    def make(optimizer):
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 8], gamma=0.2)

    factors = ours("piecewise", 10, boundaries=(3, 5, 8), factors=(1.0, 0.2, 0.04, 0.008))
    assert factors == pytest.approx(torchs(make, 10))


def test_cosine_is_torchs_cosine():
    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

    assert ours("cosine", 10, total=10) == pytest.approx(torchs(make, 10))


def test_the_cosine_begins_at_the_full_rate_after_the_warmup_and_stays_at_zero_after_its_end():
    factors = ours("cosine", 14, total=12, warmup=4)
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[4:12] == pytest.approx(ours("cosine", 8, total=8))
    assert factors[12:] == [0.0, 0.0]
    assert factors[11] > 0.0


@pytest.mark.parametrize(("step", "factor"), [(1, 8000**-1.5), (8000, 8000**-0.5), (32000, 32000**-0.5)])
def test_rsqrt_has_the_values_of_flax(step, factor):
    assert schedule("rsqrt", warmup=8000)(step) == pytest.approx(factor, rel=1e-14)


def test_rsqrt_rises_to_the_warmup_and_falls_after_it():
    factors = ours("rsqrt", 30, warmup=10)
    assert factors.index(max(factors)) == 9
    assert factors[:10] == pytest.approx([step / 10 / math.sqrt(10) for step in range(1, 11)])


@given(st.sampled_from(["piecewise", "cosine", "rsqrt"]), st.integers(1, 400), st.integers(1, 100))
def test_factors_lie_between_zero_and_one(name, step, size):
    options = {
        "piecewise": {"boundaries": (size,), "factors": (1.0, 0.1)},
        "cosine": {"total": size, "warmup": size // 2},
        "rsqrt": {"warmup": size},
    }
    assert 0.0 <= schedule(name, **options[name])(step) <= 1.0


def test_lists_do_as_well_as_tuples():
    assert schedule("piecewise", boundaries=[2], factors=[1, 0.5])(3) == 0.5


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("cosin", {}, "schedule must be one of constant, piecewise, cosine, rsqrt, got 'cosin'. Did you mean cosine"),
        ("cosine", {}, "schedule cosine needs total. It takes total, warmup"),
        ("piecewise", {}, "schedule piecewise needs boundaries and factors"),
        ("rsqrt", {"warm_up": 3}, "schedule rsqrt has no option 'warm_up'. Did you mean warmup"),
        ("constant", {"total": 3}, "schedule constant has no option 'total'. cosine has it. It takes none."),
        ("cosine", {"total": 0}, "total must be at least 1 step, got 0"),
        ("cosine", {"total": 5, "warmup": 5}, "warmup must lie between 0 and total - 1 = 4 steps, got 5"),
        ("cosine", {"total": 5.0}, "option total of schedule cosine must be an integer, got 5.0"),
        ("rsqrt", {"warmup": 0}, "warmup must be at least 1 step, got 0"),
        ("piecewise", {"boundaries": (3, 3), "factors": (1, 1, 1)}, r"ascending steps from 1 on, got \(3, 3\)"),
        ("piecewise", {"boundaries": (0,), "factors": (1, 1)}, "ascending steps from 1 on"),
        ("piecewise", {"boundaries": (3,), "factors": (1,)}, "one more than the 1 boundaries, got 1"),
        ("piecewise", {"boundaries": (3,), "factors": (1, -1)}, "factors must be zero or positive"),
        ("piecewise", {"boundaries": 3, "factors": (1, 1)}, "boundaries .* must be a sequence of integers, got 3"),
        ("piecewise", {"boundaries": (3,), "factors": (1, "2")}, "must be a sequence of numbers"),
    ],
)
def test_unknown_schedules_and_bad_options_are_refused(name, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        schedule(name, **options)
    assert "\n" not in str(caught.value)
