"""Which layers make an example's output depend on the others of its batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from normscope.curvature.batches import num_examples
from normscope.curvature.risk import Risk


def coupling_layers(risk: Risk) -> tuple[str, ...]:
    """Names of the modules whose output for an example depends on other examples, in the risk's mode.

    Those that declare it (`couples_batch`), torch's batch norms where they use the batch's statistics, and any other
    module (the model itself is "") whose outputs for the rest of the batch change when the first example is replaced
    by the second.
    """
    count = num_examples(risk.batch)
    if count < 2:
        return ()
    with torch.no_grad():
        declared = risk.call(risk.values, _declaring)
        if declared:
            return declared
        # Each in an evaluation of its own, so that a model that draws draws the same.
        before, after = (risk.call(risk.values, _Rest(risk, count, inputs)) for inputs in _inputs(risk, count))
        changed = [name for name in before if name in after and not _equal(before[name], after[name])]
        return tuple(changed[:1])  # the outputs after the first one differ too, so it is to blame


def surrogate_layers(risk: Risk) -> dict[str, str]:
    """Modules whose backward pass, in the risk's mode, is not the derivative of their forward, and their classes.

    Those that declare it (`surrogate_backward`), by name; the model itself is "".
    """

    def declaring(model: nn.Module) -> dict[str, str]:
        named = model.named_modules()
        return {name: _title(module) for name, module in named if getattr(module, "surrogate_backward", False)}

    return risk.call(risk.values, declaring)


def _title(module: nn.Module) -> str:
    return str(getattr(module, "normalizer_site", None) or type(module).__name__)


def _declaring(model: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, module in model.named_modules() if _declares(module))


def _declares(module: nn.Module) -> bool:
    declared = getattr(module, "couples_batch", None)
    if isinstance(declared, bool):
        return declared
    if isinstance(module, _BatchNorm) and not isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return module.training or module.running_mean is None
    return False


@final
@dataclass(frozen=True, slots=True)
class _Rest:
    """Each module's outputs, and at last the model's, for all examples but the first."""

    risk: Risk
    count: int
    inputs: Any

    def __call__(self, model: nn.Module) -> dict[str, list[Tensor]]:
        seen: dict[str, list[Tensor]] = {}

        def watch(name: str) -> Any:
            def hook(_module: nn.Module, _inputs: Any, outputs: Any) -> None:
                seen[name] = self._of(outputs)

            return hook

        handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
        try:
            seen[""] = self._of(self.risk.at((self.inputs, self.risk.batch[1])).outputs(model))
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def _of(self, outputs: Any) -> list[Tensor]:
        leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        return [leaf[1:].clone() for leaf in leaves if leaf.ndim > 0 and leaf.shape[0] == self.count]


def _inputs(risk: Risk, count: int) -> tuple[Any, Any]:
    """The batch's inputs, and the same with the first example replaced by the second."""
    return risk.batch[0], _swapped(risk.batch[0], count)


def _swapped(inputs: Any, count: int) -> Any:
    def swap(leaf: Tensor) -> Tensor:
        if leaf.ndim == 0 or leaf.shape[0] != count:
            return leaf
        return torch.cat([leaf[1:2], leaf[1:]])

    return pytree.tree_map_only(Tensor, swap, inputs)


def _equal(before: list[Tensor], after: list[Tensor]) -> bool:
    return len(before) == len(after) and all(torch.allclose(a, b) for a, b in zip(before, after, strict=True))
