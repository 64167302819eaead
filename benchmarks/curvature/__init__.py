"""Hessian products, densities, traces and top eigenvalues beside other tools: ``python -m benchmarks.curvature``."""
