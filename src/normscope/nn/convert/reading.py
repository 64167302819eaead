"""What a norm module of somebody else's is: channels, eps, gain, shift and statistics, read and then checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from normscope.nn.convert import registry
from normscope.nn.convert.registry import NormClass


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NormReading:
    """One norm module as a conversion sees it. Tensors are the module's own."""

    known: NormClass
    num_features: int
    eps: float | None
    shape: tuple[int, ...]  # of the axes that weight and bias have
    channels_last: bool
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    momentum: float | None
    num_groups: int | None
    after: tuple[nn.Module, ...]
    placed: tuple[int, int] | None = None  # ndim and channel axis, where the module itself is fixed to them

    @property
    def affine(self) -> bool:
        """Whether it has a gain or a shift."""
        return self.weight is not None or self.bias is not None


class UnreadableNormError(ValueError):
    """A module that looks like a norm cannot be read; the message is the reason."""


def read(module: nn.Module) -> NormReading | None:
    """Read a norm module; None where it is none that is known.

    Raises:
        UnreadableNormError: it computes something else than its class is known for.
    """
    if isinstance(getattr(module, "normalizer_site", None), str):
        return _read_site(module)
    uncertain = ""
    for known, certain in registry.candidates(module):
        try:
            reading = _read(module, known)
        except (AttributeError, TypeError, IndexError):
            continue  # known by a pattern, and without what that class has
        if certain or _computes(module, reading):
            return reading
        uncertain = registry.import_path(type(module))
    if uncertain:
        raise UnreadableNormError(
            f"{uncertain} does not compute what the classes it resembles do; "
            "describe it by normscope.nn.convert.register"
        )
    return None


def _read(module: nn.Module, known: NormClass) -> NormReading:
    features = getattr(module, known.features)
    shape = tuple(features.shape) if isinstance(features, Tensor) else features
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    images = known.channels == "first" or (known.channels == "shape" and len(shape) > 2)
    eps = next((getattr(module, name) for name in known.eps if hasattr(module, name)), None)
    if eps is None and not known.center:  # torch's RMS norm then takes that of the input's dtype
        eps = torch.finfo(torch.get_default_dtype()).eps

    def tensor(name: str) -> Any:
        value = getattr(module, name, None)
        return value if isinstance(value, Tensor) else None

    if known.statistic == "position" and len(shape) > 1:
        known = dataclasses.replace(known, statistic="example")
    return NormReading(
        known=known,
        num_features=int(shape[0] if images else shape[-1]),
        eps=None if eps is None else float(eps),
        shape=shape,
        channels_last=not images,
        weight=tensor(known.weight),
        bias=tensor(known.bias),
        running_mean=tensor("running_mean"),
        running_var=tensor("running_var"),
        num_batches_tracked=tensor("num_batches_tracked"),
        momentum=getattr(module, "momentum", None),
        num_groups=getattr(module, "num_groups", None),
        after=tuple(child for name in known.after if isinstance(child := getattr(module, name, None), nn.Module)),
    )


def _read_site(site: nn.Module) -> NormReading | None:
    """A site of ours, made by an earlier conversion or a model built with one; None for what adapts a constructor."""
    row, ndim, axis = (getattr(site, name, None) for name in ("row", "ndim", "channel_dim"))
    if row is None or not isinstance(ndim, int) or not isinstance(axis, int):
        return None
    known = NormClass(path=registry.import_path(type(site)), statistic="batch" if row.couples_batch else "example")
    reading = _read(site, known)
    eps = getattr(row, "eps", None)
    return dataclasses.replace(
        reading, eps=eps or None, momentum=getattr(row, "momentum", None), placed=(ndim, axis), channels_last=axis > 1
    )


@torch.no_grad()
def _computes(module: nn.Module, reading: NormReading) -> bool:
    """Whether the module, in eval mode, does on a small random input what its reading says."""
    known = reading.known
    like = reading.weight if reading.weight is not None else reading.running_mean
    options = {} if like is None else {"device": like.device, "dtype": like.dtype}
    if known.statistic == "weight" or (like is not None and like.is_meta):
        return known.statistic != "weight"  # nothing to compare on the meta device
    inner = reading.shape if known.statistic == "example" else (reading.num_features, *(3,) * ((known.ndim or 4) - 2))
    size = (2, 3, reading.num_features) if reading.channels_last and known.statistic == "position" else (2, *inner)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, generator=generator).to(**options)  # type: ignore[call-overload]
    reading, drawn = _with_random_values(module, reading, generator)
    modes = {m: m.training for m in module.modules()}
    try:
        module.eval()
        got = functional_call(module, drawn, (x,))
        expected = _expected(x, reading)
    except Exception:
        return False
    finally:
        for m, mode in modes.items():
            m.training = mode
    rough = 1e-4 if x.dtype in (torch.float32, torch.float64) else 3e-2
    return isinstance(got, Tensor) and got.shape == x.shape and torch.allclose(got.to(x.dtype), expected, rough, rough)


def _with_random_values(
    module: nn.Module, reading: NormReading, generator: torch.Generator
) -> tuple[NormReading, dict[str, Tensor]]:
    """The reading with other values in its tensors, since a gain of 1 tells little; and these values by name."""
    fields = {"weight": reading.known.weight, "bias": reading.known.bias, "running_mean": "", "running_var": ""}
    drawn: dict[str, Tensor] = {}
    registered = {**module._parameters, **module._buffers}
    for field, name in fields.items():
        old: Tensor | None = getattr(reading, field)
        if old is not None and registered.get(name or field) is old:
            value = torch.rand(old.shape, generator=generator) + (0.5 if "mean" not in field else 0.0)
            drawn[field] = value.to(device=old.device, dtype=old.dtype)
    changed: Any = drawn
    return dataclasses.replace(reading, **changed), {fields[field] or field: value for field, value in drawn.items()}


def _expected(x: Tensor, reading: NormReading) -> Tensor:
    axis = x.ndim - 1 if reading.channels_last else 1
    shape = tuple(reading.num_features if d == axis else 1 for d in range(x.ndim))
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    eps = reading.eps or 0.0
    kind = reading.known.statistic
    if reading.running_mean is not None and reading.running_var is not None:
        y = (wide - reading.running_mean.view(shape)) * (reading.running_var.view(shape) + eps).rsqrt()
    else:
        groups = wide.reshape(len(wide), reading.num_groups, -1) if kind == "group" and reading.num_groups else wide
        rest = range(2, groups.ndim)
        dims = {"position": (axis,), "batch": (0, *rest), "instance": (*rest,), "group": (*rest,)}
        over = dims.get(kind, (1, *rest))
        d = groups - groups.mean(over, keepdim=True) if reading.known.center else groups
        y = (d * (d.square().mean(over, keepdim=True) + eps).rsqrt()).view_as(wide)
    if reading.weight is not None and kind != "example":
        y = y * (reading.weight + reading.known.weight_offset).view(shape)
    elif reading.weight is not None:
        y = y * reading.weight
    if reading.bias is not None:
        y = y + (reading.bias if kind == "example" else reading.bias.view(shape))
    y = y.to(x.dtype)
    for module in reading.after:
        y = module(y)
    return y
