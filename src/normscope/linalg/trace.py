"""Traces from random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from normscope.linalg.basis import Basis, fixed
from normscope.linalg.eigenpairs import Eigenpairs
from normscope.linalg.estimate import Estimate, estimate
from normscope.linalg.lanczos import Tridiagonal
from normscope.linalg.operators import LinearOperator, ignore, product, require_count, require_finite
from normscope.linalg.orthogonal import project_out
from normscope.linalg.sampling import Distribution, rademacher


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traces:
    """The trace of A and of its square, from the same products."""

    trace: Estimate
    trace_of_square: Estimate
    num_matvecs: int


def traces(
    op: LinearOperator,
    num_samples: int,
    *,
    generator: torch.Generator,
    deflate: Eigenpairs | Tridiagonal | None = None,
    distribution: Distribution = rademacher,
    progress: Callable[[int], None] = ignore,
) -> Traces:
    r"""Trace and trace of the square, one product a sample.

    .. math:: \mathrm{tr} A = E[z^T A z], \qquad \mathrm{tr} A^2 = E\|A z\|^2

    With `deflate`, z is projected onto the complement of a space whose share is known and added; the variance is that
    of the rest alone. The space is that of eigenpairs, or the whole Krylov space of a Lanczos run, whose products
    already tell :math:`\sum_i v_i^T A v_i` and :math:`\sum_i \|A v_i\|^2`. Half the products in such a run and half in
    samples beat deflating the outliers alone where more is wanted than their share. The trace stays free of bias; that
    of the square does with a Lanczos run, and with eigenpairs as far as they have converged.

    Source: Hutchinson 1990; deflation as in Meyer, Musco, Musco and Woodruff 2021, arXiv:2010.09649, algorithm 1.

    Raises:
        ValueError: no samples, or a product that is not finite.
    """
    require_count("num_samples", num_samples)
    known = _known(op, deflate)
    first, second = [], []
    for done in range(1, num_samples + 1):
        z = distribution(op.size, generator=generator, device=op.device)
        project_out(known.space, z)
        Az = product(op, z.to(op.dtype)).to(torch.float64)
        quadratic, square = torch.stack([torch.dot(z, Az), torch.dot(Az, Az)]).tolist()
        require_finite(square, done)
        first.append(quadratic)
        second.append(square)
        progress(done)
    return Traces(
        trace=estimate(torch.tensor(first, dtype=torch.float64) + known.trace),
        trace_of_square=estimate(torch.tensor(second, dtype=torch.float64) + known.trace_of_square),
        num_matvecs=num_samples + known.num_matvecs,
    )


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """A space, and what the matrix does on it: the sums of v'Av and of ‖Av‖² over orthonormal vectors v of it."""

    space: Basis
    trace: float
    trace_of_square: float
    num_matvecs: int


def _known(op: LinearOperator, deflate: Eigenpairs | Tridiagonal | None) -> _Known:
    if isinstance(deflate, Tridiagonal):
        alpha, beta = deflate.diagonal, deflate.off_diagonal
        squares = alpha.square().sum() + beta.square().sum() + beta[:-1].square().sum()
        return _Known(
            space=deflate.basis,
            trace=float(alpha.sum()),
            trace_of_square=float(squares),
            num_matvecs=len(alpha),
        )
    vectors = None if deflate is None else deflate.vectors
    values = torch.zeros(0, dtype=torch.float64) if deflate is None else deflate.values
    return _Known(
        space=fixed(vectors, size=op.size, dtype=op.dtype, device=op.device),
        trace=float(values.sum()),
        trace_of_square=float(values.square().sum()),
        num_matvecs=0 if deflate is None else deflate.num_matvecs,
    )


def trace(
    op: LinearOperator,
    num_samples: int,
    *,
    generator: torch.Generator,
    deflate: Eigenpairs | Tridiagonal | None = None,
    distribution: Distribution = rademacher,
    progress: Callable[[int], None] = ignore,
) -> Estimate:
    """The trace of A, one product a sample; see `traces`, which gives that of the square as well.

    Raises:
        ValueError: no samples, or a product that is not finite.
    """
    return traces(
        op, num_samples, generator=generator, deflate=deflate, distribution=distribution, progress=progress
    ).trace
