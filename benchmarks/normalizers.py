"""Forward and backward of every row beside torch's native layer of the same family."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

import normscope as ns
from benchmarks.timing import Ratio, compare
from normscope.nn.functional import center, reduced_dims

SHAPES = {
    "conv 64x32x32x32": (64, 32, 32, 32),
    "conv 128x128x8x8": (128, 128, 8, 8),
    "tokens 32x256x512": (32, 256, 512),
}


class TokenBatchNorm(nn.BatchNorm1d):
    """Torch's batch norm on (N, T, C), the cheapest way it can be had."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


class Centered(nn.Module):
    """A site with the centering its row puts on the layer's input: the whole cost of such a row."""

    def __init__(self, site: nn.Module, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.site, self.dims = site, dims

    def forward(self, x: Tensor) -> Tensor:
        return self.site(center(x, self.dims))


def native(row: ns.Normalizer, num_features: int, ndim: int) -> nn.Module:
    if row.couples_batch:
        return nn.BatchNorm2d(num_features) if ndim == 4 else TokenBatchNorm(num_features)
    return nn.GroupNorm(1, num_features) if ndim == 4 else nn.LayerNorm(num_features)


def ours(row: ns.Normalizer, num_features: int, ndim: int) -> nn.Module:
    site = row.site(num_features, ndim)
    if row.layer != "centered":
        return site
    return Centered(site, reduced_dims(row.over, ndim, 1 if ndim == 4 else 2))


def training_step(module: nn.Module, x: Tensor, cotangent: Tensor) -> Callable[[], object]:
    leaf = x.clone().requires_grad_()
    inputs = [leaf, *module.parameters()]
    penalised = ns.nn.Penalised(module)

    def step() -> object:
        y, r = penalised(leaf)
        return (
            torch.autograd.grad((y, r), inputs, (cotangent, torch.ones_like(r)))
            if r.requires_grad
            else (torch.autograd.grad(y, inputs, cotangent))
        )

    return step


def run(*, pairs: int) -> Iterator[tuple[str, str, Ratio]]:
    for shape_name, shape in SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        x, cotangent = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        num_features = shape[1] if len(shape) == 4 else shape[2]
        for row in ns.normalizers():
            if row.scale is None:
                continue  # none and weightnorm do nothing at a site
            a, b = ours(row, num_features, len(shape)), native(row, num_features, len(shape))
            yield (
                shape_name,
                row.name,
                compare(training_step(a, x, cotangent), training_step(b, x, cotangent), pairs=pairs),
            )
