from __future__ import annotations

import math

import pytest
import torch

from normscope.linalg import gaussian, lanczos, top_eigenpairs, trace, traces


def test_traces_are_right_to_their_standard_errors(rotated, seed):
    eigenvalues = torch.linspace(-1, 3, 200).double()
    op = rotated(eigenvalues)
    found = traces(op, 50, generator=torch.Generator().manual_seed(seed))

    assert abs(found.trace.value - float(eigenvalues.sum())) < 4 * found.trace.stderr
    assert abs(found.trace_of_square.value - float(eigenvalues.square().sum())) < 4 * found.trace_of_square.stderr
    # Hutchinson 1990: Var[z^T A z] = 2 (||A||_F^2 - sum_i A_ii^2) for signs.
    variance = 2 * float(op.matrix.square().sum() - op.matrix.diagonal().square().sum())
    assert 0.7 < found.trace.stderr * math.sqrt(50) / math.sqrt(variance) < 1.35
    assert found.num_matvecs == 50


def test_signs_are_exact_on_a_diagonal_and_normal_entries_are_not(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0))
    assert trace(op, 3, generator=generator).samples.tolist() == [36, 36, 36]
    spread = trace(op, 50, generator=generator, distribution=gaussian)
    assert spread.stderr * math.sqrt(50) == pytest.approx(math.sqrt(2 * 204), rel=0.5)


def test_deflation_adds_the_known_and_estimates_the_rest(rotated, outliers, generator):
    eigenvalues = torch.cat([outliers[:13], outliers[-300:]])
    op = rotated(eigenvalues)
    pairs = top_eigenpairs(op, 13, generator=generator, which="magnitude", tolerance=1e-6)

    plain = traces(op, 20, generator=generator)
    found = traces(op, 20, generator=generator, deflate=pairs)

    assert abs(found.trace.value - float(eigenvalues.sum())) < 4 * found.trace.stderr
    assert found.trace.stderr < plain.trace.stderr / 4
    assert found.trace_of_square.value == pytest.approx(float(eigenvalues.square().sum()), rel=1e-3)
    assert found.num_matvecs == 20 + pairs.num_matvecs


def test_a_krylov_space_adds_exactly_what_it_holds(rotated, seed):
    eigenvalues = torch.cat([torch.linspace(-1, 1, 60), torch.tensor([5.0, 20.0])]).double()
    op, generator = rotated(eigenvalues), torch.Generator().manual_seed(seed)
    run = lanczos(op, 30, generator=generator)
    plain = traces(op, 40, generator=generator)
    found = traces(op, 40, generator=generator, deflate=run)

    assert abs(found.trace.value - float(eigenvalues.sum())) < 4 * found.trace.stderr
    assert abs(found.trace_of_square.value - float(eigenvalues.square().sum())) < 4 * found.trace_of_square.stderr
    assert found.trace.stderr < plain.trace.stderr / 4
    assert found.num_matvecs == 70


def test_a_complete_krylov_space_leaves_nothing_to_chance(rotated, generator):
    eigenvalues = torch.linspace(-1, 3, 12).double()
    op = rotated(eigenvalues)
    found = traces(op, 2, generator=generator, deflate=lanczos(op, 12, generator=generator))
    assert found.trace.value == pytest.approx(float(eigenvalues.sum()), rel=1e-12)
    assert found.trace_of_square.value == pytest.approx(float(eigenvalues.square().sum()), rel=1e-12)


def test_products_are_counted_and_checked(diagonal, generator):
    op, seen = diagonal(torch.ones(4)), []
    trace(op, 3, generator=generator, progress=seen.append)
    assert seen == [1, 2, 3]
    op.diagonal[2] = float("nan")
    with pytest.raises(ValueError, match="Products are finite, but number 1 holds inf or NaN"):
        trace(op, 3, generator=generator)
    with pytest.raises(ValueError, match="num_samples is at least 1, but 0 arrived"):
        trace(op, 0, generator=generator)
