"""Checkpoints: everything a training needs to go on as if it had never stopped, in one safetensors file.

Tensors are named ``model.<name of the state dict>``, ``optimizer.<name of the parameter>.<key>``,
``generator.<name>``, ``batches.<key>`` and ``precision.<key>``; the header's entry ``normscope`` is JSON with the rest
and the SHA-256 of it all. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from normscope.files import write
from normscope.train import optimizer_state

_FORMAT = 1


class Resumable(Protocol):
    """What has a state of its own, such as `normscope.data.shuffled_batches` or a `Setup`."""

    def state(self) -> Mapping[str, Tensor]:
        """Everything it needs to go on."""
        ...

    def restore(self, state: Mapping[str, Tensor], /) -> None:
        """Go on from there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a checkpoint says beside the state it restores.

    Attributes:
        step: the last step taken; go on with ``fit(..., first=step + 1)``.
        extra: as it was saved.
    """

    step: int
    extra: dict[str, Any]


def save(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    batches: Resumable | None = None,
    precision: Resumable | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint beside `path`, synced, and rename it into place.

    Args:
        path: of the file.
        model: its parameters and buffers.
        optimizer: of the model's parameters; its state, and its options, to be compared when it is restored.
        step: the last step taken.
        batches: where the data stand.
        precision: the `Setup` of a precision that has a state, as "16-mixed" has.
        generators: further ones that training draws from, by name: `torch.default_generator` for dropout. Not the
            one of `batches`, which it saves itself.
        extra: anything else, as JSON can hold it.

    Raises:
        ValueError: a state that is no tensor; `extra` is not JSON.
        OSError: the file cannot be written; what stood there still stands.
    """
    parts = {"batches": batches, "precision": precision}
    tensors = {
        **_named("model", _model_state(model)),
        **_named("optimizer", optimizer_state.flatten(optimizer, model)),
        **_named("generator", _states(generators or {})),
        **{key: t for name, part in parts.items() if part is not None for key, t in _named(name, part.state()).items()},
    }
    # A copy each: two tensors of one memory are refused by the format, and training goes on while bytes are written.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    facts = {
        "format": _FORMAT,
        "step": step,
        "options": optimizer_state.options(optimizer),
        "extra": dict(extra or {}),
    }
    try:
        header = json.dumps(facts, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra must be plain JSON ({error}). Save numbers, strings, lists and mappings.") from error
    metadata = {"normscope": header, "sha256": _digest(header, tensors)}
    write(path, _safetensors().save(tensors, metadata))


def restore(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Resumable | None = None,
    precision: Resumable | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
) -> Restored:
    """Put everything that `save` was given back into objects made as those were; change nothing if they do not fit.

    Raises:
        ValueError: in one line: the file is truncated or damaged, no checkpoint, or of other objects than these.
        OSError: the file cannot be read.
    """
    facts, tensors = _read(path)
    generators = generators or {}
    parts = {"batches": batches, "precision": precision}
    try:
        state = _model_state(model)
        optimizer_state.check_options(optimizer, facts["options"])
        _check("model", state, _below("model", tensors))
        loaded = optimizer_state.unflatten(optimizer, model, _below("optimizer", tensors))
        _check("generator", _states(generators), _below("generator", tensors))
        for name, part in parts.items():
            _check_names(name, () if part is None else part.state(), _below(name, tensors))
        for name, part in parts.items():  # the last that can refuse, and the first that changes something
            if part is not None:
                part.restore(_below(name, tensors))
    except ValueError as error:
        raise ValueError(f"{path}: {error} Make everything as it was made for the training that was saved.") from None
    model.load_state_dict(_below("model", tensors))
    optimizer.load_state_dict(loaded)
    for name, generator in generators.items():
        generator.set_state(tensors[f"generator.{name}"])
    return Restored(step=facts["step"], extra=facts["extra"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    library = _safetensors()
    content = path.read_bytes()
    try:
        tensors = library.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except Exception as error:  # the library's own class, and whatever the damaged header makes of JSON and dtypes
        raise ValueError(f"{path} is truncated or damaged ({_one_line(error)}); use an earlier checkpoint.") from None
    header = metadata.get("normscope")
    if header is None:
        raise ValueError(f"{path} is a safetensors file, but no checkpoint of normscope.")
    if metadata.get("sha256") != _digest(header, tensors):
        raise ValueError(f"{path} is damaged (its SHA-256 differs from its content's); use an earlier checkpoint.")
    facts = json.loads(header)
    if facts["format"] != _FORMAT:
        raise ValueError(f"{path} has format {facts['format']}, this version reads {_FORMAT}; use a newer normscope.")
    return facts, tensors


def _model_state(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"the model's state {name} must be a tensor, got {type(value).__name__}.")
    return state


def _states(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    return {name: generator.get_state() for name, generator in generators.items()}


def _check(kind: str, ours: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    _check_names(kind, ours, stored)
    for name, tensor in ours.items():
        if (tensor.shape, tensor.dtype) != (stored[name].shape, stored[name].dtype):
            raise ValueError(
                f"{kind}.{name} was saved as {_describe(stored[name])}, and here it is {_describe(tensor)}."
            )


def _check_names(kind: str, ours: Iterable[str], stored: Iterable[str]) -> None:
    missing, unknown = sorted(set(stored) - set(ours)), sorted(set(ours) - set(stored))
    if missing:
        raise ValueError(f"it holds {kind}.{missing[0]}, which has no place here.")
    if unknown:
        raise ValueError(f"it lacks {kind}.{unknown[0]}.")


def _named(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{kind}.{name}": tensor for name, tensor in tensors.items()}


def _below(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{kind}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _digest(header: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(repr((name, tuple(tensor.shape), str(tensor.dtype))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Checkpoints need {error.name}, which is not installed. Run: pip install 'normscope[study]'"
        ) from error
    return safetensors.torch
