"""The norm classes that a conversion knows, by import path, as rows of data; their packages are never imported.

A class is found by the import path of itself or of a class it derives from. A row says where the module keeps what a
conversion reads; `register` adds one for a class of your own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from torch import nn

Statistic = Literal["batch", "position", "example", "group", "instance", "weight"]
Channels = Literal["first", "last", "shape"]


@dataclass(frozen=True, kw_only=True)
class NormClass:
    """Where a norm class keeps what a conversion reads. Attributes of the module are given by name.

    Attributes:
        path: import path of the class (``package.module.Class``); ``*`` stands for anything.
        statistic: one mean or scale for each channel of the "batch", each "position" (token, pixel), each "example",
            each "group" of channels, each channel of each example ("instance"), or of the layer's "weight".
        channels: the channel axis is the "first" after the batch's, the "last", or the first of `normalized_shape`
            where that has three axes or more ("shape").
        ndim: axes of its input where the class fixes them.
        center: whether a mean is subtracted.
        features: where the number of channels stands: an int, a tuple or a tensor.
        eps: where eps stands, the first of these that the module has.
        weight, bias: the gain and shift.
        weight_offset: the gain is `weight` plus this (1 in Gemma's RMS norm).
        frozen: gain and shift are buffers, not trained.
        after: submodules that run after the normalization (an activation fused with it), in order.
        lost: what no row takes over, said in the table.
    """

    path: str
    statistic: Statistic
    channels: Channels = "first"
    ndim: int | None = None
    center: bool = True
    features: str = "num_features"
    eps: tuple[str, ...] = ("eps", "variance_epsilon", "epsilon")
    weight: str = "weight"
    bias: str = "bias"
    weight_offset: float = 0.0
    frozen: bool = False
    after: tuple[str, ...] = ()
    lost: str = ""


_TORCH = "torch.nn.modules"
_TIMM = "timm.layers"
_FUSED = ("drop", "act")


def _batch(path: str, ndim: int | None = 4, **fields: object) -> NormClass:
    return NormClass(path=path, statistic="batch", ndim=ndim, **fields)  # type: ignore[arg-type]


def _position(path: str, **fields: object) -> NormClass:
    defaults = {"channels": "last", "features": "normalized_shape"}
    return NormClass(path=path, statistic="position", **(defaults | fields))  # type: ignore[arg-type]


def _rms(path: str, **fields: object) -> NormClass:
    return _position(path, **({"center": False, "features": "weight"} | fields))


def _group(path: str, **fields: object) -> NormClass:
    return NormClass(path=path, statistic="group", features="num_channels", **fields)  # type: ignore[arg-type]


_FROZEN_LOSS = "its statistics and gain were frozen"
_KNOWN: list[NormClass] = [
    _batch(f"{_TORCH}.batchnorm.BatchNorm1d", ndim=None),
    _batch(f"{_TORCH}.batchnorm.BatchNorm2d"),
    _batch(f"{_TORCH}.batchnorm.BatchNorm3d", ndim=5),
    _batch(f"{_TORCH}.batchnorm.SyncBatchNorm", ndim=None, lost="synchronisation between processes"),
    *(NormClass(path=f"{_TORCH}.instancenorm.InstanceNorm{d}d", statistic="instance", ndim=d + 2) for d in (1, 2, 3)),
    NormClass(
        path=f"{_TORCH}.normalization.LayerNorm", statistic="position", channels="shape", features="normalized_shape"
    ),
    NormClass(
        path=f"{_TORCH}.normalization.RMSNorm",
        statistic="position",
        channels="shape",
        features="normalized_shape",
        center=False,
    ),
    _group(f"{_TORCH}.normalization.GroupNorm"),
    _batch("torchvision.ops.misc.FrozenBatchNorm2d", features="weight", frozen=True, lost=_FROZEN_LOSS),
    _position("torchvision.models.convnext.LayerNorm2d", channels="first", ndim=4),
    _batch(f"{_TIMM}.norm_act.BatchNormAct2d", after=_FUSED),
    _batch(f"{_TIMM}.norm_act.SyncBatchNormAct", after=_FUSED, lost="synchronisation between processes"),
    _batch(f"{_TIMM}.norm_act.FrozenBatchNormAct2d", features="weight", after=_FUSED, frozen=True, lost=_FROZEN_LOSS),
    _group(f"{_TIMM}.norm_act.GroupNormAct", after=_FUSED),
    _group(f"{_TIMM}.norm_act.GroupNorm1Act", after=_FUSED),
    *(_position(f"{_TIMM}.norm_act.LayerNormAct{kind}", after=_FUSED) for kind in ("", "Fp32")),
    *(
        _position(f"{_TIMM}.norm_act.LayerNormAct2d{kind}", channels="first", ndim=4, after=_FUSED)
        for kind in ("", "Fp32")
    ),
    *(_rms(f"{_TIMM}.norm_act.RmsNormAct{kind}", after=_FUSED) for kind in ("", "Fp32")),
    *(_rms(f"{_TIMM}.norm_act.RmsNormAct2d{kind}", channels="first", ndim=4, after=_FUSED) for kind in ("", "Fp32")),
    *(_position(f"{_TIMM}.norm.LayerNorm2d{kind}", channels="first", ndim=4) for kind in ("", "Fp32")),
    *(_rms(f"{_TIMM}.norm.RmsNorm{kind}", features="normalized_shape") for kind in ("", "Fp32")),
    *(
        _rms(f"{_TIMM}.norm.RmsNorm2d{kind}", channels="first", ndim=4, features="normalized_shape")
        for kind in ("", "Fp32")
    ),
    *(
        NormClass(path=f"{_TIMM}.std_conv.{kind}StdConv2d{same}", statistic="weight", features="out_channels", ndim=4)
        for kind in ("", "Scaled")
        for same in ("", "Same")
    ),
    # Wherever they are defined: what such a class computes is compared with what its row says before it is converted.
    _batch("*FrozenBatchNorm2d", features="weight", frozen=True, lost=_FROZEN_LOSS),
    _rms("*T5LayerNorm"),
    _rms("*RMSNorm"),
    _rms("*RMSNorm", weight_offset=1.0),
]


def register(*classes: NormClass) -> None:
    """Let conversions know norm classes; a later row is preferred to an earlier one of the same path.

    Raises:
        TypeError: something else than a `NormClass` arrived.
    """
    for row in classes:
        if not isinstance(row, NormClass):
            raise TypeError(
                f"register takes rows that say where a norm class keeps what it has, got {row!r}; "
                "make one by normscope.nn.convert.NormClass(path=..., statistic=...)."
            )
        _KNOWN.insert(0, row)


def import_path(kind: type) -> str:
    """``package.module.Class`` of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def candidates(module: nn.Module) -> Iterator[tuple[NormClass, bool]]:
    """What the module may be, best first, and whether that is certain: its very class is known by its full path.

    A class that derives from a known one, or is known by a pattern, may compute something else.
    """
    for kind in type(module).__mro__:
        path = import_path(kind)
        found = [row for row in _KNOWN if row.path == path or ("*" in row.path and fnmatchcase(path, row.path))]
        parts = tuple(name for name, _ in module.named_children())
        for row in found:
            certain = kind is type(module) and row.path == path
            yield row, certain
            if certain:
                continue
            layouts = [row] if row.channels == "first" else [row, dataclasses.replace(row, channels="first", ndim=4)]
            yield from ((layout, False) for layout in layouts[1:])
            if parts and parts != row.after:  # an activation of its own
                yield from ((dataclasses.replace(layout, after=parts), False) for layout in layouts)
        if found:
            return
