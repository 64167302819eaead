"""Forward and backward of every row beside torch's native layer: time, kept memory, and the same through a compiler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import normscope as ns
from benchmarks.timing import Ratio, compare
from normscope.nn.functional import center, reduced_dims

SHAPES = {
    "conv 128x64x32x32": (128, 64, 32, 32),
    "conv 32x256x14x14": (32, 256, 14, 14),
    "dense 128x512": (128, 512),
    "tokens 32x128x512": (32, 128, 512),
}
COMPILED = ("bmlv", "prelayernorm")  # one with batch statistics and one without
OF_FAMILY, OF_BATCH_NORM = 1.15, 1.5


@dataclass(frozen=True)
class Row:
    """One row on one shape."""

    shape: str
    normalizer: str
    native: str
    target: float
    time: Ratio
    kept: float  # bytes kept for backward, over the native layer's


class Tokens(nn.Module):
    """A layer of torch's for (N, C) on (N, T, C), the cheapest way it can be had."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(-1, x.shape[-1])).view(x.shape)


class Centered(nn.Module):
    """A site with the centering its row puts on the layer's input: the whole cost of such a row."""

    def __init__(self, site: nn.Module, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.site, self.dims = site, dims

    def forward(self, x: Tensor) -> Tensor:
        return self.site(center(x, self.dims))


def native(row: ns.Normalizer, shape: tuple[int, ...]) -> tuple[nn.Module, float]:
    """Torch's layer of the row's family, or its batch norm, and the ratio aimed at."""
    ndim, channels = len(shape), _channels(shape)
    family: nn.Module | None = None
    if row.name == "layernorm":
        family = nn.GroupNorm(1, channels) if ndim == 4 else nn.LayerNorm(channels)
    elif row.name == "rmsnorm" and ndim < 4:  # over (C, H, W) torch's takes no gain per channel
        family = nn.RMSNorm(channels, eps=row.eps)
    elif row.name == "groupnorm":
        layer = nn.GroupNorm(ns.nn.functional.num_groups(channels, None, ndim=ndim), channels)
        family = Tokens(layer) if ndim == 3 else layer
    elif row.name == "instancenorm":
        family = nn.InstanceNorm2d(channels, affine=True)
    if family is not None:
        return family, OF_FAMILY
    layer = nn.BatchNorm2d(channels) if ndim == 4 else nn.BatchNorm1d(channels)
    target = OF_FAMILY if row.name.startswith("batchnorm") else OF_BATCH_NORM
    return (Tokens(layer) if ndim == 3 else layer), target


def ours(row: ns.Normalizer, shape: tuple[int, ...]) -> nn.Module:
    ndim = len(shape)
    site = row.site(_channels(shape), ndim)
    if row.layer != "centered":
        return site
    return Centered(site, reduced_dims(row.over, ndim, 1 if ndim == 4 else ndim - 1))


def _channels(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) == 4 else shape[-1]


def training_step(
    module: nn.Module, x: Tensor, cotangent: Tensor, *, penalised: bool
) -> Callable[[], tuple[Tensor, ...]]:
    leaf = x.clone().requires_grad_()
    inputs = [leaf, *module.parameters()]
    if not penalised:
        return lambda: torch.autograd.grad(module(leaf), inputs, cotangent)
    whole = ns.nn.Penalised(module)

    def step() -> tuple[Tensor, ...]:
        y, r = whole(leaf)
        return torch.autograd.grad((y, r), inputs, (cotangent, torch.ones_like(r)))

    return step


def kept_bytes(step: Callable[[], object]) -> int:
    """Bytes that autograd keeps between forward and backward, each piece of memory once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(storages.values())


def _inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def _pairs(step: Callable[[], object], *, seconds: float) -> int:
    step()
    start = time.thread_time()
    step()
    return max(8, min(150, round(seconds / 2 / max(time.thread_time() - start, 1e-6))))


def run(*, seconds: float) -> Iterator[Row]:
    """Every row on every shape, for about so many seconds each."""
    for shape_name, shape in SHAPES.items():
        x, cotangent = _inputs(shape)
        for row in ns.normalizers():
            if not isinstance(row, ns.Normalizer) or row.name in ("none", "weightnorm"):
                continue  # which do nothing at a site
            if row.needs_positions and len(shape) < 4:
                continue
            layer, target = native(row, shape)
            theirs = training_step(layer, x, cotangent, penalised=False)
            mine = training_step(ours(row, shape), x, cotangent, penalised=row.penalized)
            ratio = compare(mine, theirs, pairs=_pairs(mine, seconds=seconds), warmup=2, clock=time.thread_time)
            kept = kept_bytes(mine) / kept_bytes(theirs)
            yield Row(shape_name, row.name, type(getattr(layer, "layer", layer)).__name__, target, ratio, kept)


def run_compiled(*, seconds: float) -> Iterator[tuple[str, str, float, Ratio]]:
    """The rows of `COMPILED` through torch.compile: seconds until the first gradient is there, and the ratio."""
    for shape_name, shape in SHAPES.items():
        if not shape_name.startswith(("conv 32", "tokens")):
            continue
        x, cotangent = _inputs(shape)
        for name in COMPILED:
            row = ns.normalizer(name)
            theirs = training_step(native(row, shape)[0], x, cotangent, penalised=False)
            torch.compiler.reset()
            mine = training_step(torch.compile(ours(row, shape)), x, cotangent, penalised=False)
            start = time.perf_counter()
            mine()
            first = time.perf_counter() - start
            ratio = compare(mine, theirs, pairs=_pairs(mine, seconds=seconds), warmup=2, clock=time.thread_time)
            yield shape_name, name, first, ratio
