"""Numerical linear algebra over a matvec: Lanczos, quadrature, spectral density, extreme eigenpairs, trace."""

from normscope.linalg.basis import InMemory, Storage
from normscope.linalg.compact import HalfPrecision
from normscope.linalg.density import Extreme, SpectralDensity, spectral_density
from normscope.linalg.disk import OnDisk
from normscope.linalg.eigenpairs import Eigenpairs, ritz_pairs, top_eigenpairs
from normscope.linalg.estimate import Estimate
from normscope.linalg.lanczos import Tridiagonal, lanczos
from normscope.linalg.operators import DenseOperator, LinearOperator
from normscope.linalg.products import product_singular_values
from normscope.linalg.quadrature import Quadrature, averaged_quadrature, quadrature
from normscope.linalg.sampling import Distribution, gaussian, rademacher
from normscope.linalg.smoothing import default_width, grid, smooth
from normscope.linalg.spectrum import Spectrum, spectrum
from normscope.linalg.trace import Traces, trace, traces

__all__ = [
    "DenseOperator",
    "Distribution",
    "Eigenpairs",
    "Estimate",
    "Extreme",
    "HalfPrecision",
    "InMemory",
    "LinearOperator",
    "OnDisk",
    "Quadrature",
    "SpectralDensity",
    "Spectrum",
    "Storage",
    "Traces",
    "Tridiagonal",
    "averaged_quadrature",
    "default_width",
    "gaussian",
    "grid",
    "lanczos",
    "product_singular_values",
    "quadrature",
    "rademacher",
    "ritz_pairs",
    "smooth",
    "spectral_density",
    "spectrum",
    "top_eigenpairs",
    "trace",
    "traces",
]
