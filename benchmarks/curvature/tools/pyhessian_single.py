"""PyHessian on one batch, as its README shows: the graph of the gradient is made once, in eval mode, and kept."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pyhessian
import torch
from torch import Tensor, nn

from benchmarks.curvature.exact import flat
from benchmarks.curvature.problems import Batch
from benchmarks.curvature.tools.protocol import Meter, Tool

_HOME = sys.modules["pyhessian.hessian"]


def eig_of_old(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """`torch.eig`, removed in torch 1.13, which PyHessian 0.1 still calls: (real and imaginary parts, vectors)."""
    assert eigenvectors
    values, vectors = torch.linalg.eig(matrix)
    return torch.view_as_real(values), vectors.real


class Adapter(Tool):
    order = "magnitude"  # power iteration
    estimators = ("hutchinson",)

    def __init__(self, model: nn.Module, batch: Batch) -> None:
        self.meter = Meter()
        self.tool = pyhessian.hessian(model, nn.CrossEntropyLoss(), data=batch, cuda=False)
        self.sizes = [p.numel() for p in self.tool.params]
        self.metered = self.meter.wrap(pyhessian.utils.hessian_vector_product)
        _HOME.hessian_vector_product = self.metered

    @contextlib.contextmanager
    def supplied(self) -> Iterator[bool]:
        """Let the density run on this torch; the page says that without it it fails."""
        removed, torch.eig = torch.eig, eig_of_old
        try:
            yield True
        finally:
            torch.eig = removed

    def product(self, v: Tensor) -> Tensor:
        return flat(self.metered(self.tool.gradsH, self.tool.params, self.split(v)))

    def split(self, v: Tensor) -> list[Tensor]:
        pieces = v.split(self.sizes)
        return [piece.view_as(p) for piece, p in zip(pieces, self.tool.params, strict=True)]

    def density(self, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(seed)
        nodes, weights = self.tool.density(iter=steps, n_v=samples)
        return torch.tensor(nodes), torch.tensor(weights)

    def top(self, k: int, budget: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        values, _ = self.tool.eigenvalues(maxIter=budget // k, tol=0.0, top_n=k)
        return torch.tensor(values)

    def trace(self, estimator: str, budget: int, seed: int) -> float:  # noqa: ARG002
        torch.manual_seed(seed)
        samples = self.tool.trace(maxIter=budget, tol=0.0)
        return sum(samples) / len(samples)
