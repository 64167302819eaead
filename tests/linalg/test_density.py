from __future__ import annotations

import math

import pytest
import torch

from normscope.linalg import rademacher, spectral_density, top_eigenpairs


def test_the_trace_and_the_moments_are_right_to_their_standard_errors(rotated, seed):
    eigenvalues = torch.cat([torch.linspace(-1, 2, 300), torch.tensor([8.0, 9.0])]).double()
    density = spectral_density(rotated(eigenvalues), 20, 12, generator=torch.Generator().manual_seed(seed))

    trace, second = density.trace(), density.moment(2)
    assert abs(trace.value - float(eigenvalues.sum())) < 4 * trace.stderr
    assert abs(second.value - float(eigenvalues.square().mean())) < 4 * second.stderr
    # Uniform on the sphere: Var[z^T A z] = 2 (n tr A^2 - (tr A)^2) / (n^2 (n + 2)).
    n, square, total = 302, float(eigenvalues.square().sum()), float(eigenvalues.sum())
    variance = 2 * (n * square - total**2) / (n + 2)
    assert 0.5 < trace.stderr * math.sqrt(12) / math.sqrt(variance) < 1.7
    assert trace.samples.shape == (12,)


def test_weights_of_every_sample_sum_to_one(rotated, generator):
    density = spectral_density(rotated(torch.linspace(0, 1, 50)), 8, 3, generator=generator)
    assert density.nodes.shape == density.weights.shape == density.residuals.shape == (3, 8)
    assert density.averaged_nodes.shape == density.averaged_weights.shape == (3, 15)
    torch.testing.assert_close(density.weights.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(density.averaged_weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert density.num_matvecs == 24


def test_extremes_at_both_ends_say_whether_they_converged(diagonal, generator):
    eigenvalues = torch.cat([torch.linspace(-1, 1, 2000), torch.tensor([-7.0, 10.0])]).double()

    good = spectral_density(diagonal(eigenvalues), 30, 3, generator=generator)
    short = spectral_density(diagonal(eigenvalues), 3, 3, generator=generator)

    for extreme in (good.largest, good.smallest, short.largest, short.smallest):
        assert (eigenvalues - extreme.value).abs().min() <= extreme.residual
    assert (good.largest.value, good.smallest.value) == (pytest.approx(10), pytest.approx(-7))
    assert good.largest.converged
    assert good.smallest.converged
    assert not short.largest.converged
    assert not short.smallest.converged


def test_samples_that_were_complete_early_are_filled_with_weight_zero(rotated, generator):
    start = iter([2, 0])

    def draw(size, *, generator, device):
        """The first start meets all eigenvalues, the second only one of them."""
        z = torch.randn(size, generator=generator, dtype=torch.float64)
        if next(start) == 0:
            z[1:] = 0
        return z

    op = rotated(torch.tensor([1.0, 2.0, 3.0]))
    op.matrix = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    density = spectral_density(op, 3, 2, generator=generator, distribution=draw)

    torch.testing.assert_close(density.weights.sum(1), torch.ones(2, dtype=torch.float64))
    assert density.weights[1].tolist() == [1, 0, 0]
    torch.testing.assert_close(density.nodes[1], torch.ones(3, dtype=torch.float64))
    assert density.num_matvecs == 4
    assert density.largest.value == pytest.approx(3)


def test_the_cumulative_density_counts_eigenvalues(diagonal, generator):
    eigenvalues = torch.cat([torch.zeros(600), torch.full((300,), 2.0), torch.full((100,), 5.0)]).double()
    density = spectral_density(diagonal(eigenvalues), 3, 40, generator=generator)

    below = density.cumulative(torch.tensor([-1.0, 1.0, 3.0, 6.0]))
    torch.testing.assert_close(below, torch.tensor([0, 0.6, 0.9, 1.0], dtype=torch.float64), rtol=0, atol=0.015)
    assert (below[0], below[3]) == (0, pytest.approx(1))


@pytest.fixture
def deflated(diagonal, outliers, generator):
    op = diagonal(outliers)
    pairs = top_eigenpairs(op, 10, generator=generator, which="magnitude")
    return op, pairs, spectral_density(op, 30, 6, generator=generator, deflate=pairs)


def test_deflated_eigenvalues_return_as_atoms(deflated, outliers):
    op, pairs, density = deflated
    assert torch.equal(density.atoms, pairs.values)
    assert density.num_matvecs == op.products == pairs.num_matvecs + 180
    torch.testing.assert_close(density.weights.sum(1), torch.full((6,), 2990 / 3000, dtype=torch.float64))
    assert density.largest.value == pytest.approx(50)
    assert density.smallest.value == pytest.approx(-1.5)
    known = pairs.values.sort().values
    jumps = density.cumulative(known + 1e-3) - density.cumulative(known - 1e-3)
    assert (jumps >= 1 / 3000 - 1e-12).all()


def test_deflation_takes_the_outliers_out_of_the_variance(deflated, diagonal, outliers, generator):
    _, _, density = deflated
    plain = spectral_density(diagonal(outliers), 30, 6, generator=generator)

    trace = density.trace()
    assert abs(trace.value - float(outliers.sum())) < 4 * trace.stderr
    rest = outliers.abs().sort().values[:-10].square().sum()
    assert trace.stderr * math.sqrt(6) == pytest.approx(math.sqrt(2 * float(rest)), rel=0.7)
    assert trace.stderr < plain.trace().stderr / 3
    assert abs(density.moment(2).value - float(outliers.square().mean())) < 1e-3 * float(outliers.square().mean())


def test_residuals_of_deflated_pairs_enter_the_bounds(diagonal, outliers, generator):
    import dataclasses

    op = diagonal(outliers)
    pairs = top_eigenpairs(op, 3, generator=generator, which="magnitude")
    loose = dataclasses.replace(pairs, residuals=pairs.residuals + 0.3)
    tight, wide = (
        spectral_density(op, 5, 1, generator=torch.Generator().manual_seed(1), deflate=p) for p in (pairs, loose)
    )
    extra = loose.residuals.norm() - pairs.residuals.norm()
    torch.testing.assert_close(wide.residuals - tight.residuals, extra.expand(1, 5))


def test_signs_serve_as_starts_too(diagonal, generator):
    op = diagonal(torch.arange(1.0, 31.0, dtype=torch.float64))
    density = spectral_density(op, 5, 2, generator=generator, distribution=rademacher)
    torch.testing.assert_close(density.trace().samples, torch.full((2,), 465.0, dtype=torch.float64))


def test_progress_counts_through_all_samples(diagonal, generator):
    seen = []
    spectral_density(diagonal(torch.arange(1.0, 9.0)), 3, 2, generator=generator, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]


def test_impossible_counts_are_refused(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0))
    with pytest.raises(ValueError, match="num_matvecs is from 1 to 8, the dimension of the space, but 90 arrived"):
        spectral_density(op, generator=generator)
    with pytest.raises(ValueError, match="num_samples is at least 1, but 0 arrived"):
        spectral_density(op, 3, 0, generator=generator)
    pairs = top_eigenpairs(op, 2, generator=generator)
    with pytest.raises(ValueError, match="num_matvecs is from 1 to 6, the dimension of the space, but 7 arrived"):
        spectral_density(op, 7, 1, generator=generator, deflate=pairs)
