"""Data sets that do not fit into memory: read, decoded and tokenized while they are trained on."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import torch
from torch import Tensor

from normscope.data.batches import Batch, taken_of

Row = TypeVar("Row")
T = TypeVar("T")
U = TypeVar("U")


@final
@dataclass(frozen=True, eq=False)
class StreamSplit(Generic[Row]):
    """A split as files that are read one after the other, each time anew.

    Attributes:
        files: each gives its examples as they are stored.
        collate: makes a batch of some.
    """

    files: Sequence[Callable[[], Iterator[Row]]]
    collate: Callable[[list[Row]], Batch]

    def in_order(self, batch_size: int, *, workers: int = 1) -> Iterator[Batch]:
        """Every example once, as stored; the last batch may be short.

        Args:
            batch_size: examples of every other batch.
            workers: threads that make batches ahead, as many batches as threads; the order stays.

        Raises:
            ValueError: an argument less than 1.
        """
        _check_positive(batch_size=batch_size, workers=workers)
        examples = itertools.chain.from_iterable(read() for read in self.files)
        return ahead(self.collate, lists(examples, batch_size), workers)

    def shuffled(
        self, batch_size: int, *, generator: torch.Generator, buffer: int = 4096, workers: int = 1
    ) -> StreamedBatches[Row]:
        """Batches without end: each epoch reads the files in a new order and mixes their examples in a buffer.

        An epoch's short last batch is dropped, as by `shuffled_batches`. With a buffer of at least all examples their
        order is uniform; with a smaller one an example moves forward by less than `buffer` places.

        Args:
            batch_size: examples of every batch.
            generator: of the orders, and of nothing else.
            buffer: examples held, as they are stored: undecoded images, tokens of a text.
            workers: threads that make batches ahead, as many batches as threads; the order stays.

        Raises:
            ValueError: an argument less than 1.
        """
        _check_positive(batch_size=batch_size, buffer=buffer, workers=workers)
        return StreamedBatches(self, batch_size, generator, buffer, workers)


@final
class StreamedBatches(Iterator[Batch], Generic[Row]):
    """Batches of a stream without end; `StreamSplit.shuffled` makes them.

    Where it stands is the generator's state at the epoch's start and the number of batches taken since; going on from
    there reads the files up to that place again, without decoding.
    """

    def __init__(
        self, split: StreamSplit[Row], batch_size: int, generator: torch.Generator, buffer: int, workers: int
    ) -> None:
        self._split, self._generator = split, generator
        self._batch_size, self._buffer, self._workers = batch_size, buffer, workers
        self._epoch: Iterator[Batch] | None = None
        self._epoch_start, self._taken = generator.get_state(), 0

    def __next__(self) -> Batch:
        if self._epoch is None:
            self._epoch = self._open(0)
        batch = next(self._epoch, None)
        if batch is None and self._taken:
            self._epoch_start, self._taken = self._generator.get_state(), 0
            self._epoch = self._open(0)
            batch = next(self._epoch, None)
        if batch is None:
            raise ValueError(
                f"the split has fewer examples than the batch_size of {self._batch_size}; use a smaller one."
            )
        self._taken += 1
        return batch

    def state(self) -> dict[str, Tensor]:
        """Where it stands: `epoch_start`, the generator's state then (bytes), and `taken` (0-dim int64)."""
        return {"epoch_start": self._epoch_start.clone(), "taken": torch.tensor(self._taken)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, of the same split, batch size and buffer; the generator is set too."""
        taken = taken_of(state, None)
        self._generator.set_state(state["epoch_start"])
        self._epoch_start, self._taken = state["epoch_start"].clone(), taken
        self._epoch = self._open(taken)

    def _open(self, skip: int) -> Iterator[Batch]:
        examples = mixed(self._split.files, self._buffer, self._generator)
        size = self._batch_size  # not by `self`, which owns the iterator: a cycle would keep its threads
        whole = (some for some in lists(examples, size) if len(some) == size)
        return ahead(self._split.collate, itertools.islice(whole, skip, None), self._workers)


def mixed(files: Sequence[Callable[[], Iterator[Row]]], buffer: int, generator: torch.Generator) -> Iterator[Row]:
    """The examples of all files, in a new order of files, mixed in a buffer."""
    order = torch.randperm(len(files), generator=generator).tolist()
    held: list[Row] = []
    for example in itertools.chain.from_iterable(files[index]() for index in order):
        if len(held) < buffer:
            held.append(example)
            continue
        place = int(torch.randint(buffer, (), generator=generator))
        yield held[place]
        held[place] = example
    for place in torch.randperm(len(held), generator=generator).tolist():
        yield held[place]


def lists(examples: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of `size`; the last one may be shorter."""
    remaining = iter(examples)
    while some := list(itertools.islice(remaining, size)):
        yield some


def ahead(function: Callable[[T], U], items: Iterable[T], workers: int) -> Iterator[U]:
    """``map`` in order, with so many results under way beside the one that is used."""
    under_way: deque[Future[U]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        # Without waiting: an iterator left unfinished may be collected inside any thread, at a moment when that one
        # holds the lock that waiting for another needs.
        pool.shutdown(wait=False, cancel_futures=True)


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
