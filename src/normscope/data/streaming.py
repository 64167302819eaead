"""From the name of a data set to a stream of it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from normscope.data.batches import Batch
from normscope.data.columns import image_column, label_column
from normscope.data.dataset import Task
from normscope.data.division import EVALUATION_NAMES, SEED
from normscope.data.hub import fetch
from normscope.data.image_batches import Labelled, image_batch, moments
from normscope.data.naming import BUILT_IN, check_name, check_options, naming
from normscope.data.source import require
from normscope.data.streamed import StreamSplit, mixed
from normscope.data.text import as_split, pack, text_column, training_split
from normscope.data.vocabulary import Tokens, Vocabulary, learn

Row = TypeVar("Row")
Read: TypeAlias = Callable[[], Iterator[Row]]

# Read before anything else, so that they are the same for every trial: enough to know a channel's mean to a hundredth
# of its deviation many times over, and a vocabulary's frequent pairs.
MOMENTS_FROM = 10_000
VOCABULARY_FROM = 1_000_000
_MIXED = 4096


@dataclass(frozen=True, eq=False)
class Stream:
    """Three disjoint splits of one problem, read as they are needed; see `Dataset`.

    Attributes:
        name: as it was asked for.
        train, validation, test: to fit, to choose by, to report.
        num_classes: targets are 0 ... num_classes - 1; of a text, the size of its vocabulary.
        classes: their names; of a text, its tokens.
        input_shape: of one example: (3, H, W) or (T,).
        note: what was decided, such as which splits were held out from the training split.
        task: "classification", or "language" for a text.
    """

    name: str
    train: StreamSplit[Any]
    validation: StreamSplit[Any]
    test: StreamSplit[Any]
    num_classes: int
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    note: str
    task: Task


def stream(
    name: str,
    *,
    image_size: int | None = None,
    sequence_length: int | None = None,
    vocabulary: int | None = None,
    held_out: int = 1000,
) -> Stream:
    """Open a data set of images or texts without reading it: what `load` gives, by and by, in bounded memory.

    Beside `load`: images always have three channels, standardized by the moments of 10,000 training images in a fixed
    random order (all, where there are fewer); a vocabulary is learned from the first million training texts; texts
    are packed file by file. A missing validation or test split is the first `held_out` rows of the first file of
    train, and the next; a split whose first label is missing counts as missing. `Stream.note` says what was done.

    Args:
        name: a local directory or a hub id.
        image_size: as in `load`.
        sequence_length: as in `load`; it makes the data a text.
        vocabulary: as in `load`.
        held_out: rows for each split that is missing.

    Raises:
        ValueError: in one line, for a name that leads nowhere, data that cannot be used, or an argument out of range.
    """
    check_options(held_out=held_out, image_size=image_size, sequence_length=sequence_length, vocabulary=vocabulary)
    check_name(name)
    with naming(name):
        if name in BUILT_IN:
            raise ValueError("it is small. Use load.")
        stored = fetch(name, streaming=True)
        if sequence_length is not None:
            return _texts(name, stored, sequence_length, vocabulary, held_out)
        return _images(name, stored, image_size, held_out)


def _images(name: str, stored: Mapping[str, Any], image_size: int | None, held_out: int) -> Stream:
    features = next(iter(stored.values())).features or {}
    label, note = label_column(features)
    column = image_column(features)
    if column is None or not hasattr(features[label], "names"):
        raise ValueError(
            "a stream needs images with a label of type ClassLabel, or texts with sequence_length. "
            "Use load for tables, and for labels that are plain numbers."
        )
    raw = require("datasets").Image(decode=False)
    files = {
        split: _files(rows.cast_column(column, raw), partial(_labelled, column, label))
        for split, rows in stored.items()
    }
    parts, notes = _divide({split: reads for split, reads in files.items() if _has_labels(reads)}, held_out)
    mixture = mixed(parts["train"], _MIXED, torch.Generator().manual_seed(SEED))
    found = moments((encoded for encoded, _ in itertools.islice(mixture, MOMENTS_FROM)), image_size)
    notes.append(f"standardized by the moments of {found.count} training images")
    classes = tuple(features[label].names)
    collate = partial(image_batch, image_size=image_size, standardized_by=found, num_classes=len(classes))
    splits = {role: StreamSplit(reads, collate) for role, reads in parts.items()}
    return Stream(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        num_classes=len(classes),
        classes=classes,
        input_shape=(3, *found.shape[:2]),
        note="; ".join(filter(None, [note, *notes])),
        task="classification",
    )


def _texts(name: str, stored: Mapping[str, Any], length: int, vocabulary: int | None, held_out: int) -> Stream:
    first = next(iter(stored.values()))
    # Some formats tell their columns only by their rows.
    column = text_column(first.features or require("datasets").Dataset.from_list([next(iter(first))]).features)
    files = {split: _files(rows, partial(_filled, column)) for split, rows in stored.items()}
    parts, notes = _divide(files, held_out)
    texts = itertools.islice(itertools.chain.from_iterable(read() for read in parts["train"]), VOCABULARY_FROM)
    learned = learn(texts, vocabulary)
    splits = {
        role: StreamSplit([partial(_windows, read, learned, length) for read in reads], _text_batch)
        for role, reads in parts.items()
    }
    return Stream(
        name=name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        num_classes=len(learned.tokens),
        classes=learned.tokens,
        input_shape=(length,),
        note="; ".join([*notes, learned.note, "texts are packed, file by file"]),
        task="language",
    )


def _files(rows: Any, read: Callable[[Any], Iterator[Row]]) -> list[Read[Row]]:
    return [partial(read, rows.shard(rows.num_shards, index)) for index in range(rows.num_shards)]


def _labelled(column: str, label: str, rows: Any) -> Iterator[Labelled]:
    for row in rows:
        yield row[column], -1 if row[label] is None else row[label]


def _filled(column: str, rows: Any) -> Iterator[str]:
    for row in rows:
        if row[column]:
            yield row[column]


def _has_labels(reads: Sequence[Read[Labelled]]) -> bool:
    first = next(itertools.chain.from_iterable(read() for read in reads), None)
    return first is not None and first[1] >= 0


def _divide(files: Mapping[str, list[Read[Row]]], held_out: int) -> tuple[dict[str, list[Read[Row]]], list[str]]:
    name, notes = training_split(files)
    first, *rest = files[name]
    parts, start = {}, 0
    for role, names in EVALUATION_NAMES.items():
        found = next((other for other in names if other in files and other != name), None)
        if found is not None:
            parts[role] = files[found]
            continue
        parts[role] = [partial(_between, first, start, start + held_out)]
        deque(parts[role][0](), maxlen=0)  # that there are as many is known now, and not after an epoch
        start += held_out
        notes.append(f"no {role} split is stored: {held_out} rows were held out from the beginning of train")
    return {"train": [partial(_between, first, start, None), *rest], **parts}, notes


def _between(read: Read[Row], start: int, stop: int | None) -> Iterator[Row]:
    count = 0
    for row in itertools.islice(read(), start, stop):
        count += 1
        yield row
    if stop is not None and count < stop - start:
        raise ValueError(f"the first file of train has fewer than the {stop} rows to be held out. Lower held_out.")


def _windows(read: Read[str], vocabulary: Vocabulary, length: int) -> Iterator[Tokens]:
    for windows in pack(vocabulary.encode(read()), length):
        yield from windows


def _text_batch(windows: list[Tokens]) -> Batch:
    split = as_split(np.stack(windows))
    return split.inputs, split.targets
