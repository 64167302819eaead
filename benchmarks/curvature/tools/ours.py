"""normscope: the operator chooses its machinery; Lanczos, deflation and traces are `normscope.linalg`'s."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool
from normscope import curvature, linalg


class Metered:
    """A `LinearOperator` that counts."""

    def __init__(self, op: linalg.LinearOperator, meter: Meter) -> None:
        self.size, self.dtype, self.device = op.size, op.dtype, op.device
        self.matvec = meter.wrap(op.matvec)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Adapter(Tool):
    estimators = ("hutchinson", "krylov")

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        self.arguments = (model, F.cross_entropy, [batch])

    # Each matrix when it is asked for: the tape of one would count in the other's memory.
    @functools.cached_property
    def op(self) -> Metered:
        return Metered(curvature.HessianOperator(*self.arguments), self.meter)

    @functools.cached_property
    def gauss_newton(self) -> linalg.LinearOperator:
        return curvature.GGNOperator(*self.arguments)

    def product(self, v: Tensor) -> Tensor:
        return self.op.matvec(v)

    def ggn(self, v: Tensor) -> Tensor:
        return self.gauss_newton.matvec(v)

    def density(self, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
        return linalg.spectral_density(self.op, steps, samples, generator=seeded(seed)).rule()

    def top(self, k: int, budget: int, seed: int) -> Tensor:
        return linalg.top_eigenpairs(self.op, k, generator=seeded(seed), max_matvecs=budget).values

    def trace(self, estimator: str, budget: int, seed: int) -> float:
        generator = seeded(seed)
        run = linalg.lanczos(self.op, budget // 2, generator=generator) if estimator == "krylov" else None
        left = budget - (0 if run is None else len(run.diagonal))
        return linalg.trace(self.op, left, generator=generator, deflate=run).value

    def together(self, budget: int, steps: int, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor, float]:
        # `linalg.spectrum`, its budget divided: a Lanczos run for the outliers, then the trace, then the density.
        first = min(max(40, budget // 3), 60, 2 * budget // 3)  # forty bring the ten outliers out
        steps = min(steps, (budget - first) // 2)
        num_samples = (budget - first) // (2 * steps)
        num_traces = budget - first - num_samples * steps
        generator = seeded(seed)
        run = linalg.lanczos(self.op, first, generator=generator)
        pairs = linalg.ritz_pairs(run, 10, which="magnitude")
        estimate = linalg.trace(self.op, num_traces, generator=generator, deflate=run)
        density = linalg.spectral_density(self.op, steps, num_samples, generator=generator, deflate=pairs)
        return density.rule(), pairs.values, estimate.value
