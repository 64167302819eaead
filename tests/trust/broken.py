"""A batch norm written out, and copies of it with one mistake each. Importable: other processes need them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import normscope as ns
from normscope.nn import distributed


class Right(nn.Module):
    """Batch norm in plain tensor operations."""

    persistent = True

    def __init__(self, num_features: int, ndim: int) -> None:
        super().__init__()
        self.dims = {2: (0,), 3: (0, 1), 4: (0, 2, 3)}[ndim]
        self.shape = (-1, 1, 1) if ndim == 4 else (-1,)
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features), persistent=self.persistent)
        self.register_buffer("running_var", torch.ones(num_features), persistent=self.persistent)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widened(x)
        mean, var = self.running_mean.view(self.shape), self.running_var.view(self.shape)
        if self.training:
            mean = self.mean(wide)
            var = self.variance(wide, mean)
            self.update(mean, var, self.count(wide))
        y = self.divided(wide - mean, var)
        return (y * self.weight.view(self.shape) + self.bias.view(self.shape)).to(x.dtype)

    def widened(self, x: Tensor) -> Tensor:
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def count(self, x: Tensor) -> int | Tensor:
        return math.prod(x.shape[d] for d in self.dims)

    def mean(self, x: Tensor) -> Tensor:
        return x.mean(self.dims, keepdim=True)

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        return (x - mean).square().mean(self.dims, keepdim=True)

    def divided(self, d: Tensor, var: Tensor) -> Tensor:
        return d / (var + 1e-5).sqrt()

    @torch.no_grad()
    def update(self, mean: Tensor, var: Tensor, size: int | Tensor) -> None:
        self.running_mean.lerp_(mean.flatten().to(self.running_mean.dtype), 0.1)
        self.running_var.lerp_((var * size / (size - 1)).flatten().to(self.running_var.dtype), 0.1)


class WrongVariance(Right):
    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        return torch.var(x, self.dims, keepdim=True)  # over n - 1


class DetachedMean(Right):
    def mean(self, x: Tensor) -> Tensor:
        return super().mean(x).detach()


class _OnceRight(torch.autograd.Function):
    """1 / sqrt(v), whose derivative is right once: a tensor saved without its graph."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        y = v.rsqrt()
        ctx.slope = -0.5 * y**3
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> Tensor:
        return of_y * ctx.slope


class WrongSecondDerivative(Right):
    def divided(self, d: Tensor, var: Tensor) -> Tensor:
        return d * _OnceRight.apply(var + 1e-5)


class NarrowStatistics(Right):
    def widened(self, x: Tensor) -> Tensor:
        return x


class SquareOfTheMean(Right):
    """Exact in exact numbers alone: the variance as a difference of two large ones, in half precision."""

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        narrow = torch.float16 if x.dtype == torch.float32 else x.dtype
        return (x.square().mean(self.dims, keepdim=True).to(narrow) - mean.square().to(narrow)).to(x.dtype)


class GraphBreak(Right):
    def mean(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return super().mean(x)


class OtherWhenCompiled(Right):
    def mean(self, x: Tensor) -> Tensor:
        return super().mean(x) + (1e-3 if torch.compiler.is_compiling() else 0.0)


class LostFormat(Right):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).contiguous()


class StaleStatistics(Right):
    def update(self, mean: Tensor, var: Tensor, size: int | Tensor) -> None:
        """Training leaves them as they were."""


class MissingBuffer(Right):
    persistent = False


class Synchronized(Right):
    """With statistics of all processes: the change that a site needs."""

    def mean(self, x: Tensor) -> Tensor:
        return distributed.mean(x, self.dims)

    def variance(self, x: Tensor, mean: Tensor) -> Tensor:
        return distributed.mean((x - mean).square(), self.dims)

    def count(self, x: Tensor) -> int | Tensor:
        return distributed.count(x, self.dims)


class MeanOfMeans(Synchronized):
    """Forgets that processes hold batches of different sizes."""

    def mean(self, x: Tensor) -> Tensor:
        active = distributed.synchronization()
        own = x.mean(self.dims, keepdim=True)
        return own if active is None else active.sum(own) / 2


class SumsCut(Synchronized):
    """Right values, but the gradient stays within its process."""

    def mean(self, x: Tensor) -> Tensor:
        own = x.mean(self.dims, keepdim=True)
        return own + (super().mean(x) - own).detach()


class Raises(Right):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such\nkernel")


class RefusesTokens(Right):
    def __init__(self, num_features: int, ndim: int) -> None:
        if ndim == 3:
            raise ValueError("no tokens")
        super().__init__(num_features, ndim)


@dataclass(frozen=True)
class Row:
    """A row with a site class of its own."""

    kind: type[Right]
    name: str = "batchnorm"
    couples_batch: bool = True
    evaluation: str = "running"
    eps: float = 1e-5

    def site(self, num_features: int, ndim: int = 4) -> nn.Module:
        return self.kind(num_features, ndim)

    def affine(self, layer: nn.Module) -> nn.Module:
        return ns.normalizer("none").affine(layer)
