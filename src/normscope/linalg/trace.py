"""Traces from random vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from normscope.linalg.basis import fixed
from normscope.linalg.eigenpairs import Eigenpairs
from normscope.linalg.estimate import Estimate, estimate
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
    deflate: Eigenpairs | None = None,
    distribution: Distribution = rademacher,
    progress: Callable[[int], None] = ignore,
) -> Traces:
    r"""Trace and trace of the square, one product a sample.

    .. math:: \mathrm{tr} A = E[z^T A z], \qquad \mathrm{tr} A^2 = E\|A z\|^2

    With `deflate`, z is projected onto the complement of those eigenvectors, and their eigenvalues (squared) are added:
    the variance is then that of the rest alone, exactly so where the pairs are eigenpairs, and without bias in the
    trace where they are Ritz pairs.

    Source: Hutchinson 1990; deflation as in Meyer, Musco, Musco and Woodruff 2021, arXiv:2010.09649.

    Raises:
        ValueError: no samples, or a product that is not finite.
    """
    require_count("num_samples", num_samples)
    locked = fixed(None if deflate is None else deflate.vectors, size=op.size, dtype=op.dtype, device=op.device)
    values = torch.zeros(0, dtype=torch.float64) if deflate is None else deflate.values
    first, second = [], []
    for done in range(1, num_samples + 1):
        z = distribution(op.size, generator=generator, device=op.device)
        project_out(locked, z)
        Az = product(op, z.to(op.dtype)).to(torch.float64)
        quadratic, square = torch.stack([torch.dot(z, Az), torch.dot(Az, Az)]).tolist()
        require_finite(square, done)
        first.append(quadratic)
        second.append(square)
        progress(done)
    return Traces(
        trace=estimate(torch.tensor(first, dtype=torch.float64) + values.sum()),
        trace_of_square=estimate(torch.tensor(second, dtype=torch.float64) + values.square().sum()),
        num_matvecs=num_samples + (0 if deflate is None else deflate.num_matvecs),
    )


def trace(
    op: LinearOperator,
    num_samples: int,
    *,
    generator: torch.Generator,
    deflate: Eigenpairs | None = None,
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
