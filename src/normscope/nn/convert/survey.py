"""What a model holds that matters to a conversion: its norms, its affine layers, and what can be neither."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from normscope.nn.affine import CenterInput, DivideOutput, WeightNorm
from normscope.nn.convert.layers import TransposedLinear
from normscope.nn.convert.reading import NormReading, UnreadableNormError, read
from normscope.nn.convert.registry import import_path

AffineKind = Literal["layer", "conv1d", "attention", "recurrent", "quantized"]
_CONV1D = "transformers.pytorch_utils.Conv1D"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """The modules of a model by what they are to a conversion; each with all its names."""

    names: dict[nn.Module, tuple[str, ...]]
    norms: dict[nn.Module, NormReading]
    affines: dict[nn.Module, AffineKind]
    unreadable: dict[nn.Module, str]  # norms that cannot be read, and why
    others: dict[nn.Module, str]  # normalizing modules that no row replaces, and why

    def name(self, module: nn.Module) -> str:
        """Its first name."""
        return self.names[module][0]


def survey(model: nn.Module) -> Survey:
    """Look at every module once."""
    names: dict[nn.Module, tuple[str, ...]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names[module] = (*names.get(module, ()), name)
    norms: dict[nn.Module, NormReading] = {}
    affines: dict[nn.Module, AffineKind] = {}
    unreadable: dict[nn.Module, str] = {}
    others: dict[nn.Module, str] = {}
    inside = {child for module in names for child in _parts(module)}
    for module in names:
        if module in inside:
            continue
        try:
            reading = None if isinstance(module, torch.jit.ScriptModule) else read(module)
        except UnreadableNormError as error:
            unreadable[module] = str(error)
            continue
        if reading is not None:
            norms[module] = reading
        elif (kind := _affine_kind(module)) is not None:
            affines[module] = kind
        elif reason := _other(module):
            others[module] = reason
    return Survey(names=names, norms=norms, affines=affines, unreadable=unreadable, others=others)


def already_converted(module: nn.Module) -> bool:
    """Whether a row has changed this affine layer before."""
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    if any(isinstance(hook, CenterInput | DivideOutput) for hook in hooks) or isinstance(module, TransposedLinear):
        return True
    return any(isinstance(child, WeightNorm) for child in module.modules())


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """What belongs to a module that is treated as a whole."""
    if isinstance(module, nn.MultiheadAttention):
        yield from (child for child in module.modules() if child is not module)
    parametrizations = getattr(module, "parametrizations", None)
    if isinstance(parametrizations, nn.Module):
        yield from parametrizations.modules()


def _affine_kind(module: nn.Module) -> AffineKind | None:
    if isinstance(module, nn.Linear | _ConvNd) and ".quantized." not in type(module).__module__:
        return "layer"
    if isinstance(module, nn.MultiheadAttention):
        return "attention"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "recurrent"
    if ".quantized." in f"{type(module).__module__}." and hasattr(module, "weight"):
        return "quantized"
    return "conv1d" if any(import_path(kind) == _CONV1D for kind in type(module).__mro__) else None


def _other(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        return (
            "a scripted module is compiled; convert the model before it is scripted"
            if _normlike(module.original_name)
            else ""
        )
    if isinstance(module, nn.LocalResponseNorm | nn.CrossMapLRN2d):
        return "local response normalization has no row"
    own = next(module.children(), None) is None
    if own and _normlike(name):
        return f"{import_path(type(module))} is not known; describe it by normscope.nn.convert.register"
    return ""


def _normlike(name: str) -> bool:
    return "norm" in name.lower() and "normal" not in name.lower()
