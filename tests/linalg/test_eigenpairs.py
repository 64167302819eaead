from __future__ import annotations

import pytest
import torch

from normscope.linalg import lanczos, ritz_pairs, top_eigenpairs

RANKS = {"largest": torch.clone, "smallest": torch.neg, "magnitude": torch.abs}
SPECTRA = {
    "gaps": torch.cat([torch.linspace(-0.3, 0.3, 290), torch.arange(1.0, 11.0)]),
    "both ends": torch.cat([torch.linspace(-0.3, 0.3, 290), torch.arange(1.0, 6.0), -torch.arange(1.5, 6.0)]),
    "multiple": torch.cat([torch.zeros(100), torch.full((5,), 3.0), torch.full((4,), -2.0), torch.linspace(0, 1, 50)]),
    "clusters": torch.cat([torch.linspace(0, 1, 200), 2 + torch.arange(6) * 1e-5, -1 - torch.arange(4) * 1e-6]),
    "identity": torch.ones(40),
    "zero": torch.zeros(30),
    "three": torch.tensor([1.0, 2.0, 3.0]),
}


def expected(eigenvalues, which, k):
    order = RANKS[which](eigenvalues.double()).argsort(descending=True)
    return eigenvalues.double()[order[:k]]


@pytest.mark.parametrize("which", RANKS)
@pytest.mark.parametrize("name", SPECTRA)
def test_the_first_k_come_out_with_their_multiplicities(name, which, rotated, seed):
    eigenvalues = SPECTRA[name]
    op, k = rotated(eigenvalues), min(8, len(eigenvalues))

    found = top_eigenpairs(op, k, generator=torch.Generator().manual_seed(seed), which=which, max_vectors=40)

    true = torch.linalg.vector_norm(op.matrix @ found.vectors.mT - found.vectors.mT * found.values, dim=0)
    limit = 1e-3 * float(eigenvalues.abs().max())
    rounding = 1e-13 * float(eigenvalues.abs().max())
    assert found.converged.all()
    assert (true <= found.residuals + rounding).all()
    assert (found.residuals <= limit + rounding).all()
    assert (RANKS[which](found.values).diff() <= 0).all()
    difference = RANKS[which](found.values) - RANKS[which](expected(eigenvalues, which, k))
    # A search sees changes beyond the tolerance; within a dense bulk each of two rounds may hide one of them.
    assert difference.abs().max() <= 2 * limit + rounding
    torch.testing.assert_close(found.vectors @ found.vectors.mT, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-10)


def test_without_a_search_a_multiple_eigenvalue_is_seen_once(rotated, generator):
    eigenvalues = torch.cat([torch.linspace(-0.3, 0.3, 290), torch.tensor([3.0, 3, 3, 3, 2, 1])])
    once = top_eigenpairs(rotated(eigenvalues), 3, generator=generator, search_matvecs=0)
    searched = top_eigenpairs(rotated(eigenvalues), 3, generator=generator)

    assert once.values.tolist() == pytest.approx([3, 2, 1], rel=1e-3)
    assert once.note == "3 of 3 converged; not searched for further copies of multiple eigenvalues"
    assert searched.values.tolist() == pytest.approx([3, 3, 3], rel=1e-3)
    assert searched.note == (
        "3 of 3 converged; 6 products from a fresh start found no further eigenvalue among the first 3"
    )


def test_a_tighter_tolerance_gives_more_digits(rotated, generator):
    op = rotated(SPECTRA["gaps"])
    found = top_eigenpairs(op, 10, generator=generator, tolerance=1e-9, max_vectors=30)
    torch.testing.assert_close(found.values, torch.arange(10.0, 0, -1, dtype=torch.float64), rtol=0, atol=1e-12)
    assert found.residuals.max() <= 1e-8


