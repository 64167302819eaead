import numpy as np
import pytest
import torch

from normscope import linalg
from normscope.report.density import Rule, outline, smooth


def rule() -> Rule:
    rng = np.random.default_rng(0)
    weights = rng.random((2, 7))
    return Rule(np.sort(rng.normal(size=14)) * 30, (weights / weights.sum(1, keepdims=True)).ravel())


def twin(of: Rule) -> linalg.SpectralDensity:
    """The same rules, two starts, as torch has them."""
    nodes, weights = (torch.tensor(values.reshape(2, 7)) for values in (of.nodes, of.weights))
    nothing = torch.zeros(0, dtype=torch.float64)
    return linalg.SpectralDensity(
        nodes=nodes,
        weights=weights,
        residuals=torch.zeros_like(nodes),
        averaged_nodes=nodes,
        averaged_weights=weights,
        atoms=nothing,
        atom_residuals=nothing,
        size=100,
        num_matvecs=14,
    )


def test_width_grid_and_curve_are_those_of_linalg():
    ours, theirs = rule(), twin(rule())
    assert ours.width == pytest.approx(linalg.default_width(theirs), rel=1e-12)
    grid = linalg.grid(theirs)
    np.testing.assert_allclose(ours.grid(), grid.numpy(), rtol=1e-12, atol=1e-12)
    expected = linalg.smooth(theirs, grid, width=ours.width).numpy()
    np.testing.assert_allclose(smooth(ours, ours.grid()), expected, rtol=1e-9, atol=1e-300)


def test_the_width_of_a_narrow_spectrum_is_that_of_range_one():
    assert Rule(np.array([0.0, 0.1]), np.array([0.5, 0.5])).width == pytest.approx(1e-5**0.5)


def test_the_curve_integrates_to_one():
    lone = Rule(np.array([0.0]), np.array([2.0]))  # two starts
    grid = np.linspace(-1, 1, 20001)
    assert smooth(lone, grid).sum() * (grid[1] - grid[0]) == pytest.approx(1)


def test_an_outline_follows_the_curve_with_few_points():
    x = np.linspace(-1, 1, 5001)
    y = np.maximum(-((x / 0.05) ** 2), -12.0)
    kept = outline(x, y, limit=200)
    assert (kept[0], kept[-1]) == (0, 5000)
    assert len(kept) < 200
    assert np.abs(np.interp(x, x[kept], y[kept]) - y).max() <= 0.01


def test_an_outline_keeps_to_its_limit_and_takes_the_worst_first():
    x = np.arange(101.0)
    y = np.zeros(101)
    y[30], y[60] = 5.0, -9.0
    assert outline(x, y, limit=3) == [0, 60, 100]
    assert len(outline(x, y, limit=5)) == 5


def test_a_straight_line_is_its_ends():
    x = np.linspace(0, 1, 11)
    assert outline(x, 3 * x, limit=9) == [0, 10]
    assert outline(x[:2], x[:2], limit=9) == [0, 1]
