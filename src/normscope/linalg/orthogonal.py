"""Linear algebra with a basis that is read block by block: coefficients, projection, combination, Gram matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from normscope.linalg.basis import Basis, MatrixBasis, blocks

# Below this ratio of norms a projection has cancelled digits, and a second one restores them: "twice is enough"
# (Daniel, Gragg, Kaufman and Stewart 1976; Parlett 1998, section 6.9, for 1/sqrt(2)).
_CANCELLATION = 0.7
# Eigenvectors of outliers may sit on a few entries, whose products cancel only over the whole length: a float32 sum of
# 2^17 terms left vectors orthogonal to 1e-5, sums of this many to their own rounding.
_SHORT = 512
# Columns of one piece of a linear combination. A batch of pieces is shared out to all threads, where one product of a
# matrix and a vector is the work of a single one: half the time on two cores.
_LONG = 1 << 14
_GRAM_COLUMNS = 4096  # eight times as fast as the short sums, and too coarse by ten roundings at most


def coefficients(basis: Basis, w: Tensor) -> Tensor:
    """Inner products of all vectors with w (size,): (count,), float64. Blocks are summed in float64."""
    total = torch.zeros(basis.count, dtype=torch.float64, device=w.device)
    if not basis.count:
        return total
    piece = basis.scratch.narrow
    for columns, block in blocks(basis):
        total += _inner_products(block, piece[: block.shape[1]].copy_(w[columns]))
    return total


def _inner_products(block: Tensor, piece: Tensor) -> Tensor:
    """Rows of block (count, width) times piece (width,): sums of `_SHORT` terms as they are, of those in float64."""
    sums = len(piece) // _SHORT
    whole = sums * _SHORT
    pieces = piece[:whole].view(sums, 1, _SHORT)
    rows = block[:, :whole].view(len(block), sums, _SHORT).permute(1, 2, 0)
    rest = block[:, whole:] @ piece[whole:]
    return torch.bmm(pieces, rows).sum((0, 1), dtype=torch.float64).add_(rest)


def project_out(basis: Basis, w: Tensor) -> Tensor:
    """Subtract from w (size,), in place, its components along the basis; return them, (count,)."""
    components = coefficients(basis, w)
    if not basis.count:
        return components
    factors = components.to(basis.dtype)
    narrow, wide = basis.scratch.narrow, basis.scratch.wide
    for columns, block in blocks(basis):
        span = _combination(block, factors, out=narrow[: block.shape[1]])
        w[columns].sub_(wide[: block.shape[1]].copy_(span))
    return components


def _combination(block: Tensor, factors: Tensor, *, out: Tensor) -> Tensor:
    """Rows of block (count, width) times factors (count,), summed into out (width,)."""
    count, width = block.shape
    pieces = width // _LONG
    whole = pieces * _LONG
    rows = block[:, :whole].view(count, pieces, _LONG).transpose(0, 1)
    torch.bmm(factors.expand(pieces, 1, count), rows, out=out[:whole].view(pieces, 1, _LONG))
    torch.mv(block[:, whole:].mT, factors, out=out[whole:])
    return out


def orthogonalize(bases: list[Basis], w: Tensor) -> tuple[list[Tensor], float]:
    """Make w (size,) orthogonal to all vectors of all bases, in place.

    Classical Gram-Schmidt; a second pass follows where the first took away so much that rounding would show.

    Returns the components removed, one tensor (count,) per basis, and the norm of what is left.
    """
    before = torch.linalg.vector_norm(w)
    removed = [project_out(basis, w) for basis in bases]
    # One transfer, so that an accelerator is waited for once.
    norm_before, norm = torch.stack([before, torch.linalg.vector_norm(w)]).tolist()
    if norm < _CANCELLATION * norm_before:
        removed = [first + project_out(basis, w) for first, basis in zip(removed, bases, strict=True)]
        norm = float(torch.linalg.vector_norm(w))
    return removed, norm


def combine(basis: Basis, weights: Tensor) -> Tensor:
    """Linear combinations of the vectors, weights (count, k) -> (k, size)."""
    result = torch.empty(weights.shape[1], basis.size, dtype=basis.dtype, device=basis.device)
    factors = weights.mT.to(basis.device, basis.dtype)
    for columns, block in blocks(basis):
        torch.mm(factors, block, out=result[:, columns])
    return result


def loss_of_orthogonality(basis: Basis) -> float:
    r"""How far the stored vectors are from orthonormal: the spectral norm of :math:`V V^T - I`."""
    gram = torch.zeros(basis.count, basis.count, dtype=torch.float64, device=basis.device)
    for _, block in blocks(basis):
        for piece in torch.split(block, _GRAM_COLUMNS, dim=1):
            gram += piece @ piece.mT
    return float(torch.linalg.eigvalsh(gram.cpu() - torch.eye(basis.count, dtype=torch.float64)).abs().max())


def rotate(basis: MatrixBasis, weights: Tensor) -> None:
    """Replace the vectors, in place, by combinations of themselves, weights (count, k) with k <= count."""
    factors = weights.mT.to(basis.device, basis.dtype)
    for columns, block in blocks(basis):
        basis.rows[: len(factors), columns] = factors @ block
    basis.count = len(factors)
