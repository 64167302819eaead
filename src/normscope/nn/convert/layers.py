"""The modules that a conversion puts in: a site in another layout, with what ran after it, and fused affine layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layout = Literal["as_is", "images", "tokens"]


@final
class PlacedSite(nn.Module):
    r"""A site where its input comes in another layout, or where a fused activation followed the old norm.

    .. math:: y = f_k(\dots f_1(\mathrm{site}(x)))

    Shape: what the old module took, in and out. With layout "images" any (N, C, ...) is seen as (N, C, A, B), with
    "tokens" any (..., C) as (N, T, C); the values stay where they are.

    Attributes:
        site: the row's module.
        after: what ran after the old norm, in order: timm's drop and activation.
    """

    def __init__(self, site: nn.Module, layout: Layout, after: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.site = site
        self.layout = layout
        self.after = nn.ModuleList(after)

    @property
    def weight(self) -> Tensor | None:
        """The site's gain, for code that asks the norm for its dtype."""
        weight: Tensor | None = getattr(self.site, "weight", None)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The site's shift."""
        bias: Tensor | None = getattr(self.site, "bias", None)
        return bias

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        shape = x.shape
        if self.layout == "images" and x.ndim != 4:
            x = x.reshape(*shape[:3], *(1,) * (4 - x.ndim)) if x.ndim < 4 else x.flatten(2, -2)
        elif self.layout == "tokens" and x.ndim != 3:
            x = x.reshape(shape[0] if x.ndim > 1 else 1, math.prod(shape[1:-1]), shape[-1])
        y = self.site(x).reshape(shape)
        for module in self.after:
            y = module(y)
        return y  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The layout its input is seen in."""
        return self.layout


@final
class SeparatedSite(nn.Module):
    """A plain convolution and the site after it, in place of one whose weight was standardized in every forward."""

    def __init__(self, layer: nn.Module, site: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.site = site

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.site(self.layer(x))  # type: ignore[no-any-return]


class SamePadConv2d(nn.Conv2d):
    """A convolution padded at run time so that a stride of s gives ceil(size / s) positions, as TensorFlow's SAME."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        pads: list[int] = []
        for size, kernel, stride, dilation in zip(
            reversed(x.shape[-2:]),
            reversed(self.kernel_size),
            reversed(self.stride),
            reversed(self.dilation),
            strict=True,
        ):
            total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class TransposedLinear(nn.Linear):
    """A linear layer that keeps its weight as (in, out): Hugging Face's Conv1D, seen as what it is.

    .. math:: y = x W + b
    """

    @classmethod
    def of(cls, layer: nn.Module) -> TransposedLinear:
        """The layer with the same Parameters, which keep their shapes, and its hooks."""
        weight = layer.weight
        assert isinstance(weight, Tensor)
        with torch.device("meta"):
            new = cls(weight.shape[0], weight.shape[1], bias=layer.bias is not None)
        new.weight, new.bias = weight, layer.bias  # type: ignore[assignment]
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Apply it; positional argument of any number of leading axes."""
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def standardized_weight(layer: nn.Conv2d) -> Tensor:
    r"""The weight that a weight-standardized convolution uses.

    .. math:: g\,s\,(W - \bar W)/\sqrt{\mathrm{var} W + \epsilon}

    Mean and variance are over the fan-in of each output channel; gain g and scale s are 1 where it has none.
    Source: Qiao et al. 2019, arXiv:1903.10520; Brock et al. 2021, arXiv:2101.08692.
    """
    gain = getattr(layer, "gain", None)
    scale = 1.0 if gain is None else gain * layer.scale
    rows = layer.weight.flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    eps: float = layer.eps  # type: ignore[assignment]
    standard = (rows * (rows.square().mean(1, keepdim=True) + eps).rsqrt()).view_as(layer.weight)
    return standard * scale


def plain_convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the weight that the standardized one uses now, and its bias."""
    kind = SamePadConv2d if getattr(layer, "same_pad", False) else nn.Conv2d
    with torch.device("meta"):
        new = kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            layer.dilation,  # type: ignore[arg-type]
            layer.groups,
            layer.bias is not None,
        )
    weight = standardized_weight(layer).detach().clone(memory_format=torch.preserve_format)
    new.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    new.bias = layer.bias
    return new
