from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normscope.train import log_spaced


def test_a_hundred_steps_are_seen_ten_times():
    assert log_spaced(100) == (0, 1, 2, 3, 6, 10, 18, 32, 56, 100)


def test_the_last_step_is_seen_where_it_lies_off_the_grid():
    assert log_spaced(40) == (0, 1, 2, 3, 6, 10, 18, 32, 40)


def test_short_runs():
    assert log_spaced(0) == (0,)
    assert log_spaced(1) == (0, 1)
    assert log_spaced(2) == (0, 1, 2)


@given(st.integers(0, 10**7), st.integers(1, 20))
def test_steps_ascend_from_zero_to_the_last_without_repeats(last, per_decade):
    steps = log_spaced(last, per_decade)
    assert (steps[0], steps[-1]) == (0, last)
    assert all(a < b for a, b in itertools.pairwise(steps))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="last must be zero or more, got -1"):
        log_spaced(-1)
    with pytest.raises(ValueError, match="per_decade must be at least 1, got 0"):
        log_spaced(5, 0)
