from __future__ import annotations

import pytest
import torch

from normscope.linalg import spectral_density, spectrum


def distance(density, eigenvalues) -> float:
    """Wasserstein-1 distance between the density and the eigenvalues: the area between their staircases."""
    nodes, _ = density.rule()
    points = torch.cat([nodes, eigenvalues]).sort().values
    exact = torch.searchsorted(eigenvalues.sort().values, points, right=True) / len(eigenvalues)
    return float(((density.cumulative(points) - exact).abs()[:-1] * points.diff()).sum())


def test_half_the_products_give_smaller_errors_than_plain_quadrature(diagonal, outliers, seed):
    generator = torch.Generator().manual_seed(seed)
    plain = spectral_density(diagonal(outliers), 80, 10, generator=generator)
    op, seen = diagonal(outliers), []
    found = spectrum(op, generator=generator, progress=seen.append)

    assert found.num_matvecs == op.products < plain.num_matvecs / 2
    assert seen == list(range(1, op.products + 1))
    assert distance(found.density, outliers) < distance(plain, outliers) / 2
    exact = float(outliers.sum())
    assert found.traces.trace.stderr < plain.trace().stderr / 4
    assert abs(found.traces.trace.value - exact) < 4 * found.traces.trace.stderr
    assert found.density.trace().stderr < plain.trace().stderr / 2
    assert abs(found.density.trace().value - exact) < 4 * found.density.trace().stderr
    top = outliers[outliers.abs().argsort(descending=True)[:10]]
    assert found.top.converged.all()
    assert ((found.top.values - top) / top).abs().max() < 1e-3


def test_the_density_holds_the_top_eigenvalues_as_atoms(diagonal, outliers, generator):
    found = spectrum(diagonal(outliers), 4, 10, 2, generator=generator)
    assert torch.equal(found.density.atoms, found.top.values)
    assert found.top.values.tolist() == pytest.approx([50, 30, 18, 11], rel=1e-4)
