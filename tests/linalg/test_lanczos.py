from __future__ import annotations

import pytest
import torch

from normscope.linalg import lanczos


def test_the_recursion_holds_and_its_vectors_are_orthonormal(rotated, generator):
    op = rotated(torch.linspace(-1, 3, 80))
    run = lanczos(op, 20, generator=generator)

    V, rest = run.vectors, run.off_diagonal[-1]
    residual = op.matrix @ V.mT - V.mT @ run.matrix

    torch.testing.assert_close(V @ V.mT, torch.eye(20, dtype=torch.float64), rtol=0, atol=1e-14)
    assert residual[:, :-1].abs().max() < 1e-14
    assert float(residual[:, -1].norm()) == pytest.approx(float(rest), rel=1e-10)
    assert run.orthogonality < 1e-14
    assert run.corrections.max() < 1e-13
    assert run.breakdown is None


def test_at_full_depth_the_tridiagonal_matrix_has_the_spectrum(rotated, seed):
    eigenvalues = torch.linspace(1, 2, 30, dtype=torch.float64)
    run = lanczos(rotated(eigenvalues), 30, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(torch.linalg.eigvalsh(run.matrix), eigenvalues, rtol=0, atol=1e-13)


def test_orthogonality_survives_converged_outliers_in_float32(diagonal, generator):
    eigenvalues = torch.randn(20_000, generator=generator) * 0.1
    eigenvalues[:10] = torch.linspace(1, 50, 10)

    run = lanczos(diagonal(eigenvalues), 80, generator=generator)

    V = run.vectors.double()
    true_loss = float(torch.linalg.matrix_norm(V @ V.mT - torch.eye(80, dtype=torch.float64), 2))
    eps = torch.finfo(torch.float32).eps
    assert true_loss < 10 * eps
    assert true_loss <= run.orthogonality < 40 * eps
    residual = eigenvalues.double()[:, None] * V.mT - V.mT @ run.matrix
    columns = torch.linalg.vector_norm(residual[:, :-1], dim=0)
    # What the operator's own float32 product rounds is not the recursion's.
    assert (columns <= run.corrections[:-1] + eps * run.matrix.abs().sum(0)[:-1]).all()


@pytest.mark.parametrize("num_matvecs", [4, 30])
def test_a_complete_krylov_space_stops_the_run(rotated, generator, num_matvecs):
    eigenvalues = torch.tensor([1.0, 2.0, 5.0, 9.0]).repeat_interleave(10)
    run = lanczos(rotated(eigenvalues), num_matvecs, generator=generator)

    assert run.breakdown == 4
    assert run.off_diagonal[-1] == 0
    assert run.vectors.shape == (4, 40)
    torch.testing.assert_close(
        torch.linalg.eigvalsh(run.matrix), torch.tensor([1, 2, 5, 9], dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_a_bulk_far_below_the_outliers_is_no_breakdown(diagonal, generator):
    eigenvalues = torch.cat([torch.tensor([50.0, 100.0]), torch.linspace(0, 1e-2, 2000)])
    assert lanczos(diagonal(eigenvalues), 30, generator=generator).breakdown is None


def test_eigenvalues_a_little_apart_are_no_breakdown(diagonal, generator):
    eigenvalues = 1 + 4e-12 * torch.linspace(-1, 1, 50, dtype=torch.float64)
    assert lanczos(diagonal(eigenvalues), 2, generator=generator).breakdown is None


def test_the_zero_matrix_is_complete_after_one_product(diagonal, generator):
    run = lanczos(diagonal(torch.zeros(7)), 3, generator=generator)
    assert (run.breakdown, run.diagonal.tolist()) == (1, [0.0])


def test_within_a_complement_the_rest_of_the_spectrum_remains(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0, dtype=torch.float64))
    known = torch.eye(8, dtype=torch.float64)[5:]

    run = lanczos(op, 5, generator=generator, orthogonal_to=known)

    assert (run.vectors @ known.mT).abs().max() < 1e-14
    torch.testing.assert_close(torch.linalg.eigvalsh(run.matrix), torch.arange(1.0, 6.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="num_matvecs is from 1 to 5, the dimension of the space, but 6 arrived"):
        lanczos(op, 6, generator=generator, orthogonal_to=known)


def test_a_given_start_is_normalized_and_left_as_it_is(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0))
    start = torch.full((8,), 3.0)
    run = lanczos(op, 3, generator=generator, start=start)

    torch.testing.assert_close(run.vectors[0], torch.full((8,), 8**-0.5))
    assert torch.equal(start, torch.full((8,), 3.0))


def test_products_are_counted_one_by_one(diagonal, generator):
    op, seen = diagonal(torch.arange(1.0, 9.0)), []
    lanczos(op, 5, generator=generator, progress=seen.append)
    assert seen == [1, 2, 3, 4, 5]
    assert op.products == 5


def test_an_operator_may_hand_out_its_own_buffer(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0, dtype=torch.float64))
    expected = lanczos(op, 5, generator=torch.Generator().manual_seed(1)).diagonal
    buffer = torch.empty(8, dtype=torch.float64)
    op.matvec = lambda v: torch.mul(op.diagonal, v, out=buffer)

    torch.testing.assert_close(lanczos(op, 5, generator=torch.Generator().manual_seed(1)).diagonal, expected)


def test_starts_of_no_use_are_refused(diagonal, generator):
    op = diagonal(torch.arange(1.0, 9.0))
    with pytest.raises(ValueError, match=r"has the shape \(8,\), but \(7,\) arrived"):
        lanczos(op, 2, generator=generator, start=torch.ones(7))
    with pytest.raises(ValueError, match=r"a finite norm above zero, but 0\.0 arrived"):
        lanczos(op, 2, generator=generator, start=torch.zeros(8))
    with pytest.raises(ValueError, match="has a part outside the vectors"):
        lanczos(op, 2, generator=generator, start=torch.eye(8)[0], orthogonal_to=torch.eye(8)[:2])
    with pytest.raises(ValueError, match="num_matvecs is from 1 to 8, the dimension of the space, but 9 arrived"):
        lanczos(op, 9, generator=generator)
