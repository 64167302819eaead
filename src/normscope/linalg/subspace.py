"""A Krylov space that can be compressed to its best Ritz vectors, and widened from a fresh start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import MatrixBasis
from normscope.linalg.operators import LinearOperator
from normscope.linalg.orthogonal import loss_of_orthogonality, orthogonalize, rotate
from normscope.linalg.recursion import Recursion

# Directions put aside: each is one more vector in memory. What is beyond these still counts in the bounds.
_MOST_ASIDE = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ritz:
    """Approximate eigenvalues, eigenvectors as coordinates, and what their residuals consist of."""

    values: Tensor  # (m,) float64, ascending
    coordinates: Tensor  # (m, m) float64, columns
    ahead: Tensor  # (m,) float64: the part of the residual along the remainder, which further products reduce
    aside: Tensor  # (r, m) float64: along each direction put aside, which `Subspace.resume` reduces
    defects: Tensor  # (m,) float64: a bound for the part that rounding made

    @property
    def residuals(self) -> Tensor:
        """Bounds on the norms of the residuals, (m,)."""
        return self.ahead + self.aside.sum(0) + self.defects


@final
class Subspace:
    r"""Orthonormal rows V and the projection T = V A V^T, grown one product at a time.

    T is tridiagonal but for its first `kept` rows, which were there before the latest (re)start and whose couplings to
    every later vector are measured. What A V has outside the span of V is

    .. math:: A V^T = V^T T + v_{next} b^T + \sum_r u_r o_r^T + F,

    with the remainder's known coordinates b (:math:`\beta e_m`, until compressed), those o_r of a direction u_r that
    was put aside at a fresh start, and the rounding F.
    """

    def __init__(self, op: LinearOperator, *, capacity: int, progress: Callable[[int], None]) -> None:
        self.op = op
        self.basis = MatrixBasis(torch.empty(capacity, op.size, dtype=op.dtype, device=op.device), count=0)
        self.num_matvecs = 0
        self._progress = progress
        self._recursion = Recursion(op)
        self._projection = torch.zeros(capacity, capacity, dtype=torch.float64)
        self._beta = 0.0  # norm of the remainder
        self._ahead = torch.zeros(capacity, dtype=torch.float64)  # b
        self._aside = torch.zeros(0, capacity, dtype=torch.float64)  # o
        self._put_aside: list[Tensor] = []  # u
        self._defects = torch.zeros(capacity, dtype=torch.float64)  # norms of the columns of F
        self._kept = 0

    @property
    def capacity(self) -> int:
        """The number of rows there is room for."""
        return self.basis.rows.shape[0]

    @property
    def complete(self) -> bool:
        """Whether the space is invariant, so that only a fresh start can widen it."""
        return self._beta == 0.0

    def begin_afresh(self, start: Tensor) -> bool:
        """Go on from `start` (size,), made orthogonal to all rows, and add it; the remainder so far is put aside.

        Returns whether anything was left of `start`; if not, the space is `complete` until another start.
        """
        if not self.complete:
            self._put_aside.append(self._recursion.vector.clone())
            self._aside = torch.cat([self._aside, self._ahead[None]])
            self._ahead.zero_()
            self._beta = 0.0
        if len(self._put_aside) > _MOST_ASIDE:
            least = int(torch.linalg.vector_norm(self._aside, dim=1).argmin())
            self._defects += self._take(least)[1].abs()
        self._kept = self.basis.count
        begun = self._recursion.begin(start, [self.basis])
        if begun:
            self.extend()
        return begun

    def resume(self, index: int) -> bool:
        """Go on from a direction that was put aside, as from a fresh start; it is put aside no more."""
        direction, _ = self._take(index)
        return self.begin_afresh(direction)

    def _tighten(self) -> None:
        """Take out of the directions put aside what the rows hold of them by now, before rows are given up."""
        for direction, coordinates in zip(self._put_aside, self._aside, strict=True):
            rest = direction.to(torch.float64, copy=True)
            _, norm = orthogonalize([self.basis], rest)
            direction.copy_(rest.div_(norm) if norm > 0 else rest)
            coordinates.mul_(norm)

    def _take(self, index: int) -> tuple[Tensor, Tensor]:
        """Remove a direction that was put aside; return it and its coordinates."""
        coordinates = self._aside[index]
        self._aside = torch.cat([self._aside[:index], self._aside[index + 1 :]])
        return self._put_aside.pop(index), coordinates

    def extend(self) -> None:
        """Add the latest vector of the recursion as a row, and its product."""
        index = self.basis.count
        self.basis.append(self._recursion.vector)
        step = self._recursion.advance(self.basis, others=[], done=self.num_matvecs + 1)
        components, T = step.components.cpu(), self._projection
        T[index, index] = step.alpha
        T[: self._kept, index] = T[index, : self._kept] = components[: self._kept]
        if index > self._kept:
            T[index - 1, index] = T[index, index - 1] = self._beta
        rounding = torch.finfo(self.op.dtype).eps * step.beta
        self._defects[index] = torch.linalg.vector_norm(components[self._kept :]) + rounding
        self._beta = step.beta
        self._ahead.zero_()[index] = step.beta
        if not self.complete:
            self._recursion.follow()
        self.num_matvecs += 1
        self._progress(self.num_matvecs)

    def ritz(self) -> Ritz:
        """Ritz pairs with residual bounds, orthogonality taken for granted."""
        m = self.basis.count
        values, S = torch.linalg.eigh(self._projection[:m, :m])
        return Ritz(
            values=values,
            coordinates=S,
            ahead=(self._ahead[:m] @ S).abs(),
            aside=(self._aside[:, :m] @ S).abs(),
            defects=self._defects[:m] @ S.abs(),
        )

    def measured_residuals(self, ritz: Ritz) -> Tensor:
        """The residual bounds, widened by the measured loss of orthogonality, (m,)."""
        loss = min(loss_of_orthogonality(self.basis), 1.0)
        widened: Tensor = ritz.residuals / (1 - loss) ** 0.5 + loss * ritz.values.abs().max()
        return widened

    def compress(self, ritz: Ritz, chosen: Tensor) -> None:
        """Keep the chosen Ritz vectors only, and go on with the same remainder (Wu and Simon 2000, thick restart)."""
        self._tighten()
        m, p = self.basis.count, len(chosen)
        S = ritz.coordinates[:, chosen]
        rotate(self.basis, S)
        ahead, aside = self._ahead[:m] @ S, self._aside[:, :m] @ S
        self._projection.zero_()[:p, :p] = torch.diag(ritz.values[chosen])
        self._ahead.zero_()[:p] = ahead
        self._aside.zero_()[:, :p] = aside
        self._defects.zero_()[:p] = ritz.defects[chosen]
        self._kept = p
        self._recursion.forget()
