"""The new module for one norm or one affine layer, and what is to be said about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normscope.nn.affine import shared_copy
from normscope.nn.convert.carry import carry_hooks, carry_norm, like
from normscope.nn.convert.choice import RowLike
from normscope.nn.convert.fused import SeparatedAttention, SplitLinear, centered_weight
from normscope.nn.convert.layers import (
    Layout,
    PlacedSite,
    SeparatedSite,
    TransposedLinear,
    plain_convolution,
)
from normscope.nn.convert.placement import Order
from normscope.nn.convert.reading import NormReading
from normscope.nn.convert.survey import AffineKind
from normscope.nn.normalizer import Normalizer

FIXED = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A module to be put in place of another, and what it took over."""

    new: nn.Module
    site: nn.Module | None  # the row's own module within it
    channel_dim: int  # of what the old module takes
    kept: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    note: str = ""


class RefusedError(ValueError):
    """One module cannot be converted; the message is the reason and the remedy."""


def make_norm(
    model: nn.Module, old: nn.Module, reading: NormReading, row: RowLike, order: Order, ndims: Collection[int]
) -> Made:
    """The module that takes the place of a norm.

    Raises:
        RefusedError: the row makes no site for these channels and axes.
    """
    layout, ndim, axis = _layout(reading, ndims)
    try:
        site = row.site(reading.num_features, ndim, channel_dim=axis, order=order)
    except (ValueError, TypeError) as error:
        raise RefusedError(str(error).rstrip(".")) from error
    example = like(reading, model)
    site.to(device=example.device, dtype=example.dtype)
    after = tuple(module for module in reading.after if not isinstance(module, nn.Identity))
    if reading.known.statistic == "weight":
        return _make_separated(old, site, row, order)
    carried = carry_norm(reading, site)
    new = site if layout == "as_is" and not after else PlacedSite(site, layout, after)
    for module in {new, site}:
        module.training = old.training
    note = f"followed by {' and '.join(type(m).__name__ for m in after)}" if after else ""
    hooks = carry_hooks(old, new)
    kept = (*carried.kept, *(("hooks",) if hooks else ()))
    channel_dim = axis if axis is not None and layout == "as_is" else (-1 if reading.channels_last else 1)
    return Made(new, site, channel_dim, kept, carried.reset, note)


def _layout(reading: NormReading, ndims: Collection[int]) -> tuple[Layout, int, int | None]:
    """How a site sees the old norm's input: layout, ndim and channel axis."""
    if reading.placed is not None:
        return "as_is", *reading.placed
    (ndim,) = set(ndims) if len(set(ndims)) == 1 else {reading.known.ndim if not ndims else None}
    if reading.channels_last:
        return ("as_is", ndim, None) if ndim in (2, 3) else ("tokens", 3, None)
    return ("as_is", ndim, None) if ndim in (2, 4) else ("images", 4, None)


def _make_separated(old: nn.Module, site: nn.Module, row: RowLike, order: Order) -> Made:
    assert isinstance(old, nn.Conv2d)
    convolution = plain_convolution(old)
    new = SeparatedSite(make_affine(convolution, "layer", row, "affine_norm").new, site)
    del order  # the layer stands before its site
    for module in new.modules():
        module.training = old.training
    hooks = carry_hooks(old, new)
    lost = () if getattr(old, "gain", None) is None else ("gain",)
    kept = ("weight (standardized, then free)", *(("bias",) if old.bias is not None else ()))
    return Made(new, site, 1, (*kept, *(("hooks",) if hooks else ())), lost, "a convolution, then the site")


def has_activation(reading: NormReading) -> bool:
    """Whether something that does something runs after the normalization, within the module."""
    return any(not isinstance(module, nn.Identity) for module in reading.after)


def has_weight(layer: nn.Module) -> bool:
    """Whether its weight is a parameter of its own."""
    return layer._parameters.get("weight") is not None


