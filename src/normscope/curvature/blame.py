"""Name the layer whose second derivative is wrong or missing, once a whole model's product failed its check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from normscope.curvature.check import Checker
from normscope.curvature.machinery import Kind, Machinery
from normscope.curvature.parameters import Layout
from normscope.curvature.risk import Risk
from normscope.isolation import copies
from normscope.subject import Subject


def culprit(kind: Kind, risk: Risk, candidates: Sequence[Machinery]) -> str:
    """The innermost layer for which, on its own, no candidate is exact; else the model or its loss."""
    calls = sorted(_calls(risk), key=lambda call: -call[0].count("."))
    for name, module, arguments in calls:
        if not any(_passes(kind, machinery, module, arguments, risk) for machinery in candidates):
            return f"the layer {name} ({type(module).__name__})"
    return "the model outside its layers, or its loss,"


def _calls(risk: Risk) -> list[tuple[str, nn.Module, tuple[Any, ...]]]:
    """Each module within the model with the arguments of its first call."""
    calls: dict[str, tuple[str, nn.Module, tuple[Any, ...]]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, (name, module, copies((args, kwargs))))

        return hook

    modules = [(name, module) for name, module in risk.stand_in.subject.model.named_modules() if name]
    handles = [module.register_forward_pre_hook(watch(name), with_kwargs=True) for name, module in modules]
    try:
        risk.call(risk.values, risk.outputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(calls.values())


def _passes(kind: Kind, machinery: Machinery, module: nn.Module, arguments: tuple[Any, ...], risk: Risk) -> bool:
    alone = _Alone(module, arguments)
    if not list(alone.parameters()):
        return True
    subject = Subject(alone, _quadratic, (torch.zeros(1), torch.zeros(1)), forward=lambda model, _: model())
    try:
        own = Risk.of(subject, Layout.of(alone, None), mode=risk.mode, dtype=torch.float64)
        return Checker(kind, own, examples=1)(lambda at: machinery.prepare(kind, at)).passed
    except Exception:
        return False


@final
class _Alone(nn.Module):
    """A module as a function of its parameters and its floating-point arguments."""

    def __init__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.module = module
        leaves, self._spec = pytree.tree_flatten(arguments)
        self._fixed = leaves
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        self.arguments = nn.ParameterList([nn.Parameter(leaves[i]) for i in self._places])

    def forward(self) -> Any:
        leaves = list(self._fixed)
        for place, argument in zip(self._places, self.arguments, strict=True):
            leaves[place] = argument
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return self.module(*args, **kwargs)


def _quadratic(outputs: Any, _targets: Tensor) -> Tensor:
    """A loss that sees every output and whose curvature is not zero."""
    total = torch.zeros((), dtype=torch.float64)
    for leaf in pytree.tree_leaves(outputs):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            weights = torch.arange(leaf.numel(), dtype=leaf.dtype, device=leaf.device).cos().view(leaf.shape)
            total = total.to(leaf.device) + (weights * leaf).sum() + 0.5 * leaf.square().sum()
    return total
