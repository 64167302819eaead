"""RegNorm's penalty as a value of one forward pass, never as state of a module.

A penalised site computes R in every train-mode forward and hands it to `record`. Inside `Penalised` it goes to that
forward's own list. For a plain loop the last value is kept in a weak table outside the modules, which `penalty`
reads: deep copies, state dicts, checkpointed recomputation, torch.func transforms and DDP never meet a stored tensor.
"""

from __future__ import annotations

import threading
import weakref
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


class _Last:
    """What a site did since `penalty` last read it: its latest value, and how often it ran."""

    def __init__(self, value: Tensor, calls: int) -> None:
        self.value = value
        self.calls = calls
        self.read = False


_FORWARDS = _Forwards()
_LAST: weakref.WeakKeyDictionary[nn.Module, _Last] = weakref.WeakKeyDictionary()


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
    elif not (differentiating_by_transform() or getattr(site, "under_measurement", False)):
        # A transform's tensors must not outlive it, and a probe's forward is not the user's.
        last = _LAST.get(site)
        _LAST[site] = _Last(value, 1 if last is None or last.read else last.calls + 1)


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

    Call it after every train-mode forward: ``loss = loss_fn(model(x), y) + penalty_weight * ns.penalty(model)``.

    Returns:
        0-dim tensor in float32 or wider, unit 1; zero for a model without a penalised site.

    Raises:
        RuntimeError: a penalised site ran more than once since the last call (it is shared, or a forward was not
            followed by a call), or has not run in train mode at all. Each names the site and the remedy.
    """
    values = []
    for name, module in model.named_modules():
        if not getattr(module, "penalized", False):
            continue
        last = _LAST.get(module)
        if last is None:
            raise RuntimeError(
                f"ns.penalty reads the last train-mode forward, but site '{name}' has not run in one outside "
                "torch.compile and torch.func; run the model in train mode first, or use ns.nn.Penalised(model)."
            )
        if last.calls > 1:
            raise RuntimeError(
                f"ns.penalty needs each site to run once a forward, but site '{name}' ran {last.calls} times since "
                "the last call; call ns.penalty(model) after every train-mode forward, or use "
                "ns.nn.Penalised(model), which sums over all calls."
            )
        last.read = True
        values.append(last.value)
    return _total(values, model)


def _total(values: list[Tensor], model: nn.Module) -> Tensor:
    if values:
        total = values[0]
        for value in values[1:]:
            total = total + value.to(total.device)
        return total
    like = next(model.parameters(), None)
    return torch.zeros((), device=None if like is None else like.device)
