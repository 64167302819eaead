"""What all sites share: the layout of their input, the checks of it, and the attributes by which others know a site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer


@final
@dataclass(frozen=True)
class Layout:
    """The input that one site normalizes: its channels, its number of axes, and which of them is the channels'."""

    row: str
    num_features: int
    ndim: int
    channel_dim: int

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """In which one number per channel broadcasts to the input."""
        return tuple(self.num_features if d == self.channel_dim else 1 for d in range(self.ndim))

    def per_channel(self, value: Tensor | None) -> Tensor | None:
        """(C,) in the shape that broadcasts to the input."""
        return None if value is None else value.view(self.channel_shape)

    def check(self, x: Tensor) -> None:
        """Refuse another shape, or a dtype that is not floating-point, by ValueError."""
        shape = tuple(x.shape)
        if x.ndim != self.ndim or shape[self.channel_dim] != self.num_features:
            layout = ["*"] * self.ndim
            layout[self.channel_dim] = str(self.num_features)
            raise ValueError(
                f"This {self.row} site normalizes inputs of shape ({', '.join(layout)}), but the input has shape "
                f"{shape}; make the site with num_features, ndim and channel_dim of its input."
            )
        if not x.is_floating_point():
            raise ValueError(
                f"A {self.row} site normalizes floating-point inputs, but the input is {x.dtype}; convert it."
            )

    def check_batch(self, x: Tensor) -> None:
        """Refuse batch statistics of a single value per channel by ValueError."""
        if x.numel() == self.num_features:
            raise ValueError(
                f"{self.row} needs more than one value per channel for its batch statistics, but the input has "
                f"shape {tuple(x.shape)}; use a larger batch, or a normalizer that does not couple the batch."
            )


def furnish(
    site: nn.Module,
    row: Normalizer,
    layout: Layout,
    *,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    gain: float = 1.0,
) -> None:
    """Give a site its attributes, and per channel a `weight` (of `gain`) and a `bias` (of 0) if the row has them.

    By `normalizer_site` probes find sites, by `num_features`, `ndim` and `channel_dim` they know their layout.
    """
    attributes = {"row": row, "layout": layout, "normalizer_site": row.name, "penalized": row.penalty is not None}
    for name in ("num_features", "ndim", "channel_dim"):
        attributes[name] = getattr(layout, name)
    for name, value in attributes.items():
        setattr(site, name, value)

    def parameter(value: float, *, wanted: bool) -> nn.Parameter | None:
        return nn.Parameter(torch.full((layout.num_features,), value, device=device, dtype=dtype)) if wanted else None

    site.register_parameter("weight", parameter(gain, wanted=row.elementwise_affine))
    site.register_parameter("bias", parameter(0.0, wanted=row.elementwise_affine and row.elementwise_bias))


def description(row: Normalizer, layout: Layout) -> str:
    """The row, its features and layout, and what is its own, as every site's repr has it."""
    own = "".join(f", {name}={value}" for name, value in row.own_options.items())
    return f"{row.name}, {layout.num_features}, ndim={layout.ndim}, eps={row.eps}, affine={row.elementwise_affine}{own}"
