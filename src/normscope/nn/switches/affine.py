"""Artificial chaos by the affine operation: a correlation in place of the product of weights and inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, final, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.nn.functional import accumulation_dtype
from normscope.nn.switches.switch import Switch, check

Kind: TypeAlias = Literal["cosine", "centered_cosine", "weight_standardization"]

_EPS = 1e-5  # inside the root of the inputs' mean square, as in the rows of the table

# Kind -> whether weights (and inputs) are centered, whether the size of the inputs is divided by, the formula.
_ROWS: dict[Kind, tuple[bool, bool, str]] = {
    "cosine": (False, True, "z_c = <W_c, x> / (|W_c| rms x) + b_c"),
    "centered_cosine": (True, True, "z_c = <W_c - mean W_c, x - mean x> / (|W_c - mean W_c| std x) + b_c"),
    "weight_standardization": (True, False, "z_c = <W_c - mean W_c, x> / |W_c - mean W_c| + b_c"),
}

_CONVOLUTIONS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}


def normalized_affine(*, kind: Kind = "centered_cosine") -> Switch:
    r"""Normalize each affine operation itself: a reconstruction, in three readings.

    With n the fan-in, x the n inputs of an output (of a convolution its patch, padding included), means over them and

    .. math::
        \text{cosine: } & \sqrt n \, \frac{\langle W_c, x \rangle}{\|W_c\| \|x\|} + b_c \\
        \text{centered\_cosine: } & \sqrt n \, \frac{\langle W_c - \bar W_c, x - \bar x \rangle}
            {\|W_c - \bar W_c\| \|x - \bar x\|} + b_c \\
        \text{weight\_standardization: } & \frac{\langle W_c - \bar W_c, x \rangle}{\|W_c - \bar W_c\|} + b_c

    where :math:`\|x\|^2 / n` gets eps = 1e-5 added. The factor :math:`\sqrt n` gives outputs of variance 1 for random
    weights. Weight standardization is divided by :math:`\sqrt n` compared with its source, so that it goes without a
    normalizer too; one that follows does not see it. Those that center are chaotic in mean-field theory, since the
    mean of the units before is removed; cosine is not.

    What a row itself does to the layer comes first (prelayernorm's centered input, weight norm's weight); the readout
    is changed like every affine layer. A weight vector of zero has no direction and gives NaN.

    Args:
        kind: which reading.

    Raises:
        ValueError: an unknown kind.
        TypeError: when it meets a layer that is not Linear, Conv1d, Conv2d or Conv3d.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A, where the name is given and the formula is lost in
    the copies at hand. Cosine: Luo et al. 2018, arXiv:1702.05870; weight standardization: Qiao et al. 2019,
    arXiv:1903.10520.
    """
    check("normalized_affine", "kind", kind, kind in get_args(Kind), f"one of {', '.join(get_args(Kind))}")
    centered, divided, formula = _ROWS[kind]

    def change(layer: nn.Module) -> None:
        if not isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            raise TypeError(
                "normalized_affine changes Linear, Conv1d, Conv2d and Conv3d, but got "
                f"{type(layer).__name__}; express this layer by one of these."
            )
        # Before the hooks of the row: what divides the output has to divide this one.
        layer.register_forward_hook(NormalizeAffine(centered=centered, divided=divided), prepend=True)

    return Switch(name="normalized_affine", formula=formula, options={"kind": kind}, at_affine=change)


@final
@dataclass(frozen=True, kw_only=True)
class NormalizeAffine:
    """A forward hook that makes an affine layer's output one of the readings of `normalized_affine`."""

    centered: bool
    divided: bool

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], z: Tensor) -> Tensor:
        """Replace the output."""
        dtype = accumulation_dtype(z.dtype)
        weight = cast(Tensor, layer.weight).to(dtype).flatten(1)  # (out, fan-in)
        bias = cast("Tensor | None", layer.bias)
        shape = (-1, *[1] * _spatial(layer))
        shift = None if bias is None else bias.to(dtype).view(shape)
        product = z.to(dtype) if shift is None else z.to(dtype) - shift
        total, square = _moments(layer, args[0].to(dtype), centered=self.centered)
        if self.centered:
            mean = weight.mean(1, keepdim=True)
            product = product - mean.view(shape) * total
            weight = weight - mean
        product = product * torch.rsqrt(weight.square().sum(1)).view(shape)
        if self.divided:
            product = product * torch.rsqrt(square + _EPS)
        return (product if shift is None else product + shift).to(z.dtype)


def _spatial(layer: nn.Module) -> int:
    return 0 if isinstance(layer, nn.Linear) else len(cast(nn.Conv2d, layer).kernel_size)


def _moments(layer: nn.Module, x: Tensor, *, centered: bool) -> tuple[Tensor, Tensor]:
    """The sum of each output's inputs, and the mean of their squares, about their mean if `centered`.

    Shape: broadcastable to the layer's output.
    """
    if isinstance(layer, nn.Linear):
        total = x.sum(-1, keepdim=True)
        about = x - total / x.shape[-1] if centered else x
        return total, about.square().mean(-1, keepdim=True)
    conv = cast(nn.Conv2d, layer)
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
    axes = tuple(range(-1 - _spatial(layer), 0))
    # The variance within a patch does not feel this shift, nor do its derivatives; rounding does.
    origin = x.mean(axes, keepdim=True).detach() if centered else torch.zeros((), dtype=x.dtype, device=x.device)
    shifted = x - origin
    fan_in = math.prod(conv.kernel_size) * conv.in_channels // conv.groups
    total, square = _patch_sums(conv, shifted), _patch_sums(conv, shifted.square()) / fan_in
    if centered:
        square = (square - (total / fan_in).square()).clamp(min=0)
    return total + fan_in * origin, square


def _patch_sums(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The sum over each output's patch of padded inputs: (N, out or 1, spatial axes)."""
    channels = -1 - _spatial(conv)
    by_group = torch.unflatten(x, channels, (conv.groups, -1)).sum(channels)
    ones = torch.ones(conv.groups, 1, *conv.kernel_size, dtype=x.dtype, device=x.device)
    convolve = next(function for kind, function in _CONVOLUTIONS.items() if isinstance(conv, kind))
    sums = convolve(by_group, ones, stride=conv.stride, dilation=conv.dilation, groups=conv.groups)
    return sums if conv.groups == 1 else sums.repeat_interleave(conv.out_channels // conv.groups, channels)
