"""The Gauss rule of a tridiagonal matrix, and the averaged one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.lanczos import Tridiagonal


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quadrature:
    r"""Nodes, ascending, and weights with :math:`v_1^T f(A) v_1 \approx \sum_j \omega_j f(\theta_j)`.

    Exact for polynomials of degree up to 2m - 1. Within `residuals[j]` of each node there is an eigenvalue.
    """

    nodes: Tensor  # (m,) float64: Ritz values
    weights: Tensor  # (m,) float64, sum 1
    residuals: Tensor  # (m,) float64
    vectors: Tensor  # (m, m) float64: of each node, in columns, in coordinates of the run's basis


def quadrature(tridiagonal: Tridiagonal) -> Quadrature:
    r"""Gauss rule of T = S diag(theta) S^T: nodes theta, weights the squared first components of the eigenvectors.

    The residual of a Ritz pair is :math:`\beta_m |s_{mj}|` in exact arithmetic. What rounding did is added: the
    measured defects of the recursion along the Ritz vector, and the measured loss of orthogonality :math:`\epsilon`,

    .. math:: r_j = \frac{\beta_m |s_{mj}| + \sum_k |s_{kj}| \|F_k\|}{\sqrt{1 - \epsilon}}
                    + \epsilon \max_i |\theta_i|

    Source: Golub and Meurant 2010, section 6.2; for the residual, Parlett 1998, section 13.2.
    """
    nodes, vectors = torch.linalg.eigh(tridiagonal.matrix)
    loss = min(tridiagonal.orthogonality, 1.0)
    defects = tridiagonal.off_diagonal[-1] * vectors[-1].abs() + tridiagonal.corrections @ vectors.abs()
    return Quadrature(
        nodes=nodes,
        weights=vectors[0].square(),
        residuals=defects / (1 - loss) ** 0.5 + loss * nodes.abs().max(),
        vectors=vectors,
    )


def averaged_quadrature(tridiagonal: Tridiagonal) -> tuple[Tensor, Tensor]:
    r"""Nodes and weights, (2m - 1,) each, of the averaged Gauss rule: twice as many from the same m products.

    The recursion coefficients are run forwards, through the last remainder, and back again:
    :math:`\alpha_1 \dots \alpha_m, \alpha_{m-1} \dots \alpha_1` and
    :math:`\beta_1 \dots \beta_m, \beta_{m-2} \dots \beta_1`. The rule is exact for polynomials of degree up to 2m, its
    weights are positive, and its staircase is about half as coarse as that of the Gauss rule; its nodes are no Ritz
    values. Where the Krylov space was complete, the Gauss rule is exact and is returned instead.

    Source: Spalević 2007, Math. Comp. 76, 1483-1492.
    """
    if tridiagonal.breakdown is not None or len(tridiagonal.diagonal) == 1:
        rule = quadrature(tridiagonal)
        return rule.nodes, rule.weights
    alpha, beta = tridiagonal.diagonal, tridiagonal.off_diagonal
    there_and_back = torch.diag(torch.cat([alpha, alpha[:-1].flip(0)]))
    off = torch.cat([beta, beta[:-2].flip(0)])
    nodes, vectors = torch.linalg.eigh(there_and_back + torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0].square()
