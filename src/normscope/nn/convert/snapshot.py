"""The state of a model, saved and put back: structure, modes, and the values of every parameter and buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_TABLES = ("_parameters", "_buffers", "_modules")
# What a conversion sets on torch's encoder and its layers, so that they do not bypass the modules within.
FUSED_OFF: dict[str, Any] = {"activation_relu_or_gelu": 0, "use_nested_tensor": False}


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a model was when the snapshot was taken. `restore` brings it back bit for bit, as the same objects.

    The price is the memory of one copy of the parameters and buffers.
    """

    model: nn.Module
    attributes: tuple[tuple[nn.Module, dict[str, Any]], ...]  # of every module: vars(), and copies of its tables
    values: tuple[tuple[Tensor, Tensor, bool, int], ...]  # tensor, copy, requires_grad, version

    @classmethod
    def of(cls, model: nn.Module, also: Sequence[Tensor] = ()) -> Snapshot:
        """Take a snapshot; `also` are tensors that belong to the model without being registered."""
        attributes = tuple(
            (module, {k: dict(v) if k in _TABLES else v for k, v in vars(module).items()}) for module in model.modules()
        )
        tensors = {id(t): t for t in (*model.parameters(), *model.buffers(), *also)}
        values = tuple((t, t.detach().clone(), t.requires_grad, t._version) for t in tensors.values())
        return cls(model, attributes, values)

    def restore(self, *, everything: bool = False) -> None:
        """Put back structure, modes and values; with `everything` all other attributes of the modules too.

        Hooks that were added since stay; tables and tensors are the same objects as before.
        """
        for module, saved in self.attributes:
            state = vars(module)
            for name, value in saved.items():
                if name in _TABLES:
                    if dict(state[name]) != value or list(state[name]) != list(value):
                        state[name].clear()
                        state[name].update(value)
                elif everything or name == "training" or name in FUSED_OFF:
                    state[name] = value
            if everything:
                for name in set(state) - set(saved):
                    del state[name]
        with torch.no_grad():
            for tensor, value, requires_grad, version in self.values:
                _put_back(tensor, value, version)
                if tensor.requires_grad != requires_grad:
                    tensor.requires_grad_(requires_grad)


def _put_back(tensor: Tensor, value: Tensor, version: int) -> None:
    if (tensor.device, tensor.dtype, tensor.shape, tensor.stride()) != (
        value.device,
        value.dtype,
        value.shape,
        value.stride(),
    ):
        tensor.data = value.clone()  # the model was moved, or its dtype changed
    elif (tensor._version != version and not tensor.is_meta) or not _same(tensor, value):
        tensor.copy_(value)


def _same(tensor: Tensor, value: Tensor) -> bool:
    """Bit for bit, NaN included; `tensor.data` may have been written to, which leaves the version as it was."""
    return tensor.is_meta or torch.equal(tensor, value)
