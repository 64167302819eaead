"""hessian-eigenthings: double backward anew for each product, Lanczos with full reorthogonalization, Hutch++."""

from __future__ import annotations

import hessian_eigenthings as he
from torch import Tensor, nn

from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool


class Adapter(Tool):
    estimators = ("hutchinson", "hutch++")

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        criterion = nn.CrossEntropyLoss()
        hessian = he.HessianOperator(model, [batch], he.supervised_loss(criterion))
        self.op = he.LambdaOperator(self.meter.wrap(hessian.matvec), hessian.size, dtype=hessian.dtype)
        loss_of_output = he.supervised_loss_of_output(criterion)
        self.gauss_newton = he.GGNOperator(model, [batch], he.supervised_forward, loss_of_output)

    def product(self, v: Tensor) -> Tensor:
        return self.op.matvec(v)

    def ggn(self, v: Tensor) -> Tensor:
        return self.gauss_newton.matvec(v)

    def density(self, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
        # Its runs take consecutive seeds: spaced so that no two calls share a start vector.
        result = he.spectral_density(self.op, num_runs=samples, lanczos_steps=steps, seed=1000 * seed)
        return result.raw_eigenvalues.nan_to_num(), result.raw_weights

    def top(self, k: int, budget: int, seed: int) -> Tensor:
        result = he.lanczos(self.op, k=k, max_iter=budget, which="LA", reorthogonalize=True, seed=seed)
        return result.eigenvalues

    def trace(self, estimator: str, budget: int, seed: int) -> float:
        return he.trace(self.op, num_matvecs=budget, method=estimator, seed=seed).estimate
