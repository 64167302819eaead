"""Which layers make an example's output depend on the others of its batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from normscope.curvature.batches import num_examples
from normscope.curvature.risk import Risk


def coupling_layers(risk: Risk) -> tuple[str, ...]:
    """Names of the modules whose output for an example depends on other examples, in the risk's mode.

    Those that declare it (`couples_batch`), torch's batch norms where they use the batch's statistics, and any other
    module whose outputs for the rest of the batch change when the first example is replaced by the second.
    """
    count = num_examples(risk.batch)
    if count < 2:
        return ()

    def work(model: nn.Module) -> tuple[str, ...]:
        modules = dict(model.named_modules())
        declared = [name for name, module in modules.items() if _declares(module)]
        before, after = _rest(risk, model, count, swap=False), _rest(risk, model, count, swap=True)
        changed = [name for name in before if name in after and not _equal(before[name], after[name])]
        # The outputs after the first coupled layer differ too; without a declaration, the first one is to blame.
        return tuple(declared) or tuple(changed[:1])

    with torch.no_grad():
        return risk.call(risk.values, work)


def _declares(module: nn.Module) -> bool:
    declared = getattr(module, "couples_batch", None)
    if isinstance(declared, bool):
        return declared
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.training or module.running_mean is None
    return False


def _rest(risk: Risk, model: nn.Module, count: int, *, swap: bool) -> dict[str, list[Tensor]]:
    """Each leaf module's outputs for all examples but the first, the first replaced by the second if `swap`."""
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
            leaves = (leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor))
            seen[name] = [leaf[1:].clone() for leaf in leaves if leaf.ndim > 0 and leaf.shape[0] == count]

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        other = (_swapped(risk.batch[0], count), risk.batch[1]) if swap else risk.batch
        risk.at(other).outputs(model)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _swapped(inputs: Any, count: int) -> Any:
    def swap(leaf: Tensor) -> Tensor:
        if leaf.ndim == 0 or leaf.shape[0] != count:
            return leaf
        return torch.cat([leaf[1:2], leaf[1:]])

    return pytree.tree_map_only(Tensor, swap, inputs)


def _equal(before: list[Tensor], after: list[Tensor]) -> bool:
    return len(before) == len(after) and all(torch.allclose(a, b) for a, b in zip(before, after, strict=True))
