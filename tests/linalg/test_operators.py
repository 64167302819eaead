from __future__ import annotations

import pytest
import torch

from normscope.linalg import DenseOperator, lanczos
from normscope.linalg.operators import ignore, product, require_count, require_finite


def test_a_dense_operator_multiplies_and_says_what_it_is(generator):
    matrix = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    op = DenseOperator(matrix + matrix.mT)
    v = torch.randn(4, generator=generator, dtype=torch.float64)

    torch.testing.assert_close(op.matvec(v), (matrix + matrix.mT) @ v)
    assert (op.size, op.dtype, op.device.type) == (4, torch.float64, "cpu")
    assert repr(op) == "DenseOperator(size=4, dtype=torch.float64, device=cpu)"


@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 0)])
def test_a_matrix_that_is_not_square_is_refused(shape):
    with pytest.raises(ValueError, match=r"A symmetric matrix is square; the shape .* arrived"):
        DenseOperator(torch.zeros(shape))


def test_an_asymmetric_matrix_is_refused_and_rounding_is_not(generator):
    matrix = torch.eye(50)
    matrix[0, 1] = 1e-3
    with pytest.raises(ValueError, match=r"equals its transpose, but entries differ by up to 0\.001"):
        DenseOperator(matrix)

    Q = torch.linalg.qr(torch.randn(50, 50, generator=generator)).Q
    DenseOperator(Q * torch.linspace(1, 2, 50) @ Q.mT)


def test_a_matrix_of_integers_is_refused():
    with pytest.raises(TypeError, match=r"floating-point numbers, not torch\.int64"):
        DenseOperator(torch.eye(2, dtype=torch.int64))


def test_a_product_of_another_shape_is_refused(diagonal):
    op = diagonal(torch.ones(3))
    op.matvec = lambda v: v[None]
    with pytest.raises(ValueError, match=r"A product has the shape \(3,\) of its vector, but \(1, 3\) came back"):
        product(op, torch.ones(3))


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), -float("inf")])
@pytest.mark.parametrize("at", [1, 3])
def test_a_product_that_is_not_finite_is_named(diagonal, generator, bad, at):
    op = diagonal(torch.arange(1.0, 9.0))
    multiply = op.matvec

    def fails(v):
        w = multiply(v)
        w[5] = bad if op.products == at else w[5]
        return w

    op.matvec = fails
    with pytest.raises(ValueError, match=f"Products are finite, but number {at} holds inf or NaN"):
        lanczos(op, 5, generator=generator)
    require_finite(1e300, 1)


def test_counts_are_whole_numbers_within_their_range():
    require_count("steps", 3, most=3)
    with pytest.raises(ValueError, match="steps is at least 1, but 0 arrived"):
        require_count("steps", 0)
    with pytest.raises(ValueError, match="steps is from 1 to 3, the size, but 4 arrived"):
        require_count("steps", 4, most=3, meaning=", the size")
    with pytest.raises(TypeError, match=r"steps is a whole number, but 2\.0 arrived"):
        require_count("steps", 2.0)
    ignore(3)
