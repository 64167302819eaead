"""A site's weight and bias as something to try values in."""

from __future__ import annotations

import functools
import math
from typing import Any, final

import torch
from torch import Tensor, nn

from normscope.nn.statistics.passes import write


@final
class EffectOfBias:
    """What a bias of 1 adds to a site's outputs: `value`, NaN if these are not affine in weight and bias."""

    def __init__(self) -> None:
        self.value = 0.0  # until measured

    def measure(self, site: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """On the first call try other weights and biases; a forward hook."""
        if self.value or not output.numel():
            return
        with_ = functools.partial(_outputs, site, args[0])
        plain, shifted, scaled = with_(1.0, 0.0), with_(1.0, 1.0), with_(-2.0, 0.0)
        set_affine(site, 1.0, 0.0)
        added = shifted - plain
        rough = 1e-3 if output.dtype in (torch.float32, torch.float64) else 3e-2
        size = plain.abs().max().item() + 1
        affine = (added - added.mean()).abs().max() + (scaled + 2 * plain).abs().max() < rough * size
        self.value = added.mean().item() if affine else math.nan


def set_affine(site: nn.Module, weight: float | Tensor, bias: float | Tensor) -> None:
    """Write a site's weight and bias: one number for all channels, or (C,)."""
    for name, value in (("weight", weight), ("bias", bias)):
        parameter = site.get_parameter(name)
        write(parameter, torch.as_tensor(value).expand(parameter.shape))


def _outputs(site: nn.Module, x: Tensor, weight: float, bias: float) -> Tensor:
    set_affine(site, weight, bias)
    output: Tensor = site.forward(x)  # not called: hooks are for the model's own calls
    return output.to(torch.promote_types(output.dtype, torch.float32))
