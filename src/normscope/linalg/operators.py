"""What every algorithm of this room sees of a matrix: its size, and its product with a vector."""

from __future__ import annotations

from typing import Protocol, final

import torch
from torch import Tensor


class LinearOperator(Protocol):
    """A symmetric matrix known by its products.

    `matvec` maps (size,) to (size,), both of `dtype` and on `device`, and leaves its argument as it is.
    """

    @property
    def size(self) -> int:
        """Number of rows, and of columns."""

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type products are taken in."""

    @property
    def device(self) -> torch.device:
        """Where products are taken."""

    def matvec(self, v: Tensor) -> Tensor:
        """The product with one vector, (size,) -> (size,)."""


@final
class DenseOperator:
    """A symmetric matrix that is there in full, (size, size).

    Raises:
        ValueError: the matrix is not square, or differs from its transpose by more than rounding.
        TypeError: its entries are not floating-point numbers.
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.numel() == 0:
            raise ValueError(f"A symmetric matrix is square; the shape {tuple(matrix.shape)} arrived. Pass (n, n).")
        if not matrix.is_floating_point():
            raise TypeError(f"The matrix holds floating-point numbers, not {matrix.dtype}. Convert it first.")
        asymmetry, scale = (matrix - matrix.mT).abs().max(), matrix.abs().max()
        if asymmetry > matrix.shape[0] * torch.finfo(matrix.dtype).eps * scale:
            raise ValueError(
                f"The matrix equals its transpose, but entries differ by up to {float(asymmetry):.3g}. "
                "Pass (A + A.T) / 2 if that is what you mean."
            )
        self.matrix = matrix

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.matrix.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the entries."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """Where the entries are."""
        return self.matrix.device

    def matvec(self, v: Tensor) -> Tensor:
        """The product, (size,) -> (size,)."""
        return self.matrix @ v

    def __repr__(self) -> str:
        return f"DenseOperator(size={self.size}, dtype={self.dtype}, device={self.device})"


def product(op: LinearOperator, v: Tensor) -> Tensor:
    """A v as the operator returns it, (size,) -> (size,).

    Raises:
        ValueError: the operator returned another shape.
    """
    result = op.matvec(v)
    if result.shape != v.shape:
        raise ValueError(
            f"A product has the shape {tuple(v.shape)} of its vector, but {tuple(result.shape)} came back. "
            "Return a flat vector from `matvec`."
        )
    return result.detach()


def require_finite(value: float, done: int) -> None:
    """Stop at the first product that is not finite; `value` is an inner product with it, `done` counts from one.

    Raises:
        ValueError: `value` is infinite or not a number.
    """
    if not -float("inf") < value < float("inf"):
        raise ValueError(
            f"Products are finite, but number {done} holds inf or NaN. "
            "Check that the loss and its gradient are finite, or use float64."
        )


def require_count(name: str, value: int, *, most: int | None = None, meaning: str = "") -> None:
    """Check that `value` is a whole number from one to `most`.

    Raises:
        ValueError: it is smaller or larger.
        TypeError: it is no whole number.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, but {value!r} arrived. Pass an int.")
    if value < 1 or (most is not None and value > most):
        limit = "at least 1" if most is None else f"from 1 to {most}{meaning}"
        raise ValueError(f"{name} is {limit}, but {value} arrived. Choose another.")


def ignore(done: int) -> None:
    """Report nothing: the default for `progress`, which is called with the number of products done so far."""
