"""Outliers first, then the rest: the spectrum at a stated error in half the products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch

from normscope.linalg.basis import InMemory, Storage
from normscope.linalg.density import SpectralDensity, spectral_density
from normscope.linalg.eigenpairs import Eigenpairs, top_eigenpairs
from normscope.linalg.operators import LinearOperator, ignore


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectrum:
    """The k eigenvalues of largest magnitude, and the density, in which they are atoms."""

    top: Eigenpairs
    density: SpectralDensity

    @property
    def num_matvecs(self) -> int:
        """All products, those for the eigenpairs included."""
        return self.density.num_matvecs


def spectrum(
    op: LinearOperator,
    k: int = 10,
    num_matvecs: int = 60,
    num_samples: int = 5,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-4,
    max_vectors: int = 90,
    basis: Storage = InMemory(),  # noqa: B008
    progress: Callable[[int], None] = ignore,
) -> Spectrum:
    """Top eigenpairs by `top_eigenpairs`, and the density of the rest by `spectral_density` with those taken out.

    Outliers make the variance of the trace and cost a plain density its first products, over and over in each sample.
    Found once, they are exact, and what is left is narrow: on spectra like a network's Hessian, half the products of
    ten plain samples of eighty give a smaller error in the density and a several times smaller one in the trace. The
    tolerance is tighter than that of `top_eigenpairs`, because the last digits cost two or three products.

    Memory: that of `top_eigenpairs`, then that of `spectral_density` beside k vectors.

    Raises:
        ValueError: as either of the two.
    """
    top = top_eigenpairs(
        op,
        k,
        generator=generator,
        which="magnitude",
        tolerance=tolerance,
        max_vectors=max_vectors,
        progress=progress,
    )
    density = spectral_density(
        op,
        num_matvecs,
        num_samples,
        generator=generator,
        deflate=top,
        basis=basis,
        progress=lambda done: progress(top.num_matvecs + done),
    )
    return Spectrum(top=top, density=density)
