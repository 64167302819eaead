"""A data set that is streamed to train on, with some examples of every split in memory to evaluate and measure on."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from typing import TypeVar

import torch

from normscope.data.dataset import Dataset, Split
from normscope.data.division import SEED
from normscope.data.loading import digest
from normscope.data.naming import check_options, naming
from normscope.data.streamed import StreamSplit, ahead, lists, mixed
from normscope.data.streaming import Stream

Row = TypeVar("Row")

_MIXED = 4096
_AT_ONCE = 64


def hold(stream: Stream, *, max_train: int, max_eval: int) -> Dataset:
    """Take some examples of a stream into memory; `Dataset.streamed` gives all training examples, as they are needed.

    Validation and test examples are a random choice, for which each of these splits is read once; those of training
    are the first of its files in a random order, mixed. Choices and orders come from one fixed generator, so that all
    trials of all seeds see the same. `Dataset.sha256` is of what is held.

    Args:
        stream: whose examples.
        max_train: at most so many training examples.
        max_eval: at most so many validation examples, and as many for testing.

    Raises:
        ValueError: in one line, for a limit below 1, or examples that cannot be used.
    """
    check_options(max_train=max_train, max_eval=max_eval, image_size=None, sequence_length=None, vocabulary=None)
    with naming(stream.name):
        splits = {
            "train": _held(stream.train, _first(stream.train, max_train)),
            "validation": _held(stream.validation, _chosen(stream.validation, max_eval)),
            "test": _held(stream.test, _chosen(stream.test, max_eval)),
        }
    counts = ", ".join(f"{len(split)} of {role}" for role, split in splits.items())
    return Dataset(
        name=stream.name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        num_classes=stream.num_classes,
        classes=stream.classes,
        sha256=digest(
            stream.classes,
            {role: split.inputs.numpy() for role, split in splits.items()},
            {role: split.targets for role, split in splits.items()},
        ),
        note=f"{stream.note}; training examples are streamed; {counts} are held in memory",
        task=stream.task,
        streamed=stream.train,
    )


def chosen(examples: Iterable[Row], count: int, *, generator: torch.Generator) -> list[Row]:
    """At most so many examples, drawn without replacement while all of them pass by, in a random order.

    Every choice of `count` is equally likely.

    Source: Vitter, "Random sampling with a reservoir", 1985, algorithm R.
    """
    passing = iter(examples)
    held = list(itertools.islice(passing, count))
    for seen, example in enumerate(passing, start=count + 1):
        place = int(torch.randint(seen, (), generator=generator))
        if place < count:
            held[place] = example
    return [held[place] for place in torch.randperm(len(held), generator=generator).tolist()]


def _chosen(split: StreamSplit[Row], count: int) -> list[Row]:
    examples = itertools.chain.from_iterable(read() for read in split.files)
    return chosen(examples, count, generator=torch.Generator().manual_seed(SEED))


def _first(split: StreamSplit[Row], count: int) -> list[Row]:
    return list(itertools.islice(mixed(split.files, _MIXED, torch.Generator().manual_seed(SEED)), count))


def _held(split: StreamSplit[Row], rows: list[Row]) -> Split:
    """The examples as tensors, decoded in parts: both copies of all of them never coexist."""
    if not rows:
        raise ValueError("a split has no example. Fill it, or remove it and lower held_out.")
    held: Split | None = None
    begin = 0
    for inputs, targets in ahead(split.collate, lists(rows, _AT_ONCE), os.cpu_count() or 1):
        if held is None:
            held = Split(
                inputs.new_empty(len(rows), *inputs.shape[1:]), targets.new_empty(len(rows), *targets.shape[1:])
            )
        end = begin + len(targets)
        held.inputs[begin:end], held.targets[begin:end] = inputs, targets
        begin = end
    assert held is not None
    return held
