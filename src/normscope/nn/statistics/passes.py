"""Run a model over a loader for what hooks see on the way, and leave it as it was."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Forward: TypeAlias = Callable[[nn.Module, Any], object]


def run(model: nn.Module, loader: Iterable[Any], forward: Forward | None, *, caller: str) -> int:
    """Call the model on every batch; return how many there were.

    A batch is the inputs, or a tuple or list whose first member they are; ``forward(model, inputs)`` runs the model, by
    default ``model(**inputs)`` for a mapping and ``model(inputs)`` for anything else.

    Raises:
        ValueError: the loader gave no batch.
    """
    batches = 0
    for batch in loader:
        inputs = batch[0] if isinstance(batch, tuple | list) and batch else batch
        (forward or _call)(model, inputs)
        batches += 1
    if not batches:
        raise ValueError(
            f"{caller} reads at least one batch, but the loader gave none; pass a list of batches or a loader (a "
            "generator that was read before gives none)."
        )
    return batches


def _call(model: nn.Module, inputs: Any) -> object:
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


@contextlib.contextmanager
def undisturbed(model: nn.Module, *, train: frozenset[nn.Module] = frozenset()) -> Iterator[None]:
    """Run the model inside; afterwards modes, attributes, buffers, hooks and the random state are what they were.

    Inside there is no graph, the modules of `train` are in train mode and all others in eval mode, so that dropout and
    stochastic depth are off. Modes are set and not called: a ``train()`` of the user's own may do more than switch.
    """
    with (
        _attributes_restored(model),
        _buffers_restored(model),
        _random_state_restored(model),
        torch.inference_mode(mode=False),
        torch.no_grad(),
        _every_module_called(),
    ):
        for module in model.modules():
            module.training = module in train
            module.under_measurement = True  # type: ignore[assignment]  # a penalised site then keeps no record of it
        yield


@contextlib.contextmanager
def hooks(*handles: RemovableHandle) -> Iterator[None]:
    """Remove the hooks at the end."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _attributes_restored(model: nn.Module) -> Iterator[None]:
    saved = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in saved:
            vars(module).clear()
            vars(module).update(attributes)


@contextlib.contextmanager
def _buffers_restored(model: nn.Module) -> Iterator[None]:
    """Put back each buffer's object and value: some forwards write into it, some assign another."""
    saved = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in saved:
            module._buffers[name] = buffer
            write(buffer, value)


@torch.no_grad()
def write(tensor: Tensor, value: Tensor) -> None:
    """Write a value into a parameter or buffer, unless it holds that value already."""
    value = value.to(tensor.device, tensor.dtype)
    if not torch.equal(tensor, value):
        tensor.copy_(value)


@contextlib.contextmanager
def _random_state_restored(model: nn.Module) -> Iterator[None]:
    """A loader that shuffles draws from the global state, and so may a forward."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    devices = sorted({tensor.get_device() for tensor in tensors if tensor.is_cuda})
    state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = None if numpy is None else numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(numpy_state)


@contextlib.contextmanager
def _every_module_called() -> Iterator[None]:
    """Torch's encoder layers otherwise bypass their norms in one kernel, and each hook recompiles a compiled module."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # Where nothing has imported torch's compiler there is nothing compiled, and importing it takes a second.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with eager:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
