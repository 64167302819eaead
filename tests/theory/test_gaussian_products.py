from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from normscope import linalg, theory

FACTORS = (1, 2, 3, 5)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def integral(function, factors: int) -> float:
    """Over [0, edge] by Gauss-Legendre in t, y = edge t^(M+1), which takes the spike at 0 away."""
    edge = theory.largest_singular_value(factors) ** 2
    nodes, weights = np.polynomial.legendre.leggauss(600)
    t = torch.tensor((nodes + 1) / 2)
    y = edge * t ** (factors + 1)
    slope = edge * (factors + 1) * t**factors
    return float((torch.tensor(weights / 2) * slope * function(y)).sum())


def test_one_factor_is_marchenko_pastur_and_the_quarter_circle():
    y, s = column(1e-6, 0.1, 1.0, 2.5, 3.999), column(0.0, 1e-200, 0.3, 1.0, 1.9, 2.0)
    torch.testing.assert_close(theory.fuss_catalan_density(y, 1), ((4 - y) / y).sqrt() / (2 * math.pi))
    torch.testing.assert_close(theory.singular_value_density(s, 1), (4 - s.square()).sqrt() / math.pi)
    phi = (s / 2).acos()
    torch.testing.assert_close(theory.fuss_catalan_cdf(s.square(), 1), 1 - (2 * phi - (2 * phi).sin()) / math.pi)


def test_two_factors_are_the_closed_form_of_penson_and_zyczkowski():
    """arXiv:1103.3453, without an angle."""
    y = column(1e-9, 1e-3, 0.2, 1.0, 4.0, 6.7)
    inner = 27 + 3 * (81 - 12 * y).sqrt()
    numerator = 2 ** (1 / 3) * inner ** (2 / 3) - 6 * y ** (1 / 3)
    expected = 2 ** (1 / 3) * math.sqrt(3) / (12 * math.pi) * numerator / (y ** (2 / 3) * inner ** (1 / 3))
    torch.testing.assert_close(theory.fuss_catalan_density(y, 2), expected)


@pytest.mark.parametrize("factors", FACTORS)
def test_the_density_has_the_moments(factors):
    for order in range(4):
        measured = integral(lambda y, order=order: theory.fuss_catalan_density(y, factors) * y**order, factors)
        assert measured == pytest.approx(theory.fuss_catalan_moment(order, factors), rel=1e-7)


def test_moments_are_the_known_numbers():
    assert [theory.fuss_catalan_moment(k, 1) for k in range(6)] == [1, 1, 2, 5, 14, 42]  # Catalan's
    for factors in FACTORS:
        assert theory.fuss_catalan_moment(1, factors) == 1
        assert theory.fuss_catalan_moment(2, factors) == factors + 1


def test_edges_are_those_of_the_figure():
    assert [round(theory.largest_singular_value(factors), 3) for factors in (1, 3, 5)] == [2.0, 3.079, 3.864]
    assert theory.largest_singular_value(100) ** 2 == pytest.approx(math.e * 100, rel=0.02)


@pytest.mark.parametrize("factors", FACTORS)
def test_the_distribution_function_is_the_integral_of_the_density(factors):
    edge = theory.largest_singular_value(factors) ** 2
    y = edge * column(1e-8, 1e-3, 0.1, 0.5, 0.9, 0.999)
    step = 1e-5 * y
    slope = (theory.fuss_catalan_cdf(y + step, factors) - theory.fuss_catalan_cdf(y - step, factors)) / (2 * step)
    torch.testing.assert_close(slope, theory.fuss_catalan_density(y, factors), rtol=1e-4, atol=0)
    ends = theory.fuss_catalan_cdf(column(-1.0, 0.0, 1e-300, edge * (1 - 1e-14), edge, 2 * edge), factors)
    torch.testing.assert_close(ends, column(0, 0, 0, 1, 1, 1))


@pytest.mark.parametrize("factors", FACTORS)
def test_the_density_of_squares_blows_up_at_zero_with_the_stated_power(factors):
    y = column(1e-40, 1e-20)
    first, second = theory.fuss_catalan_density(y, factors).tolist()
    assert math.log(first / second) / math.log(1e-20) == pytest.approx(-factors / (factors + 1), abs=1e-3)


def test_long_products_have_an_edge_and_a_law():
    """The powers in the edge's formula overflow from 143 factors on."""
    for factors in (142, 143, 1000):
        edge = theory.largest_singular_value(factors) ** 2
        assert edge == pytest.approx(math.e * (factors + 0.5), rel=1e-3)
        share = theory.fuss_catalan_cdf(column(edge / 2), factors)
        assert 0.9 < share.item() < 1
        assert theory.fuss_catalan_density(column(edge / 2), factors).isfinite().all()


def test_of_no_number_there_is_no_number():
    for function in (theory.fuss_catalan_density, theory.fuss_catalan_cdf, theory.singular_value_density):
        values = function(column(math.nan, 1.0), 2)
        assert values.isnan().tolist() == [True, False]


def test_outside_the_support_there_is_nothing():
    assert theory.singular_value_density(column(-1e-200), 1).tolist() == [0]  # whose square is 0
    assert theory.fuss_catalan_density(column(-1.0, 4.0, 5.0), 1).tolist() == [0, 0, 0]
    assert theory.fuss_catalan_density(column(0.0), 3).isinf().all()
    assert theory.singular_value_density(column(-1.0, 2.5), 1).tolist() == [0, 0]
    assert theory.singular_value_density(column(0.0), 3).isinf().all()
    assert theory.singular_value_density(torch.tensor([[1.0]]), 3).shape == (1, 1)


@pytest.mark.parametrize("factors", [1, 3, 5])
def test_samples_follow_the_law(factors):
    size = 300
    s = linalg.product_singular_values(size, factors, generator=torch.Generator().manual_seed(factors))
    theirs = theory.fuss_catalan_cdf(s.flip(0).square(), factors)
    steps = torch.arange(size + 1, dtype=torch.float64) / size
    distance = torch.maximum((theirs - steps[:-1]).abs().max(), (theirs - steps[1:]).abs().max())
    assert distance < 0.015  # eigenvalues repel: independent ones would miss by 0.05


def test_no_factor_and_a_negative_order_are_refused():
    for function in (theory.fuss_catalan_density, theory.fuss_catalan_cdf, theory.singular_value_density):
        with pytest.raises(ValueError, match="factors must be at least 1, got 0"):
            function(column(1.0), 0)
    with pytest.raises(ValueError, match="factors must be at least 1, got -1"):
        theory.largest_singular_value(-1)
    with pytest.raises(ValueError, match="order must be at least 0, got -1"):
        theory.fuss_catalan_moment(-1, 1)
