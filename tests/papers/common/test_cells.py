"""Cells of tables: what they say of one seed, of several, and of none."""

from __future__ import annotations

import math

import pytest

from normscope.study import Effect
from normscope_papers.common.cells import written


def of(*values: float) -> Effect:
    return Effect(what="", unit="1", by_seed=dict(enumerate(values)))


@pytest.mark.parametrize("found", [None, of(), of(math.nan)])
def test_what_is_missing_is_said(found):
    assert written(found) == "not measured"


def test_several_seeds_have_an_interval_and_one_has_none():
    assert written(of(1.0, 1.0)) == "1.00 [1.00, 1.00]"
    assert written(of(1.0, math.nan)) == written(of(1.0)) == "1.00"


def test_an_infinite_number_leaves_neither_mean_nor_interval_and_may_have_a_word_of_its_own():
    assert written(of(math.inf, 2.0)) == "infinite for 1 of 2 seeds"
    assert written(of(-math.inf, math.inf), infinite="diverged") == "diverged for 2 of 2 seeds"