def make_affine(
    old: nn.Module,
    kind: AffineKind,
    row: RowLike,
    order: Order,
    *,
    groups: Sequence[Sequence[int]] = (),
    bypassed: str = "",
) -> Made:
    """The affine layer as the row wants it.

    `groups` are the features of the projections it holds side by side, if it does; `bypassed` is the function by which
    the network applies its weight without calling it, if it does.

    Raises:
        RefusedError: a fused projection, or a class that the row cannot change.
    """
    name = type(old).__name__
    changes_weight = getattr(row, "layer", None) != "centered"
    if kind == "recurrent":
        raise RefusedError(
            f"{name} is a fused projection whose inner affine maps {row.name} cannot reach; leave it out by filter_fn, "
            "or write the cell with linear layers"
        )
    if kind == "quantized":
        raise RefusedError(f"the weight of a quantized {name} is packed; convert the model before it is quantized")
    if changes_weight and kind != "layer":
        raise RefusedError(
            f"{name} is a fused projection whose weight {row.name} cannot change; leave it out by filter_fn"
        )
    if changes_weight and not has_weight(old):
        raise RefusedError(
            f"the weight of {name} is made by a parametrization or a hook, and {row.name} would change it too; remove "
            "that first, or leave the layer out by filter_fn"
        )
    source = TransposedLinear.of(old) if kind == "conv1d" else old
    if source is not old:
        source.training = old.training
        carry_hooks(old, source)
    try:
        if isinstance(source, nn.MultiheadAttention):
            new: nn.Module = SeparatedAttention.of(source, row, order)
        elif bypassed and not changes_weight:
            new = centered_weight(source, bypassed)
        elif groups and type(source) in (nn.Linear, TransposedLinear) and not changes_weight:
            new = SplitLinear(source, [torch.tensor(group) for group in groups], row, order)  # type: ignore[arg-type]
            carry_hooks(source, new)
        else:
            new = row.affine(source, order=order)
    except (TypeError, ValueError) as error:
        remedy = "" if "filter_fn" in str(error) else "; filter_fn can leave it out"
        raise RefusedError(f"{str(error).rstrip('.')}{remedy}") from error
    old_keys, new_keys = list(old.state_dict()), list(new.state_dict())
    reset = () if old_keys == new_keys else tuple(f"key {key}" for key in old_keys if key not in new_keys)
    notes = ["divided after it too"] if order == "norm_affine" else []
    if isinstance(new, SeparatedAttention) and order == "norm_affine":
        notes.append("each of query, key and value by itself")
    if groups:
        apart = isinstance(new, SplitLinear)
        notes.append(f"each of {len(groups)} projections by itself" if apart else f"{len(groups)} projections together")
    if bypassed and not changes_weight:
        notes.append(f"by its weight, which {bypassed} applies")
    return Made(new, None, -1, reset=reset, note=", ".join(notes))


def make_scale(model: nn.Module, old: nn.Module, reading: NormReading, row: RowLike, ndims: Collection[int]) -> Made:
    r"""What a batch norm in eval mode does to each channel, as gain and shift of a site that does nothing else.

    .. math:: y = w\,(x - m)/\sqrt{v + \epsilon} + \beta
    """
    assert isinstance(row, Normalizer)
    affine = dataclasses.replace(row, elementwise_affine=True)
    made = make_norm(model, old, dataclasses.replace(reading, weight=None, bias=None), affine, "affine_norm", ndims)
    assert made.site is not None
    with torch.no_grad():
        gain, shift = gain_and_shift(reading)
        trained = reading.weight is None or reading.weight.requires_grad
        made.site.weight = nn.Parameter(gain, requires_grad=trained)
        made.site.bias = nn.Parameter(shift, requires_grad=trained)
    kept = tuple(name for name in FIXED if getattr(reading, name) is not None)
    note = "; ".join(part for part in ("as a gain and shift of each channel", made.note) if part)
    return dataclasses.replace(made, kept=kept, reset=(), note=note)


def is_fixed(reading: NormReading) -> bool:
    """Whether in eval mode it is one gain and one shift of each channel."""
    statistics = reading.running_mean is not None and reading.running_var is not None
    return statistics and reading.known.statistic in ("batch", "instance") and reading.placed is None


def folded(layer: nn.Module, reading: NormReading) -> nn.Module:
    r"""The linear or convolution layer with an eval-mode batch norm folded into it.

    .. math:: W'_c = s_c W_c,\qquad b'_c = s_c b_c + t_c,\qquad \mathrm{norm}(z) = s z + t
    """
    new = shared_copy(layer)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter)
    with torch.no_grad():
        gain, shift = gain_and_shift(reading)
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            grouped = weight.view(layer.groups, -1, *weight.shape[1:])  # (groups, in, out, ...)
            by_group = gain.view(layer.groups, 1, -1, *(1,) * (weight.ndim - 2))
            scaled = (grouped * by_group).flatten(0, 1)
        else:
            scaled = weight * gain.view(-1, *(1,) * (weight.ndim - 1))
        moved = shift if bias is None else shift + gain * bias  # type: ignore[operator]
    new.weight = nn.Parameter(scaled.to(weight.dtype), requires_grad=weight.requires_grad)
    new.bias = nn.Parameter(moved.to(weight.dtype), requires_grad=weight.requires_grad)
    return new


def gain_and_shift(reading: NormReading) -> tuple[Tensor, Tensor]:
    r"""Of a batch norm in eval mode, for each channel: :math:`s = w/\sqrt{v + \epsilon}`, :math:`t = \beta - m s`."""
    assert reading.running_mean is not None
    assert reading.running_var is not None
    gain = torch.rsqrt(reading.running_var + (reading.eps or 0.0))
    gain = gain if reading.weight is None else gain * reading.weight
    shift = -reading.running_mean * gain
    return gain, shift if reading.bias is None else shift + reading.bias
