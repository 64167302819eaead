"""From the name of a data set to standardized tensors."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from normscope.data.columns import as_source
from normscope.data.dataset import Dataset, Split
from normscope.data.division import Part, divide
from normscope.data.hub import fetch
from normscope.data.images import without_equal_channels
from normscope.data.source import Source, Values, digits

_BUILT_IN = {"digits": digits}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load(
    name: str, *, validation_fraction: float = 0.1, max_train: int | None = None, max_eval: int | None = None
) -> Dataset:
    r"""Load a classification data set as tensors, divided in three and standardized.

    .. math:: x \leftarrow (x - \mu_c) / \sigma_c

    with mean and standard deviation of the training examples, per channel of images (N, C, H, W) and per column of
    features (N, F); a constant channel is only centered. Images are read at 8 bits; where all of them are grey,
    C = 1, else 3.

    Stored splits are used as they are. A missing validation split is cut from train, and so is a missing test split:
    another part of the same size; both in proportion to the classes and by a fixed generator, so that all trials
    of all seeds see the same division. `Dataset.note` says which was done.

    Args:
        name: "digits" (scikit-learn's, 1x8x8), a local directory, or a hub id such as "uoft-cs/cifar10"; the last
            two through `datasets.load_dataset`.
        validation_fraction: of the training split, for each split that is missing; between 0 and 1/2.
        max_train: at most so many training examples, chosen in proportion to the classes before any is decoded.
        max_eval: the same for validation, and for test.

    Raises:
        ValueError: in one line, for a name that leads nowhere, data that cannot be used, or an argument out of range.
    """
    if not 0.0 < validation_fraction < 0.5:
        raise ValueError(f"validation_fraction must lie between 0 and 0.5, got {validation_fraction}.")
    for argument, value in (("max_train", max_train), ("max_eval", max_eval)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be at least 1, got {value}. Leave it out to use every example.")
    source = _source(name)
    try:
        labels = {split: table.labels for split, table in source.tables.items()}
        parts, notes = divide(labels, validation_fraction=validation_fraction, max_train=max_train, max_eval=max_eval)
        values = _read(source, parts)
    except ValueError as error:
        raise ValueError(f"Data set {name!r}: {error}") from error
    targets = {role: labels[part.table][part.rows] for role, part in parts.items()}
    sha256 = _digest(source.classes, values, targets)
    inputs = _standardize(values)
    splits = {role: Split(inputs[role], targets[role]) for role in parts}
    return Dataset(
        name=name,
        **splits,
        num_classes=len(source.classes),
        classes=source.classes,
        sha256=sha256,
        note="; ".join(filter(None, [source.note, *notes])),
    )


def _source(name: str) -> Source:
    if name in _BUILT_IN:
        return _BUILT_IN[name]()
    path = Path(name).expanduser()
    if not path.is_dir() and not _HUB_ID.fullmatch(name):
        raise ValueError(_unknown(name, path))
    try:
        return as_source(fetch(name))
    except ValueError as error:
        raise ValueError(f"Data set {name!r}: {error}") from error


def _unknown(name: str, path: Path) -> str:
    nearby = [*_BUILT_IN, *(str(entry) for entry in path.parent.glob("[!.]*") if entry.is_dir())]
    close = difflib.get_close_matches(name, nearby, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    what = "a file, not a directory" if path.is_file() else "no built-in data set, directory or hub id"
    return (
        f"Unknown data set: {name!r} is {what}.{hint} Use {', '.join(_BUILT_IN)}, the path of a directory that "
        "datasets.load_dataset reads, or a hub id such as uoft-cs/cifar10."
    )


def _read(source: Source, parts: Mapping[str, Part]) -> dict[str, Values]:
    values = {}
    for role, part in parts.items():
        try:
            values[role] = source.tables[part.table].read(part.rows)
        except ValueError as error:
            raise ValueError(f"in split {part.table}, {error}") from error
    shapes = {role: read.shape[1:] for role, read in values.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"all splits must have examples of one shape, got {shapes}. Resize them beforehand.")
    if values["train"].dtype == np.uint8:
        return dict(zip(values, without_equal_channels(list(values.values())), strict=True))  # type: ignore[arg-type]
    return values


def _digest(classes: tuple[str, ...], values: Mapping[str, Values], targets: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(repr(classes).encode())
    for role, part in values.items():
        digest.update(repr((role, part.shape, part.dtype.str)).encode())
        digest.update(np.ascontiguousarray(part).data)
        digest.update(targets[role].numpy().data)
    return digest.hexdigest()


def _standardize(values: dict[str, Values]) -> dict[str, Tensor]:
    """Float32, channels first, by the moments of train. Empties `values`, so that both copies never coexist."""
    inputs: dict[str, Tensor] = {}
    for role in list(values):
        raw = torch.from_numpy(values.pop(role))
        if raw.ndim == 4:
            raw = raw.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        inputs[role] = raw
    train = inputs["train"]
    over = [axis for axis in range(train.ndim) if axis != 1]
    variance, mean = torch.var_mean(train, over, correction=0, keepdim=True)
    deviation = torch.where(variance > 0, variance.sqrt(), 1.0)
    return {role: part.sub_(mean).div_(deviation).float() for role, part in inputs.items()}
