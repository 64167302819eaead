"""Density, trace and outliers out of one budget: a stated error in half the products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from normscope.linalg.basis import InMemory, Storage
from normscope.linalg.density import SpectralDensity, spectral_density
from normscope.linalg.eigenpairs import Eigenpairs, Which, ritz_pairs
from normscope.linalg.lanczos import lanczos
from normscope.linalg.operators import LinearOperator, ignore
from normscope.linalg.trace import Traces, traces

_OUTERMOST: Which = "magnitude"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """The k eigenvalues of largest magnitude, the traces, and the density, in which the former are atoms."""

    top: Eigenpairs
    traces: Traces
    density: SpectralDensity
    num_matvecs: int  # all products


def spectrum(
    op: LinearOperator,
    k: int = 10,
    num_matvecs: int = 60,
    num_samples: int = 4,
    *,
    num_traces: int = 60,
    generator: torch.Generator,
    tolerance: float = 1e-3,
    basis: Storage = InMemory(),  # noqa: B008
    progress: Callable[[int], None] = ignore,
) -> Spectrum:
    """Top eigenpairs, traces and density, each made easier by what was found before.

    One Lanczos run of `num_matvecs` products gives the outliers, and `top.converged` says which of them are within the
    tolerance. Its whole Krylov space is then taken out of the trace, which `num_traces` products estimate on the rest,
    and the outliers out of the density, for which `num_samples` further runs suffice: the variance was theirs, they
    cost every plain sample its first products, and what is left is narrow.

    Memory: that of one Lanczos run, and k vectors. The first run's is given back before the density begins.

    Raises:
        ValueError: as `lanczos`, `ritz_pairs`, `traces` and `spectral_density` do.
    """
    run = lanczos(op, num_matvecs, generator=generator, basis=basis, progress=progress)
    top = ritz_pairs(run, k, which=_OUTERMOST, tolerance=tolerance)
    spent = top.num_matvecs
    estimates = traces(op, num_traces, generator=generator, deflate=run, progress=lambda done: progress(spent + done))
    del run
    spent += num_traces
    density = spectral_density(
        op,
        min(num_matvecs, op.size - k),
        num_samples,
        generator=generator,
        deflate=top,
        basis=basis,
        progress=lambda done: progress(spent + done),
    )
    return Spectrum(top=top, traces=estimates, density=density, num_matvecs=density.num_matvecs + num_traces)
