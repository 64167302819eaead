from __future__ import annotations

import math

import torch

from normscope.linalg.estimate import estimate


def test_mean_and_standard_error_are_those_of_the_formula():
    result = estimate(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64))

    assert result.value == 3
    assert math.isclose(result.stderr, math.sqrt((4 + 1 + 9) / (3 * 2)))
    assert result.samples.tolist() == [1, 2, 6]


def test_one_sample_has_no_standard_error():
    assert math.isnan(estimate(torch.ones(1)).stderr)
