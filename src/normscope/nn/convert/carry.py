"""What the new module takes over from the old one: parameters, statistics, device, dtype, mode and hooks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normscope.nn.convert.reading import NormReading

# The very dictionaries are shared, so that the handle of a hook still removes it.
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, slots=True)
class Carried:
    """Names of what was kept, and of what was lost or starts anew."""

    kept: tuple[str, ...]
    reset: tuple[str, ...]


def like(reading: NormReading | None, model: nn.Module, x_dtype: torch.dtype | None = None) -> Tensor:
    """A tensor whose device and dtype the new module should have."""
    own = () if reading is None else (reading.weight, reading.bias, reading.running_mean)
    for tensor in (*own, *model.parameters(), *model.buffers()):
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            return tensor
    return torch.empty(0, dtype=x_dtype)


def carry_norm(reading: NormReading, site: nn.Module) -> Carried:
    """Hand gain, shift and running statistics to `site`, as far as it has them and their shape is (C,).

    A trained gain or shift stays the same Parameter, so that ties, optimizers and `requires_grad` hold.
    """
    kept: list[str] = []
    reset: list[str] = []
    offset = reading.known.weight_offset
    for name, value in (("weight", reading.weight), ("bias", reading.bias)):
        has = isinstance(getattr(site, name, None), nn.Parameter)
        if value is None or not has or value.shape != getattr(site, name).shape:
            if value is not None or has:
                reset.append(name)
            continue
        shared = isinstance(value, nn.Parameter) and not (name == "weight" and offset)
        if shared:
            setattr(site, name, value)
        else:
            shift = offset if name == "weight" else 0.0
            trained = value.requires_grad or reading.known.frozen
            setattr(site, name, nn.Parameter(value.detach() + shift, requires_grad=trained))
        kept.append(name)
    for name in _STATISTICS:
        value, fresh = getattr(reading, name), getattr(site, name, None)
        if value is not None and isinstance(fresh, Tensor) and fresh.shape == value.shape:
            setattr(site, name, value.detach().clone())
            kept.append(name)
        elif (value is not None or fresh is not None) and not (value is None and name == "num_batches_tracked"):
            reset.append(name)
    moments = {"running_mean", "running_var"}
    if moments & set(kept) and "num_batches_tracked" in reset:
        reset.remove("num_batches_tracked")  # a frozen norm had none, and a row without statistics needs none
    if reading.known.lost:
        reset.append(reading.known.lost)
    return Carried(tuple(kept), tuple(reset))


def carry_hooks(old: nn.Module, new: nn.Module) -> int:
    """Let `new` share the hooks of `old`, before its own, and say how many there are."""
    count = 0
    for name in _HOOKS:
        table = vars(old)[name]
        count += len(table) if not name.endswith(("with_kwargs", "always_called")) else 0
        own = vars(new)[name]
        if table and not own:
            vars(new)[name] = table
        elif table:
            merged = type(own)(table)
            merged.update(own)
            vars(new)[name] = merged
    full = vars(old).get("_is_full_backward_hook")
    if full is not None:
        vars(new)["_is_full_backward_hook"] = full
    return count
