"""From the name of a data set to tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from normscope.data.columns import as_source
from normscope.data.dataset import Dataset, Split
from normscope.data.division import Part, divide
from normscope.data.hub import fetch
from normscope.data.images import without_equal_channels
from normscope.data.naming import EXAMPLES, TEXTS, check_name, check_options, naming
from normscope.data.source import Source, Values
from normscope.data.text import as_splits, stored_texts


def load(
    name: str,
    *,
    validation_fraction: float = 0.1,
    max_train: int | None = None,
    max_eval: int | None = None,
    image_size: int | None = None,
    sequence_length: int | None = None,
    vocabulary: int | None = None,
) -> Dataset:
    r"""Load a data set as tensors, divided in three: images or features with their classes, or a text.

    Images and features are standardized:

    .. math:: x \leftarrow (x - \mu_c) / \sigma_c

    with mean and standard deviation of the training examples, per channel of images (N, C, H, W) and per column of
    features (N, F); a constant channel is only centered. Images are read at 8 bits; where all of them are grey,
    C = 1, else 3.

    With `sequence_length` T the data are a text for language models: inputs (N, T) of tokens, int64, and as targets
    (N, T) the same one token further. Texts are packed: all those of a split, each followed by token 0, are one
    sequence, and example n begins with its token nT. So each token is predicted once, nothing is padded and no target
    ignored; an example may begin inside one text and end inside another.

    Stored splits are used as they are. A missing validation split is cut from train, and so is a missing test split:
    another part of the same size; both in proportion to the classes and by a fixed generator, so that all trials
    of all seeds see the same division. From texts the first ones are cut, so that lines of one text stay together;
    where only one split of texts is stored, it is the training split whatever its name. `Dataset.note` says which was
    done.

    Args:
        name: "digits" (scikit-learn's, 1x8x8), "declaration" (of Independence, a text of 8,000 characters), a local
            directory, or a hub id such as "uoft-cs/cifar10", followed by the configuration where there are several,
            "Salesforce/wikitext:wikitext-2-v1"; the last two through `datasets.load_dataset`.
        validation_fraction: of the training split, for each split that is missing; between 0 and 1/2.
        max_train: at most so many training examples; images are chosen in proportion to the classes before any is
            decoded.
        max_eval: the same for validation, and for test.
        image_size: images are resized to so many pixels a side: the largest central square of each, bilinear,
            antialiased.
        sequence_length: T, in tokens; it makes the data a text.
        vocabulary: tokens of a byte-level byte-pair encoding that is learned from the training texts; None for their
            characters.

    Raises:
        ValueError: in one line, for a name that leads nowhere, data that cannot be used, or an argument out of range.
    """
    if not 0.0 < validation_fraction < 0.5:
        raise ValueError(f"validation_fraction must lie between 0 and 0.5, got {validation_fraction}.")
    check_options(
        max_train=max_train,
        max_eval=max_eval,
        image_size=image_size,
        sequence_length=sequence_length,
        vocabulary=vocabulary,
    )
    check_name(name)
    with naming(name):
        if sequence_length is None:
            return _examples(name, image_size, validation_fraction, max_train, max_eval)
        if name in EXAMPLES:
            raise ValueError("it is no text. Leave sequence_length out.")
        splits, learned, notes = as_splits(
            {"train": TEXTS[name]()} if name in TEXTS else stored_texts(fetch(name)),
            sequence_length=sequence_length,
            vocabulary=vocabulary,
            validation_fraction=validation_fraction,
            max_train=max_train,
            max_eval=max_eval,
        )
    values = {role: split.inputs.numpy() for role, split in splits.items()}
    targets = {role: split.targets for role, split in splits.items()}
    return Dataset(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        num_classes=len(learned.tokens),
        classes=learned.tokens,
        sha256=digest(learned.tokens, values, targets),
        note="; ".join(notes),
        task="language",
    )


def _examples(
    name: str, image_size: int | None, validation_fraction: float, max_train: int | None, max_eval: int | None
) -> Dataset:
    source = _source(name, image_size)
    labels = {split: table.labels for split, table in source.tables.items()}
    parts, notes = divide(labels, validation_fraction=validation_fraction, max_train=max_train, max_eval=max_eval)
    values = _read(source, parts)
    targets = {role: labels[part.table][part.rows] for role, part in parts.items()}
    sha256 = digest(source.classes, values, targets)
    inputs = _standardize(values)
    splits = {role: Split(inputs[role], targets[role]) for role in parts}
    return Dataset(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        num_classes=len(source.classes),
        classes=source.classes,
        sha256=sha256,
        note="; ".join(filter(None, [source.note, *notes])),
    )


def _source(name: str, image_size: int | None) -> Source:
    if name in TEXTS:
        raise ValueError("it is a text. Give a sequence_length.")
    if name not in EXAMPLES:
        return as_source(fetch(name), image_size)
    if image_size is not None:
        raise ValueError("its images have one size. Leave image_size out.")
    return EXAMPLES[name]()


def _read(source: Source, parts: Mapping[str, Part]) -> dict[str, Values]:
    values = {}
    for role, part in parts.items():
        try:
            values[role] = source.tables[part.table].read(part.rows)
        except ValueError as error:
            raise ValueError(f"in split {part.table}, {error}") from error
    shapes = {role: read.shape[1:] for role, read in values.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"all splits must have examples of one shape, got {shapes}. Resize them beforehand, images by image_size."
        )
    if values["train"].dtype == np.uint8:
        return dict(zip(values, without_equal_channels(list(values.values())), strict=True))  # type: ignore[arg-type]
    return values


def digest(classes: tuple[str, ...], values: Mapping[str, np.ndarray], targets: Mapping[str, Tensor]) -> str:
    """SHA-256 of the classes' names, and of the values and targets of each split with its name."""
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
