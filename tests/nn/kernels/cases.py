"""Patterns and inputs that every kernel is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from normscope.nn.kernels import Normalized, Pattern

EPS = 1e-3
BY_NAME = {
    "bmlv": Pattern("batch", "layer", "std", EPS),
    "lmbv": Pattern("layer", "batch", "std", EPS),
    "prelayernorm": Pattern(None, "layer", "std", EPS),
    "rmsnorm": Pattern(None, "layer", "rms", EPS),
    "regnorm": Pattern(None, "layer", "rms", EPS, "biased"),
    "preregnorm, unbiased": Pattern(None, "layer", "std", EPS, "unbiased"),
    "bnl2": Pattern(None, "batch", "norm", 0.0),
    "lpnorm": Pattern("batch", "batch", "l1", EPS),
    "batchnorm": Pattern("batch", "batch", "std", EPS),
    "batch deviation alone": Pattern(None, "batch", "std", EPS),
    "frn": Pattern(None, "instance", "rms", EPS),
    "instance mean, layer deviation": Pattern("instance", "layer", "std", EPS),
}
# "norm" over the instance, and layer norm's axes, are what no row has; a kernel has them all the same.
OF_INSTANCES = {name: pattern for name, pattern in BY_NAME.items() if pattern.moment != "l1"}
OF_ROWS = {name: pattern for name, pattern in BY_NAME.items() if "instance" not in (pattern.mean, pattern.scale)}


def inputs(*shape: int, dtype: torch.dtype = torch.float64, affine: bool = True) -> list[Tensor]:
    """x away from the origin, and per channel a weight and a bias that are not the trivial ones."""
    generator = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64) + 0.7
    per_channel = [torch.rand(shape[1], generator=generator, dtype=torch.float64) + 0.5 for _ in range(2)]
    return [t.to(dtype).requires_grad_() for t in ([x, *per_channel] if affine else [x])]


def loss(result: Normalized | tuple[Tensor | None, ...], *, curved: bool) -> Tensor:
    """A number whose gradient by y differs from element to element, the penalty among its terms."""
    y, penalty = result[0], result[1]
    assert y is not None
    slopes = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    value = ((y.sin() if curved else y) * slopes).sum()
    return value if penalty is None else value + 5 * y.numel() * penalty
