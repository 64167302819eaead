"""The density of eigenvalues by stochastic Lanczos quadrature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import InMemory, Storage, fixed
from normscope.linalg.eigenpairs import Eigenpairs
from normscope.linalg.estimate import Estimate, estimate
from normscope.linalg.lanczos import Tridiagonal, tridiagonalize
from normscope.linalg.operators import LinearOperator, ignore, require_count
from normscope.linalg.quadrature import averaged_quadrature, quadrature
from normscope.linalg.sampling import Distribution, gaussian

_CONVERGED = 1e-3  # of the largest magnitude: the tolerance of `top_eigenpairs`, too


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extreme:
    """The outermost Ritz value at one end; an eigenvalue lies within `residual` of it."""

    value: float
    residual: float
    converged: bool  # whether the residual is at most a thousandth of the largest magnitude


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpectralDensity:
    r"""Raw Gauss rules, one per sample, of the density :math:`\frac1n \sum_i \delta(\lambda - \lambda_i)`.

    `atoms` are eigenvalues known beforehand, each of weight 1/n; the weights of every sample sum to the rest,
    :math:`(n - k) / n`. A sample whose Krylov space was complete early is filled up with nodes of weight zero.

    The averaged rules, from the same products, lie closer to the density; curves are drawn from them (`rule`). Ends of
    the spectrum and moments are those of the Gauss rules.
    """

    nodes: Tensor  # (num_samples, m) float64: Ritz values
    weights: Tensor  # (num_samples, m) float64
    residuals: Tensor  # (num_samples, m) float64; within it of each node there is an eigenvalue
    averaged_nodes: Tensor  # (num_samples, 2m - 1) float64
    averaged_weights: Tensor  # (num_samples, 2m - 1) float64
    atoms: Tensor  # (k,) float64
    atom_residuals: Tensor  # (k,) float64
    size: int
    num_matvecs: int

    @property
    def largest(self) -> Extreme:
        """The right end of the spectrum."""
        return self._extreme(torch.argmax)

    @property
    def smallest(self) -> Extreme:
        """The left end of the spectrum."""
        return self._extreme(torch.argmin)

    def _extreme(self, choose: Callable[[Tensor], Tensor]) -> Extreme:
        values = torch.cat([self.nodes.flatten(), self.atoms])
        residuals = torch.cat([self.residuals.flatten(), self.atom_residuals])
        at = choose(values)
        limit = _CONVERGED * values.abs().max()
        return Extreme(value=float(values[at]), residual=float(residuals[at]), converged=bool(residuals[at] <= limit))

    def moment(self, order: int) -> Estimate:
        r"""The mean of :math:`\lambda^{order}` over all eigenvalues."""
        known = self.atoms.pow(order).sum() / self.size
        return estimate((self.weights * self.nodes.pow(order)).sum(1) + known)

    def trace(self) -> Estimate:
        """The sum of all eigenvalues."""
        return estimate(self.size * self.moment(1).samples)

    def rule(self) -> tuple[Tensor, Tensor]:
        """All averaged rules and atoms as one: nodes, ascending, and weights that sum to one, (N,) each."""
        nodes = torch.cat([self.averaged_nodes.flatten(), self.atoms])
        shares = self.averaged_weights.flatten() / len(self.averaged_weights)
        weights = torch.cat([shares, self.atoms.new_full(self.atoms.shape, 1 / self.size)])
        ascending, order = nodes.sort()
        return ascending, weights[order]

    def cumulative(self, t: Tensor) -> Tensor:
        """The fraction of eigenvalues at most t, (T,) -> (T,) float64: the staircase of `rule`."""
        nodes, weights = self.rule()
        heights = torch.cat([weights.new_zeros(1), weights.cumsum(0)])
        return heights[torch.searchsorted(nodes, t.to(nodes), right=True)]


def spectral_density(
    op: LinearOperator,
    num_matvecs: int = 90,
    num_samples: int = 10,
    *,
    generator: torch.Generator,
    deflate: Eigenpairs | None = None,
    basis: Storage = InMemory(),  # noqa: B008
    distribution: Distribution = gaussian,
    progress: Callable[[int], None] = ignore,
) -> SpectralDensity:
    r"""Gauss rules of A from `num_samples` random vectors, `num_matvecs` products each.

    For z uniform on the sphere, :math:`E[z^T f(A) z] = \frac1n \mathrm{tr} f(A)`, and m products give the left side
    exactly for polynomials f of degree 2m - 1.

    With `deflate`, those eigenpairs are taken out: starts are projected onto their complement, the recursion runs on
    P A P, and they return as atoms. What the outliers contributed to the variance is gone, and fewer products resolve
    the rest; their residuals are added to the bounds, for P A P differs from A by them.

    Memory: ``basis.memory(op.size, num_matvecs, op.dtype)`` bytes.
    Source: Golub and Meurant 2010, section 11.6; Ghorbani, Krishnan and Xiao 2019, arXiv:1901.10159, algorithm 1.

    Raises:
        ValueError: more products a sample than dimensions, no samples, or a product that is not finite.
    """
    require_count("num_samples", num_samples)
    locked = fixed(None if deflate is None else deflate.vectors, size=op.size, dtype=op.dtype, device=op.device)
    most = op.size - locked.count
    require_count("num_matvecs", num_matvecs, most=most, meaning=", the dimension of the space")
    rows = basis.allocate(op.size, num_matvecs, dtype=op.dtype, device=op.device)
    runs: list[Tridiagonal] = []
    spent = 0
    for _ in range(num_samples):
        before = spent
        run = tridiagonalize(
            op,
            num_matvecs,
            draw=lambda: distribution(op.size, generator=generator, device=op.device),
            locked=locked,
            basis=rows,
            progress=lambda done: progress(before + done),  # noqa: B023  (called within this turn of the loop)
        )
        spent += len(run.diagonal)
        runs.append(run)
    atoms = torch.zeros(0, dtype=torch.float64) if deflate is None else deflate.values
    atom_residuals = torch.zeros(0, dtype=torch.float64) if deflate is None else deflate.residuals
    rules = [quadrature(run) for run in runs]
    averaged = [averaged_quadrature(run) for run in runs]
    share, leak = most / op.size, torch.linalg.vector_norm(atom_residuals)
    return SpectralDensity(
        nodes=_stacked([rule.nodes for rule in rules]),
        weights=_stacked([rule.weights for rule in rules], filling=0.0) * share,
        residuals=_stacked([rule.residuals for rule in rules]) + leak,
        averaged_nodes=_stacked([nodes for nodes, _ in averaged]),
        averaged_weights=_stacked([weights for _, weights in averaged], filling=0.0) * share,
        atoms=atoms,
        atom_residuals=atom_residuals,
        size=op.size,
        num_matvecs=spent + (0 if deflate is None else deflate.num_matvecs),
    )


def _stacked(rows: list[Tensor], *, filling: float | None = None) -> Tensor:
    """Rows of unequal length as one matrix, the short ones filled up with `filling`, or with their last entry."""
    filled = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.float64)
    for target, row in zip(filled, rows, strict=True):
        target[: len(row)] = row
        target[len(row) :] = row[-1] if filling is None else filling
    return filled
