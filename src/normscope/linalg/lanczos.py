"""Lanczos with full orthogonalization: a symmetric matrix, seen from one vector, as a tridiagonal one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import Basis, InMemory, MatrixBasis, Storage, fixed
from normscope.linalg.operators import LinearOperator, ignore, require_count
from normscope.linalg.orthogonal import combine, loss_of_orthogonality
from normscope.linalg.recursion import Recursion
from normscope.linalg.sampling import gaussian


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tridiagonal:
    r"""What m products say about A: :math:`A V^T = V^T T + \beta_m v_{m+1} e_m^T + F`, V (m, size) orthonormal.

    F is what exact arithmetic would not have; the norms of its columns are measured, as is the loss of orthogonality
    :math:`\|V V^T - I\|_2`. Where the Krylov space is complete after fewer products than were asked for, the run
    stops there: `breakdown` is their number, :math:`\beta_m` is zero, and V spans an invariant subspace.
    """

    diagonal: Tensor  # (m,) float64: alpha
    off_diagonal: Tensor  # (m,) float64: beta, the last one the norm of the remainder
    corrections: Tensor  # (m,) float64: norms of the columns of F
    basis: Basis  # the m rows of V, where the storage keeps them
    orthogonality: float
    breakdown: int | None

    @property
    def matrix(self) -> Tensor:
        """T, (m, m)."""
        inner = self.off_diagonal[:-1]
        return torch.diag(self.diagonal) + torch.diag(inner, 1) + torch.diag(inner, -1)

    @property
    def vectors(self) -> Tensor:
        """V, (m, size); a view where it is in memory in the operator's type, read back otherwise."""
        if isinstance(self.basis, MatrixBasis):
            return self.basis.rows[: self.basis.count]
        return combine(self.basis, torch.eye(self.basis.count, dtype=torch.float64))


def lanczos(
    op: LinearOperator,
    num_matvecs: int,
    *,
    generator: torch.Generator,
    start: Tensor | None = None,
    orthogonal_to: Tensor | None = None,
    basis: Storage = InMemory(),  # noqa: B008
    progress: Callable[[int], None] = ignore,
) -> Tridiagonal:
    r"""Reduce A to tridiagonal form on the Krylov space of one vector.

    .. math:: \beta_k v_{k+1} = A v_k - \alpha_k v_k - \beta_{k-1} v_{k-1}, \qquad \alpha_k = v_k^T A v_k

    Every remainder is made orthogonal to all earlier vectors, a second time where the norm says that digits were lost.
    Products are taken in `op.dtype`, recursion and inner products in float64, vectors are stored as `basis` says
    (`basis.memory` tells the bytes beforehand).

    With `orthogonal_to` (k, size), orthonormal rows, the recursion runs on P A P for the projection P onto their
    complement. `start` (size,) is normal noise unless given; `progress` is called with the number of products so far.

    Source: Golub and Van Loan 2013, algorithm 10.1.1, with full orthogonalization (section 10.3.5).

    Raises:
        ValueError: more products than the complement has dimensions, a start vector of no use, a product not finite.
    """
    locked = fixed(orthogonal_to, size=op.size, dtype=op.dtype, device=op.device)
    require_count("num_matvecs", num_matvecs, most=op.size - locked.count, meaning=", the dimension of the space")
    rows = basis.allocate(op.size, num_matvecs, dtype=op.dtype, device=op.device)

    def draw() -> Tensor:
        return gaussian(op.size, generator=generator, device=op.device) if start is None else start

    return tridiagonalize(op, num_matvecs, draw=draw, locked=locked, basis=rows, progress=progress)


def tridiagonalize(
    op: LinearOperator,
    num_matvecs: int,
    *,
    draw: Callable[[], Tensor],
    locked: Basis,
    basis: Basis,
    progress: Callable[[int], None],
) -> Tridiagonal:
    """The run of `lanczos`, in a basis that is cleared and filled: what several runs share is allocated once.

    `draw` makes the start vector, which is let go as soon as it is normalized.

    Raises:
        ValueError: nothing is left of the start vector, or a product is not finite.
    """
    basis.clear()
    recursion = Recursion(op)
    if not recursion.begin(draw(), [locked]):
        raise ValueError("A start vector has a part outside the vectors it is kept orthogonal to. Draw another one.")
    diagonal, off_diagonal, corrections = [], [], []
    for done in range(1, num_matvecs + 1):
        basis.append(recursion.vector)
        step = recursion.advance(basis, others=[locked], done=done)
        diagonal.append(step.alpha)
        off_diagonal.append(step.beta)
        corrections.append(torch.linalg.vector_norm(step.components))
        progress(done)
        if step.beta == 0.0:
            break
        recursion.follow()
    betas = torch.tensor(off_diagonal, dtype=torch.float64)
    return Tridiagonal(
        diagonal=torch.tensor(diagonal, dtype=torch.float64),
        off_diagonal=betas,
        corrections=torch.stack(corrections).cpu() + torch.finfo(op.dtype).eps * betas,
        basis=basis,
        orthogonality=loss_of_orthogonality(basis),
        breakdown=len(diagonal) if off_diagonal[-1] == 0.0 else None,
    )
