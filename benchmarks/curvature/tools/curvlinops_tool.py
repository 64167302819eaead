"""curvlinops: forward-over-reverse under vmap, Lanczos without reorthogonalization, three estimators of a trace."""

from __future__ import annotations

import curvlinops
import torch
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from torch import Tensor, nn

from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool

_TRACES = {
    "hutch++": (curvlinops.hutchpp_trace, 3),
    "xtrace": (curvlinops.xtrace, 2),
}


class Adapter(Tool):
    estimators = tuple(_TRACES)

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        parameters = list(model.parameters())
        arguments = (model, nn.CrossEntropyLoss(), parameters, [batch])
        # The check for determinism costs four products and is off in its own timings.
        self.op = curvlinops.HessianLinearOperator(*arguments, check_deterministic=False, num_data=len(batch[1]))
        self.gauss_newton = curvlinops.GGNLinearOperator(*arguments, check_deterministic=False, num_data=len(batch[1]))
        self.op._matmat = self._by_columns(self.op._matmat)

    def _by_columns(self, matmat):
        metered = self.meter.wrap(matmat)

        def counted(M: list[Tensor]) -> list[Tensor]:
            self.meter.products += M[0].shape[-1] - 1
            return metered(M)

        return counted

    def product(self, v: Tensor) -> Tensor:
        return self.op @ v

    def ggn(self, v: Tensor) -> Tensor:
        return self.gauss_newton @ v

    def density(self, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        # The boundaries only place its grid; left out, ARPACK would look for them in 20 to 150 further products.
        spectrum = curvlinops.LanczosApproximateSpectrumCached(self.op, steps, boundaries=(-1.0, 1.0))
        spectrum.approximate_spectrum(num_repeats=samples)
        nodes, vectors = zip(*spectrum._lanczos_iters, strict=True)
        return torch.stack(nodes), torch.stack(vectors)[:, 0].square()

    def top(self, k: int, budget: int, seed: int) -> Tensor:
        start = torch.randn(self.op.shape[0], generator=torch.Generator().manual_seed(seed))
        # Restarted Lanczos of ARPACK, as its documentation shows; a restart keeps k of ncv vectors.
        ncv = min(budget, max(2 * k + 1, 20))
        restarts = max(1, (budget - ncv) // (ncv - k) + 1)
        scipy_op = self.op.to_scipy(dtype="float32" if self.op.dtype == torch.float32 else "float64")
        try:
            values = eigsh(scipy_op, k=k, which="LA", ncv=ncv, maxiter=restarts, tol=1e-3, v0=start.numpy())[0]
        except ArpackNoConvergence as error:
            values = error.eigenvalues
        return torch.from_numpy(values).sort(descending=True).values

    def trace(self, estimator: str, budget: int, seed: int) -> float:
        torch.manual_seed(seed)
        function, multiple = _TRACES[estimator]
        return float(function(self.op, budget // multiple * multiple))
