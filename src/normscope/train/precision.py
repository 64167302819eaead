"""Devices and precisions: where a model is trained, and in which arithmetic; mixed ones by Lightning Fabric."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from normscope.train.loop import backpropagate

Precision: TypeAlias = Literal["32-true", "bf16-mixed", "16-mixed"]
Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]


@final
@dataclass(frozen=True, kw_only=True)
class Setup:
    """What training in a precision goes through.

    Attributes:
        model: to be called in the objective; its outputs are float32. Parameters and names are those of the one given.
        optimizer: to be given to `fit`, and to checkpoints.
        backward: to be given to `fit`.
        autocast: makes the context that `model` runs in, for anything that is to run in the same.
        device: where the parameters are now; batches have to be there too.
        scaler: of the losses, in "16-mixed" alone.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    backward: Callable[[Tensor], object]
    autocast: Callable[[], AbstractContextManager[Any]]
    device: torch.device
    scaler: torch.amp.GradScaler | None = field(default=None, repr=False)

    def state(self) -> dict[str, Tensor]:
        """The scaler's state, for checkpoints; empty where there is none."""
        state = {} if self.scaler is None else self.scaler.state_dict()
        return {key: torch.tensor(float(value), dtype=torch.float64) for key, value in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        if self.scaler is not None:
            types = {key: type(value) for key, value in self.scaler.state_dict().items()}
            self.scaler.load_state_dict({key: types[key](value.item()) for key, value in state.items()})


def setup(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    precision: Precision = "32-true",
    accelerator: Accelerator = "auto",
) -> Setup:
    """Move the model to a device, in place, and make its training run in a precision.

    "32-true" is plain torch and adds nothing to the loop: the model, the optimizer and the backward pass are those
    given. The mixed ones keep float32 parameters and run the forward pass under torch's autocast, "16-mixed" with a
    scaled loss too; Lightning Fabric wraps model and optimizer, and is imported for them alone.

    Args:
        model: to be trained; the whole of what the objective calls, so `Penalised(model)` for a penalized one.
        optimizer: of its parameters.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        accelerator: "auto" is the current CUDA device where there is one, else the CPU.

    Raises:
        ValueError: another name; CUDA where there is none; "16-mixed" on the CPU.
        ModuleNotFoundError: a mixed precision without Lightning Fabric.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}.")
    device = _device(accelerator)
    if precision == "32-true":
        return Setup(
            model=model.to(device),
            optimizer=optimizer,
            backward=backpropagate,
            autocast=contextlib.nullcontext,
            device=device,
        )
    if precision == "16-mixed" and device.type == "cpu":
        raise ValueError("16-mixed needs a CUDA device, and this is the CPU. Use bf16-mixed or 32-true.")
    return _mixed(model, optimizer, precision, device)


def _device(accelerator: str) -> torch.device:
    if accelerator not in get_args(Accelerator):
        raise ValueError(f"accelerator must be one of {', '.join(get_args(Accelerator))}, got {accelerator!r}.")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("accelerator is cuda, and there is no CUDA device. Use auto or cpu.")
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def _mixed(model: nn.Module, optimizer: torch.optim.Optimizer, precision: Precision, device: torch.device) -> Setup:
    fabric_module = _fabric()
    devices = 1 if device.type == "cpu" else [device.index]
    plugin = fabric_module.plugins.MixedPrecision(precision, device.type)
    fabric = fabric_module.Fabric(accelerator=device.type, devices=devices, plugins=[plugin])
    prepared, wrapped = fabric.setup(model, optimizer)
    return Setup(
        model=prepared,
        optimizer=wrapped,
        backward=fabric.backward,
        autocast=fabric.autocast,
        device=device,
        scaler=plugin.scaler,
    )


def _fabric() -> Any:
    try:
        import lightning_fabric
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Mixed precision needs {error.name}, which is not installed. Run: pip install 'normscope[study]'"
        ) from error
    return lightning_fabric
