"""RegNorm's penalty as a value of one forward pass, never as state of a module.

A penalised site computes R in every train-mode forward and hands it to `record`. Inside `Penalised` it goes to that
forward's own list. For a plain loop the last value is kept in a weak table outside the modules, which `penalty`
reads: deep copies, state dicts, checkpointed recomputation, torch.func transforms and DDP never meet a stored tensor.
"""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normscope.nn.modes import differentiating_by_transform


class _Forward:
    """The penalties of one `Penalised` forward, in the order its sites ran."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.grad_enabled = torch.is_grad_enabled()


class _Forwards(threading.local):
    """The `Penalised` forwards under way in this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[_Forward] = []


@dataclass(frozen=True, slots=True)
class _Call:
    """What a site did in the last forward it ran in."""

    value: Tensor
    number: int  # grows with every call of any site
    root: weakref.ref[nn.Module]  # the outermost module being called
    forward: object  # the very call of the root: the same object for every site that runs within it
    times: int  # how often the site ran within it


_FORWARDS = _Forwards()
_LAST: weakref.WeakKeyDictionary[nn.Module, _Call] = weakref.WeakKeyDictionary()
_NUMBERS = itertools.count()
_MODULE_CALL = nn.Module._call_impl.__code__


def record(site: nn.Module, value: Tensor) -> None:
    """Hand over the penalty of one call of `site` (called by sites, in train mode)."""
    if torch.compiler.is_compiling():
        if _FORWARDS.stack:
            _FORWARDS.stack[-1].values.append(value)
        return
    if torch._C._current_graph_task_id() != -1:
        return  # activation checkpointing recomputes this call inside backward; its penalty was counted in forward
    if _FORWARDS.stack:
        _collect(_FORWARDS.stack[-1], site, value)
        _LAST.pop(site, None)  # `penalty` must not read an older forward, nor this table keep this one's graph alive
    elif not (differentiating_by_transform() or getattr(site, "under_measurement", False)):
        # A transform's tensors must not outlive it, and a probe's forward is not the user's.
        _remember(site, value)


def _remember(site: nn.Module, value: Tensor) -> None:
    root, forward = _outermost_call(site)
    last = _LAST.get(site)
    times = last.times + 1 if last is not None and last.forward is forward else 1
    _LAST[site] = _Call(value, next(_NUMBERS), weakref.ref(root), forward, times)


def _outermost_call(site: nn.Module) -> tuple[nn.Module, object]:
    """Return the outermost module being called, and an object that only this call of it has.

    Python's own stack knows when a model's forward began; a hook would have to be installed on a model that the site
    has never seen. The object is the call's dictionary of keyword arguments, made anew for each call.
    """
    outermost, frame = None, sys._getframe(1)
    while frame is not None:
        if frame.f_code is _MODULE_CALL:
            outermost = frame
        frame = frame.f_back  # type: ignore[assignment]
    if outermost is None:  # the site's forward was called, not the site
        return site, object()
    return outermost.f_locals["self"], outermost.f_locals["kwargs"]


def _collect(forward: _Forward, site: nn.Module, value: Tensor) -> None:
    if forward.grad_enabled and not torch.is_grad_enabled():
        raise RuntimeError(
            f"A penalised site ({site}) ran without gradients inside a forward that has them, so its penalty would "
            "not be minimised; use torch.utils.checkpoint with use_reentrant=False, or put the whole call under "
            "no_grad."
        )
    forward.values.append(value)


class Penalised(nn.Module):
    r"""Return a model's outputs together with RegNorm's penalty of this very forward.

    .. math:: \mathrm{forward}(x) = (f(x),\; R), \qquad R = \sum_{\text{sites, calls}} R^l

    R is a 0-dim tensor in float32 or wider, differentiable twice; zero in eval mode and for models without a
    penalised site. A site that runs twice counts twice. Nothing is stored: the training loop, curvature and DDP use
    this wrapper (``DDP(Penalised(model))``) and minimise ``loss + penalty_weight * R``. Under gradient accumulation
    the penalty is the mean of the micro-batches' R, whose sampling floor is 1/N for N examples in a micro-batch.

    Args:
        module: any module.

    Raises:
        RuntimeError: a penalised site ran under no_grad within a forward that has gradients (reentrant checkpointing).

    Source: "Is Batch Norm unique?", total loss of section 3.2.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """Run the module; see the class for what comes back."""
        forward = _Forward()
        _FORWARDS.stack.append(forward)
        try:
            outputs = self.module(*args, **kwargs)
        finally:
            _FORWARDS.stack.pop()
        return outputs, _total(forward.values, self.module)


def penalty(model: nn.Module) -> Tensor:
    r"""RegNorm's penalty :math:`R = \sum_l R^l` of the model's last train-mode forward, for a plain loop.

    ``loss = loss_fn(model(x), y) + penalty_weight * ns.penalty(model)``. A forward is one call of the outermost module
    that holds the model's penalised sites: the model itself, or what wraps it.

    Returns:
        0-dim tensor in float32 or wider, unit 1; zero for a model without a penalised site.

    Raises:
        RuntimeError: a penalised site ran more than once in that forward (it is shared); no forward was seen; or the
            sites did not run within one module. Each names a site and the remedy.
    """
    sites = {name: module for name, module in model.named_modules() if getattr(module, "penalized", False)}
    if not sites:
        return _total([], model)
    calls = {name: _LAST[site] for name, site in sites.items() if site in _LAST}
    if not calls:
        raise RuntimeError(
            f"ns.penalty reads the last train-mode forward, but site '{next(iter(sites))}' has not run in one outside "
            "Penalised, torch.compile and torch.func; run the model in train mode first, or use ns.nn.Penalised(model)."
        )
    last = max(calls.values(), key=lambda call: call.number)
    ran = {name: call for name, call in calls.items() if call.forward is last.forward}
    root = last.root()
    held = set() if root is None else set(root.modules())
    for name, site in sites.items():
        if name not in ran and site not in held:
            raise RuntimeError(
                f"ns.penalty needs all sites to run within one call of a module that holds them, but site '{name}' is "
                "not part of the module called last; give the model a forward that calls its parts."
            )
    for name, call in ran.items():
        if call.times > 1:
            raise RuntimeError(
                f"ns.penalty needs each site to run once a forward, but site '{name}' ran {call.times} times in the "
                "last one; use ns.nn.Penalised(model), which sums over all calls."
            )
    return _total([call.value for call in ran.values()], model)


def _total(values: list[Tensor], model: nn.Module) -> Tensor:
    if values:
        total = values[0]
        for value in values[1:]:
            total = total + value.to(total.device)
        return total
    like = next(model.parameters(), None)
    return torch.zeros((), device=None if like is None else like.device)