def test_restarts_keep_to_the_room_there_is(rotated, generator, monkeypatch):
    from normscope.linalg.basis import MatrixBasis

    counts = []
    append = MatrixBasis.append
    monkeypatch.setattr(MatrixBasis, "append", lambda self, v: (append(self, v), counts.append(self.count))[0])

    found = top_eigenpairs(rotated(SPECTRA["gaps"]), 5, generator=generator, tolerance=1e-6, max_vectors=9)

    assert max(counts) == 9
    assert len(counts) == found.num_matvecs > 18
    torch.testing.assert_close(found.values, torch.arange(10.0, 5, -1, dtype=torch.float64), rtol=0, atol=1e-9)


def test_at_the_limit_of_products_it_says_what_has_not_converged(diagonal, generator):
    op, seen = diagonal(torch.linspace(0, 1, 5000)), []
    found = top_eigenpairs(op, 4, generator=generator, max_matvecs=12, tolerance=1e-6, progress=seen.append)

    assert found.num_matvecs == op.products == 12
    assert seen == list(range(1, 13))
    assert not found.converged.any()
    assert found.note == "0 of 4 converged; stopped at the limit of 12 products"
    true = torch.linalg.vector_norm(op.diagonal * found.vectors - found.values[:, None] * found.vectors, dim=1)
    assert (true <= found.residuals + 1e-6).all()


def test_float32_products_give_float32_accuracy(diagonal, generator):
    eigenvalues = torch.randn(20_000, generator=generator) * 0.1
    eigenvalues[100:110] = torch.linspace(1, 50, 10)
    found = top_eigenpairs(diagonal(eigenvalues), 10, generator=generator, which="magnitude", tolerance=1e-5)

    assert found.converged.all()
    assert found.vectors.dtype == torch.float32
    torch.testing.assert_close(found.values.flip(0), torch.linspace(1, 50, 10).double(), rtol=1e-5, atol=1e-5)


def test_all_eigenvalues_of_a_small_matrix_are_exact(rotated, generator):
    eigenvalues = torch.tensor([2.0, 2.0, 2.0, -1.0, 0.0, 0.0])
    found = top_eigenpairs(rotated(eigenvalues), 6, generator=generator)
    torch.testing.assert_close(found.values, eigenvalues.double().sort(descending=True).values, rtol=0, atol=1e-13)
    assert found.note == "6 of 6 converged; the whole space was searched"


def test_bad_options_are_refused(diagonal, generator):
    op = diagonal(torch.arange(1.0, 31.0))
    with pytest.raises(ValueError, match="k is from 1 to 30, the size of the operator, but 31 arrived"):
        top_eigenpairs(op, 31, generator=generator)
    with pytest.raises(ValueError, match="`which` is one of largest, smallest, magnitude, but 'LM' arrived"):
        top_eigenpairs(op, generator=generator, which="LM")
    with pytest.raises(ValueError, match="The tolerance is above 0, but 0 arrived"):
        top_eigenpairs(op, generator=generator, tolerance=0)
    with pytest.raises(ValueError, match="10 eigenpairs need room for 13 vectors, but max_vectors is 12"):
        top_eigenpairs(op, generator=generator, max_vectors=12)
    with pytest.raises(ValueError, match="max_matvecs is at least 1"):
        top_eigenpairs(op, generator=generator, max_matvecs=0)


def test_ritz_pairs_of_a_run_are_its_outermost_and_say_which_have_converged(rotated, outliers, generator):
    op = rotated(torch.cat([outliers[:13], outliers[-200:]]))
    pairs = ritz_pairs(lanczos(op, 40, generator=generator), 12, which="magnitude")
    off = op.matrix @ pairs.vectors.T - pairs.vectors.T * pairs.values
    assert (torch.linalg.vector_norm(off, dim=0) <= pairs.residuals + 1e-12).all()
    assert pairs.converged.any()
    assert torch.equal(pairs.converged, pairs.residuals <= 1e-3 * pairs.values.abs().max())
    assert pairs.values.abs().diff().max() <= 0
    assert pairs.num_matvecs == 40
    with pytest.raises(ValueError, match="k is from 1 to 40, the products of the run"):
        ritz_pairs(lanczos(op, 40, generator=generator), 41)
