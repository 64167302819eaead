from __future__ import annotations

import pytest
import torch

from normscope.linalg.basis import MatrixBasis
from normscope.linalg.orthogonal import combine, loss_of_orthogonality, orthogonalize, project_out, rotate

SIZE = 300_000  # two blocks, the last one not a whole number of sums


@pytest.fixture
def basis(generator):
    Q = torch.linalg.qr(torch.randn(SIZE, 4, generator=generator, dtype=torch.float64)).Q
    return MatrixBasis(Q.mT.contiguous(), count=4)


def test_projection_removes_the_components_and_returns_them(basis, generator):
    w = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    expected = basis.rows @ w
    rest = w - basis.rows.mT @ expected

    torch.testing.assert_close(project_out(basis, w), expected)
    torch.testing.assert_close(w, rest)


def test_a_second_pass_follows_where_digits_were_lost(basis, generator):
    small = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    project_out(basis, small)
    project_out(basis, small)
    w = basis.rows.sum(0) + 1e-12 * small / small.norm()

    once = w.clone()
    project_out(basis, once)
    (components,), norm = orthogonalize([basis], w)

    assert (basis.rows @ once).abs().max() / once.norm() > 1e-6
    assert (basis.rows @ w).abs().max() / w.norm() < 1e-14
    torch.testing.assert_close(components, torch.ones(4, dtype=torch.float64))
    assert norm == pytest.approx(1e-12, rel=1e-3)


def test_one_pass_suffices_where_nothing_cancels(basis, generator):
    passes = []
    basis.block = lambda columns: passes.append(columns) or MatrixBasis.block(basis, columns)
    orthogonalize([basis], torch.randn(SIZE, generator=generator, dtype=torch.float64))
    assert len(passes) == 4  # two blocks, read for the components and for the subtraction


def test_float32_inner_products_do_not_drift_with_the_length(generator):
    rows = torch.randn(8, SIZE, generator=generator) * 1e-3
    w = torch.randn(SIZE, generator=generator) * 1e-3
    rows[:, 0] = rows[:, -1] = w[0] = 1.0
    w[-1] = -1.0
    exact = rows.double() @ w.double()

    components = project_out(MatrixBasis(rows, count=8), w.double())

    assert (components - exact).abs().max() < 5e-7


def test_combinations_are_those_of_the_weights(basis, generator):
    weights = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    expected = weights.mT @ basis.rows

    torch.testing.assert_close(combine(basis, weights), expected)
    rotate(basis, weights)
    assert basis.count == 2
    torch.testing.assert_close(basis.block(slice(0, SIZE)), expected)


def test_the_loss_of_orthogonality_is_the_spectral_norm_of_its_defect(basis):
    assert loss_of_orthogonality(basis) < 1e-14
    basis.rows[1] += 1e-3 * basis.rows[0]
    defect = basis.rows @ basis.rows.mT - torch.eye(4, dtype=torch.float64)
    assert loss_of_orthogonality(basis) == pytest.approx(float(torch.linalg.matrix_norm(defect, 2)), rel=1e-6)
