"""What the badges look at: small blocks of an affine layer and a site, with weights that are not the trivial ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from normscope.nn import Penalised

# Divisible by the customary numbers of groups that a test can afford; the affine layers before have 2 inputs.
FEATURES = 4
_PENALTY_WEIGHT = 0.1


class Row(Protocol):
    """What a badge needs of a normalizer; what else a row says of itself is asked with a default."""

    @property
    def name(self) -> str:
        """The row's name in the table."""

    @property
    def couples_batch(self) -> bool:
        """Whether, in train mode, an example's output depends on the others."""

    def site(self, num_features: int, ndim: int = 4) -> nn.Module:
        """The module for one place of normalization."""

    def affine(self, layer: Any) -> Any:
        """The Linear or Conv as the row wants it."""


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """Axes of a site's input: their names, how many, the shape before the affine layer and after it."""

    name: str
    ndim: int
    into: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def channel_dim(self) -> int:
        """The axis of the channels."""
        return 2 if self.ndim == 3 else 1

    def layer(self) -> nn.Module:
        """An affine layer from `into` to `out`; its weights are drawn by torch."""
        return nn.Conv2d(2, FEATURES, 2) if self.ndim == 4 else nn.Linear(2, FEATURES)


LAYOUTS = (
    Layout("(N, C)", 2, (5, 2), (5, FEATURES)),
    Layout("(N, T, C)", 3, (3, 2, 2), (3, 2, FEATURES)),
    Layout("(N, C, H, W)", 4, (3, 2, 3, 3), (3, FEATURES, 2, 2)),
)


def draw(
    shape: tuple[int, ...],
    seed: int,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
    spread: float = 1.0,
    mean: float = 0.0,
) -> Tensor:
    """Normal numbers, the same on every machine, rounded to `dtype`."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (mean + spread * values).to(device, dtype)


def perturbed(module: nn.Module, seed: int) -> nn.Module:
    """Move every parameter off the value it starts at, in place."""
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            step = draw(tuple(parameter.shape), seed + i, device=parameter.device, spread=0.3)
            parameter.add_(step.to(parameter.dtype))
    return module


def site(row: Row, layout: Layout, *, device: torch.device, dtype: torch.dtype = torch.float64) -> nn.Module:
    """One site of the row, its parameters drawn."""
    return perturbed(row.site(FEATURES, layout.ndim).to(device, dtype), 20)


def block(row: Row, layout: Layout, *, device: torch.device, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The row's affine layer and then its site: the whole of what the row does, its parameters drawn."""
    layer = layout.layer().to(device, dtype)
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(tuple(parameter.shape), 10 + i, device=device, spread=0.7))
    affine = row.affine(layer)
    return nn.Sequential(OrderedDict(affine=affine, site=site(row, layout, device=device, dtype=dtype)))


def layouts_taken(row: Row, *, device: torch.device) -> tuple[Layout, ...]:
    """The layouts that the row's block does not refuse in train mode.

    Raises:
        ValueError: it refuses all of them; the first refusal.
    """
    taken, refusals = [], []
    for layout in LAYOUTS:
        try:
            block(row, layout, device=device)(draw(layout.into, 0, device=device))
        except ValueError as refusal:
            refusals.append(refusal)
        else:
            taken.append(layout)
    if not taken:
        raise refusals[0]
    return tuple(taken)


def as_function(module: nn.Module) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """The module as a function of (x, *parameters) that changes no buffer, and its parameters as new leaves.

    The function gives the output and, where the row has one, the penalty.
    """
    wrapped = Penalised(module)
    names = [name for name, _ in wrapped.named_parameters()]
    leaves = [parameter.detach().clone().requires_grad_() for parameter in wrapped.parameters()]

    def function(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        buffers = {name: value.clone() for name, value in wrapped.named_buffers()}
        y, penalty = torch.func.functional_call(wrapped, dict(zip(names, parameters, strict=True)) | buffers, (x,))
        return (y, penalty) if penalty.requires_grad else (y,)

    return function, leaves


def loss_of(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """A loss of `Penalised` outputs that is curved in all of them: mean squared error of tanh, and the penalty."""
    y, penalty = outputs
    return (y.tanh() - targets).square().mean() + _PENALTY_WEIGHT * penalty
