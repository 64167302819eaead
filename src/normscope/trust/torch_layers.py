"""Torch's own layers beside the rows that are one, and all references together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope.trust.formulas import FORMULAS
from normscope.trust.references import Given, Known, Reference


def _torch_batchnorm(given: Given) -> Tensor:
    """torch.nn.BatchNorm1d and 2d, their own running statistics included."""
    features = given.state["affine.bias"].numel()
    layer = (nn.BatchNorm2d if given.ndim == 4 else nn.BatchNorm1d)(features, given.eps, 0.1).to(given.x)
    _take(layer, given)
    for x in given.seen:
        layer(_channels_second(given.affine(x)))
    return _channels_second(layer.train(given.training)(_channels_second(given.affine(given.x))))


def _torch_layernorm(given: Given) -> Tensor:
    """torch.nn.LayerNorm; for images torch.nn.GroupNorm with one group, whose weight is per channel likewise."""
    features = given.state["affine.bias"].numel()
    kind = nn.GroupNorm(1, features, given.eps) if given.ndim == 4 else nn.LayerNorm(features, given.eps)
    layer: nn.Module = kind.to(given.x)
    _take(layer, given)
    return layer(given.affine(given.x))  # type: ignore[no-any-return]


def _torch_weightnorm(given: Given) -> Tensor:
    """torch.nn.utils.parametrizations.weight_norm."""
    weight = given.state["affine.parametrizations.weight.original1"]
    layer: nn.Module = (
        nn.Conv2d(weight.shape[1], len(weight), 2) if given.ndim == 4 else nn.Linear(weight.shape[1], len(weight))
    ).to(given.x)
    layer = nn.utils.parametrizations.weight_norm(layer)
    own = {name.removeprefix("affine."): value for name, value in given.state.items() if name.startswith("affine.")}
    layer.load_state_dict(own)
    return layer(given.x)  # type: ignore[no-any-return]


def _take(layer: nn.Module, given: Given) -> None:
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(given.state[f"site.{name}"])


def _channels_second(z: Tensor) -> Tensor:
    return z.transpose(1, 2) if z.ndim == 3 else z


def _torch_groupnorm(given: Given) -> Tensor:
    """torch.nn.GroupNorm; of tokens each by itself."""
    features = given.state["affine.bias"].numel()
    layer = nn.GroupNorm(given.options["num_groups"] or (2 if given.ndim == 4 else 1), features, given.eps).to(given.x)
    _take(layer, given)
    z = given.affine(given.x)
    return layer(z.flatten(0, 1)).reshape(z.shape) if given.ndim == 3 else layer(z)  # type: ignore[no-any-return]


def _torch_instancenorm(given: Given) -> Tensor:
    """torch.nn.InstanceNorm1d and 2d."""
    features = given.state["affine.bias"].numel()
    kind = nn.InstanceNorm2d if given.ndim == 4 else nn.InstanceNorm1d
    layer = kind(features, given.eps, affine="site.weight" in given.state).to(given.x)
    _take(layer, given)
    return _channels_second(layer(_channels_second(given.affine(given.x))))


def _torch_rmsnorm(given: Given) -> Tensor:
    """torch.nn.functional.rms_norm; of images over all of an example, with a weight per channel."""
    z = given.affine(given.x)
    shape = z.shape[1:] if given.ndim == 4 else z.shape[-1:]
    return F.rms_norm(z, list(shape), eps=given.eps) * given.per_channel("weight", 1.0)


_TORCH: Mapping[str, Reference] = {
    "batchnorm": _torch_batchnorm,
    "layernorm": _torch_layernorm,
    "weightnorm": _torch_weightnorm,
    "groupnorm": _torch_groupnorm,
    "instancenorm": _torch_instancenorm,
    "rmsnorm": _torch_rmsnorm,
}

REFERENCES: Mapping[str, Known] = {
    name: replace(known, formulas=(*known.formulas, _TORCH[name])) if name in _TORCH else known
    for name, known in FORMULAS.items()
}
"""By a row's name, what its block must equal."""
