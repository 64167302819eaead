from __future__ import annotations

import math

import pytest
import torch

from normscope.linalg import default_width, grid, smooth, spectral_density, top_eigenpairs


@pytest.fixture
def density(diagonal, generator):
    op = diagonal(torch.tensor([-1.0, 0.0, 0.0, 0.0, 3.0], dtype=torch.float64))
    return spectral_density(op, 2, 4, generator=generator, deflate=top_eigenpairs(op, 1, generator=generator))


def test_a_smoothed_density_integrates_to_one_and_keeps_the_mean(density):
    points = torch.linspace(-4, 6, 20_001, dtype=torch.float64)
    curve = smooth(density, points, width=0.1)

    assert float(torch.trapezoid(curve, points)) == pytest.approx(1, abs=1e-9)
    assert float(torch.trapezoid(curve * points, points)) == pytest.approx(density.moment(1).value, abs=1e-9)


def test_a_bump_has_the_height_of_its_weight_and_width(density):
    peak = smooth(density, torch.tensor([3.0]), width=0.01)
    assert float(peak) == pytest.approx(0.2 / (0.01 * math.sqrt(2 * math.pi)))


def test_the_grid_leaves_a_margin_at_both_ends(density):
    points = grid(density, points=11, margin=0.5)
    assert len(points) == 11
    assert (float(points[0]), float(points[-1])) == (pytest.approx(-1.5), pytest.approx(3.5))
    assert len(grid(density)) == 10_000
    assert float(grid(density)[0]) == pytest.approx(-1.01)


def test_the_default_width_grows_with_the_range_beyond_one(density, diagonal, generator):
    assert default_width(density) == pytest.approx(math.sqrt(1e-5 * 4))
    narrow = spectral_density(diagonal(torch.linspace(0, 0.1, 9)), 3, 1, generator=generator)
    assert default_width(narrow) == pytest.approx(math.sqrt(1e-5))


def test_a_width_of_zero_is_refused(density):
    with pytest.raises(ValueError, match="width of the bumps is above 0, but 0 arrived"):
        smooth(density, torch.zeros(1), width=0)
