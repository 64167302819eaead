"""Extreme eigenvalues and their vectors, until they have converged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from normscope.linalg.lanczos import Tridiagonal
from normscope.linalg.operators import LinearOperator, ignore, require_count
from normscope.linalg.orthogonal import combine
from normscope.linalg.quadrature import quadrature
from normscope.linalg.sampling import gaussian
from normscope.linalg.subspace import Ritz, Subspace

Which = Literal["largest", "smallest", "magnitude"]
# What each choice ranks by, the greatest first.
_RANKS: dict[Which, Callable[[Tensor], Tensor]] = {
    "largest": torch.clone,
    "smallest": torch.neg,
    "magnitude": torch.abs,
}
# Looking at the Ritz values costs an eigendecomposition of the projection: every few products, not every one.
_PRODUCTS_BETWEEN_CHECKS = 4


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Eigenpairs:
    """Eigenvalues in the order asked for, with orthonormal vectors.

    Within `residuals[i]` of `values[i]` there is an eigenvalue; `converged[i]` says whether the residual is within the
    tolerance. `note` tells in words how the search ended.
    """

    values: Tensor  # (k,) float64
    vectors: Tensor  # (k, size), the operator's type
    residuals: Tensor  # (k,) float64
    converged: Tensor  # (k,) bool
    num_matvecs: int
    note: str


def top_eigenpairs(
    op: LinearOperator,
    k: int = 10,
    *,
    generator: torch.Generator,
    which: Which = "largest",
    tolerance: float = 1e-3,
    max_matvecs: int = 1000,
    max_vectors: int = 90,
    search_matvecs: int | None = None,
    progress: Callable[[int], None] = ignore,
) -> Eigenpairs:
    r"""The k largest, smallest, or largest in magnitude, by thick-restart Lanczos.

    Goes on until every residual is at most `tolerance` times the largest \|Ritz value\|, or `max_matvecs` products are
    spent. One start vector sees one copy of a multiple eigenvalue; so when all have converged, `search_matvecs` further
    products (2k unless given) start afresh, orthogonal to what is there. Whatever they bring up is brought to
    convergence too, and looked behind again, until nothing better comes.

    Memory: ``max_vectors * size`` entries of `op.dtype` for the space, and k of them for the result.
    Source: Wu and Simon 2000, SIAM J. Matrix Anal. Appl. 22, algorithm 3.

    Raises:
        ValueError: k exceeds the size, `which` is unknown, `tolerance` is not positive, `max_vectors` leaves no room,
            or a product is not finite.
    """
    require_count("k", k, most=op.size, meaning=", the size of the operator")
    require_count("max_matvecs", max_matvecs)
    require_count("max_vectors", max_vectors)
    _require_which(which)
    if not tolerance > 0:
        raise ValueError(f"The tolerance is above 0, but {tolerance} arrived. Pass 1e-3, say.")
    if max_vectors < min(k + 3, op.size):
        raise ValueError(f"{k} eigenpairs need room for {k + 3} vectors, but max_vectors is {max_vectors}. Raise it.")
    run = _Run(
        space=Subspace(op, capacity=min(max_vectors, op.size), progress=progress),
        k=k,
        rank=_RANKS[which],
        tolerance=tolerance,
        max_matvecs=max_matvecs,
        generator=generator,
    )
    return run.result(run.search(2 * k if search_matvecs is None else search_matvecs))


def ritz_pairs(run: Tridiagonal, k: int, *, which: Which = "largest", tolerance: float = 1e-3) -> Eigenpairs:
    """The k outermost Ritz pairs of a Lanczos run as they are; `converged` tells which are within the tolerance.

    Raises:
        ValueError: k exceeds the products of the run, or `which` is unknown.
    """
    rule = quadrature(run)
    require_count("k", k, most=len(rule.nodes), meaning=", the products of the run")
    _require_which(which)
    first = _RANKS[which](rule.nodes).argsort(descending=True)[:k]
    converged = rule.residuals[first] <= tolerance * rule.nodes.abs().max()
    return Eigenpairs(
        values=rule.nodes[first],
        vectors=combine(run.basis, rule.vectors[:, first]),
        residuals=rule.residuals[first],
        converged=converged,
        num_matvecs=len(rule.nodes),
        note=f"{int(converged.sum())} of {k} converged in one run; not searched for copies of multiple eigenvalues",
    )


def _require_which(which: str) -> None:
    if which not in _RANKS:
        raise ValueError(f"`which` is one of {', '.join(_RANKS)}, but {which!r} arrived. Choose one of them.")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """The search for k pairs within one space: its options, and the loops over it."""

    space: Subspace
    k: int
    rank: Callable[[Tensor], Tensor]
    tolerance: float
    max_matvecs: int
    generator: torch.Generator

    def search(self, search_matvecs: int) -> str:
        """Converge, start afresh and look again until nothing better comes; return how it ended."""
        self.begin_afresh()
        best = self.converge()
        while not self.exhausted() and search_matvecs:
            self.begin_afresh()
            self.grow(search_matvecs)
            previous, best = best, self.converge()
            if float((best - previous).max()) <= self.tolerance * self.scale():
                return (
                    f"{search_matvecs} products from a fresh start found no further eigenvalue among the first {self.k}"
                )
        if self.space.basis.count == self.space.op.size:
            return "the whole space was searched"
        if self.exhausted():
            return f"stopped at the limit of {self.max_matvecs} products"
        return "not searched for further copies of multiple eigenvalues"

    def converge(self) -> Tensor:
        """Grow the space until the first k have converged, or nothing is left to spend; return their ranks."""
        while True:
            ritz = self.space.ritz()
            first = self.order(ritz)[: self.k]
            late = first[ritz.residuals[first] > self.tolerance * ritz.values.abs().max()]
            if (len(first) == self.k and len(late) == 0) or self.exhausted():
                ranks = self.rank(ritz.values[first])
                return torch.cat([ranks, ranks.new_full((self.k - len(ranks),), -torch.inf)])
            self.redirect(ritz, late)
            self.grow(_PRODUCTS_BETWEEN_CHECKS)

    def redirect(self, ritz: Ritz, late: Tensor) -> None:
        """Choose the direction that the residuals of the `late` pairs need most; any where the space is complete."""
        aside = ritz.aside[:, late].amax(1) if len(late) else ritz.aside.amax(1)
        if len(aside) and (self.space.complete or aside.max() > ritz.ahead[late].max()):
            self.make_room()
            self.space.resume(int(aside.argmax()))
        elif self.space.complete:
            self.begin_afresh()

    def grow(self, products: int) -> None:
        """Spend so many products, fewer where the space is complete or the limit is reached."""
        for _ in range(products):
            if self.exhausted() or self.space.complete:
                return
            self.make_room()
            self.space.extend()

    def make_room(self) -> None:
        """Where the space is full, keep the first k Ritz vectors and half of what it holds beyond them."""
        if self.space.basis.count == self.space.capacity:
            ritz = self.space.ritz()
            kept = self.k + (self.space.capacity - self.k) // 2
            self.space.compress(ritz, self.order(ritz)[: min(kept, self.space.capacity - 2)])

    def begin_afresh(self) -> None:
        """A random vector, orthogonal to the space, and its product."""
        self.make_room()
        op = self.space.op
        self.space.begin_afresh(gaussian(op.size, generator=self.generator, device=op.device))

    def exhausted(self) -> bool:
        """Whether the products are spent or the space is everything."""
        space = self.space
        return space.num_matvecs >= self.max_matvecs or space.basis.count == space.op.size

    def order(self, ritz: Ritz) -> Tensor:
        """Positions of the Ritz pairs, best first."""
        return self.rank(ritz.values).argsort(descending=True)

    def scale(self) -> float:
        """The largest magnitude among the Ritz values."""
        return float(self.space.ritz().values.abs().max())

    def result(self, ending: str) -> Eigenpairs:
        """The first k pairs, their bounds widened by the measured loss of orthogonality."""
        ritz = self.space.ritz()
        first = self.order(ritz)[: self.k]
        residuals = self.space.measured_residuals(ritz)[first]
        converged = residuals <= self.tolerance * ritz.values.abs().max()
        return Eigenpairs(
            values=ritz.values[first],
            vectors=combine(self.space.basis, ritz.coordinates[:, first]),
            residuals=residuals,
            converged=converged,
            num_matvecs=self.space.num_matvecs,
            note=f"{int(converged.sum())} of {self.k} converged; {ending}",
        )
