r"""How far a linear network with batch normalization is from an isometry, by depth, and what its gradients owe to that.

Setting: :math:`X_{l+1} = \mathrm{BN}(W_l X_l)`, X of d features in rows and n = d samples in columns, of full rank; W
orthogonal, drawn from the Haar measure; BN(X) divides each row by its Euclidean norm and subtracts nothing. With
:math:`\lambda_k` the eigenvalues of :math:`X X^\top`, which sum to d after a normalization, the isometry gap is

.. math:: \varphi(X) = \log \frac1d \sum_k \lambda_k - \frac1d \sum_k \log \lambda_k \ge 0,

zero exactly where X is orthogonal up to a factor, and infinite exactly where it is singular. A layer changes it by an
amount that is known exactly (`isometry_gap_after`), and never positive, whatever orthogonal W is.

All bounds hold for the expectation over W, at initialization, with the identity as activation. Everything is float64.

Source: Meterez et al. 2024, "Towards training without depth limits: batch normalization without gradient explosion",
arXiv:2310.02012. `isometry_gap_after` and `isometry_gap_rate` are not in it; they follow from its definitions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SUM_TOLERANCE = 1e-6  # float32 rows of unit norm keep it


def isometry_gap_bound(gap: float, width: int, layers: int) -> Tensor:
    r"""Theorem 1: the expected gap after 0, 1, ..., `layers` layers is at most

    .. math:: \varphi_0 e^{-l/k}, \qquad k = \max(2 d^2, 32 d^3 \varphi_0),

    with the constants of the proof (lemma B.2). It holds for every width and is far from tight, see
    `isometry_gap_rate`.

    Shape: (layers + 1,), float64, the first being `gap`.

    Raises:
        ValueError: a negative gap, a width below 1, or a negative number of layers.
    """
    _check(gap, width)
    if layers < 0:
        raise ValueError(f"layers must be at least 0, got {layers}.")
    decay = max(2.0 * width**2, 32.0 * width**3 * gap)
    return gap * torch.exp(-torch.arange(layers + 1, dtype=torch.float64) / decay)


def isometry_gap_rate(width: int) -> float:
    r"""The factor :math:`1 - 2/(d + 2)` by which one layer shrinks the expected gap where it is small.

    With :math:`\lambda = 1 + \epsilon` the gap is :math:`\sum \epsilon^2 / 2d` to leading order. What it loses is the
    same with the diagonal of :math:`W \,\mathrm{diag}(\epsilon)\, W^\top` in place of :math:`\epsilon`, which by Haar's
    fourth moments is :math:`2/(d + 2)` of it on average. Theorem 1's k = 2 d^2 is 4 d times as slow.

    Raises:
        ValueError: a width below 1.
    """
    _check(0.0, width)
    return 1 - 2 / (width + 2)


def isometry_gap_after(gap: float, row_norms: Tensor) -> float:
    r"""The gap after one layer, exactly.

    .. math:: \varphi(\mathrm{BN}(WX)) = \varphi(X) + \frac1d \sum_j \log \|(WX)_j\|^2

    For X with rows of unit norm and W orthogonal: the determinant of the Gram matrix changes by the row norms alone,
    and its trace is d before and after. The squares of the norms sum to d, so that their logarithms sum to at most 0.

    Args:
        gap: of X.
        row_norms: (d,), the Euclidean norms of the rows of WX, before they are divided by them.

    Raises:
        ValueError: a negative gap, or norms whose squares do not sum to their number (some row of X was no unit vector,
            or W is not orthogonal).
    """
    _check(gap, len(row_norms))
    norms = row_norms.double()
    _check_sum("squared row norms", norms.square())
    return gap + 2 * norms.log().mean().item()


def expected_gap_bound(eigenvalues: Tensor) -> float:
    r"""Corollary 4: with eigenvalues :math:`\lambda_k` of :math:`X X^\top` the expected gap after one layer is at most

    .. math:: \varphi(X) + \log\left(1 - \frac{\sum_k (\lambda_k - 1)^2}{2 d^2 (d + 2)}\right).

    Args:
        eigenvalues: (d,), not negative, of an X with rows of unit norm, so that they sum to d; one of zero makes the
            gap infinite.

    Raises:
        ValueError: a negative eigenvalue, or eigenvalues that do not sum to their number.
    """
    values = eigenvalues.double()
    if not bool((values >= 0).all()):
        raise ValueError("Eigenvalues of a Gram matrix are at least 0, but a smaller one arrived; clamp rounding to 0.")
    _check_sum("eigenvalues", values)
    width = len(values)
    spread = (values - 1).square().sum().item()
    return -values.log().mean().item() + math.log1p(-spread / (2 * width**2 * (width + 2)))


def gradient_log_norm_bound(gap: float, width: int, depth: int) -> float:
    r"""Theorem 5: what bounds the expected log norm of the gradient with respect to any layer's weights,

    .. math:: E \log \|\nabla_{W_l} L\| \lesssim \log d + d^5 \left(\varphi_0^3 + 1 - e^{-L / 32 d^4}\right),

    for a depth L and a loss whose gradient norm with respect to the network's output is at most of order 1
    (cross-entropy and squared error qualify). An absolute constant, which the source leaves open, multiplies it. That
    there is no L once the exponential is gone is what it says; at d = 100 its value, 10^10, says nothing.

    Raises:
        ValueError: a negative gap, a width below 1, or a negative depth.
    """
    _check(gap, width)
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}.")
    return math.log(width) + float(width) ** 5 * (gap**3 - math.expm1(-depth / (32 * width**4)))


def _check(gap: float, width: int) -> None:
    if not gap >= 0:
        raise ValueError(f"An isometry gap is at least 0, got {gap}; clamp what rounding made negative.")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}.")


def _check_sum(what: str, values: Tensor) -> None:
    count, total = len(values), values.sum().item()
    if not abs(total - count) <= _SUM_TOLERANCE * count:
        raise ValueError(f"The {count} {what} must sum to {count}, got {total:.6g}; give X rows of unit norm first.")
