from __future__ import annotations

import gc
import itertools
import threading
import time
from functools import partial

import pytest
import torch

from normscope.data import StreamSplit


def numbers(start: int, stop: int, opened: list[int] | None = None):
    if opened is not None:
        opened.append(start)
    return iter(range(start, stop))


def collate(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(rows) * 10, torch.tensor(rows)


def split(*sizes: int, opened: list[int] | None = None) -> StreamSplit[int]:
    ends = list(itertools.accumulate(sizes))
    starts = [0, *ends[:-1]]
    return StreamSplit([partial(numbers, a, b, opened) for a, b in zip(starts, ends, strict=True)], collate)


def taken(batches, count: int) -> list[list[int]]:
    return [targets.tolist() for _, targets in itertools.islice(batches, count)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("workers", [1, 3])
def test_in_order_every_example_comes_once_as_stored(workers):
    batches = list(split(4, 3, 3).in_order(4, workers=workers))
    assert [targets.tolist() for _, targets in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(torch.equal(inputs, targets * 10) for inputs, targets in batches)


@pytest.mark.parametrize("buffer", [1, 2, 5, 100])
@pytest.mark.parametrize("workers", [1, 4])
def test_an_epoch_holds_every_example_once_for_every_buffer(buffer, workers):
    batches = split(5, 4, 3).shuffled(3, generator=seeded(), buffer=buffer, workers=workers)
    epochs = [taken(batches, 4) for _ in range(3)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(12))
    if buffer > 1:
        assert epochs[0] != epochs[1] != epochs[2]


def test_the_short_last_batch_is_dropped():
    batches = split(7).shuffled(3, generator=seeded(), buffer=10)
    for _ in range(2):
        epoch = list(itertools.chain(*taken(batches, 2)))
        assert len(set(epoch)) == 6


def test_orders_come_from_the_generator_alone_and_not_from_the_threads():
    state = torch.get_rng_state()
    one = taken(split(9, 8).shuffled(2, generator=seeded(1), buffer=4), 30)
    assert one == taken(split(9, 8).shuffled(2, generator=seeded(1), buffer=4, workers=5), 30)
    assert one != taken(split(9, 8).shuffled(2, generator=seeded(2), buffer=4), 30)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_buffer_of_everything_gives_every_order_equally_often(seed):
    batches = split(1, 2).shuffled(3, generator=seeded(seed), buffer=3)
    orders = [tuple(epoch[0]) for epoch in (taken(batches, 1) for _ in range(600))]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum((count - 100) ** 2 / 100 for count in counts) < 20.6  # 5 degrees of freedom: once in a thousand


def test_files_are_read_in_another_order_each_epoch_and_held_examples_are_bounded():
    opened: list[int] = []
    batches = split(*[4] * 8, opened=opened).shuffled(4, generator=seeded(), buffer=2)
    next(batches)
    assert len(opened) <= 3, "no more is read than the buffer, the batch and the batches ahead hold"
    taken(batches, 15)
    assert sorted(opened[:8]) == sorted(opened[8:16]) == list(range(0, 32, 4))
    assert opened[:8] != opened[8:16]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("done", range(9))
def test_a_stream_goes_on_from_every_place(done, workers):
    def stream(seed: int):
        return split(5, 6).shuffled(3, generator=seeded(seed), buffer=4, workers=workers)

    whole = taken(stream(3), 12)
    begun = stream(3)
    taken(begun, done)
    state = begun.state()
    taken(begun, 2)
    resumed = stream(99)
    taken(resumed, 2)
    resumed.restore(state)
    assert taken(resumed, 12 - done) == whole[done:]


def test_skipped_batches_are_not_decoded_when_a_stream_goes_on():
    begun = split(20).shuffled(2, generator=seeded())
    taken(begun, 8)
    seen: list[int] = []

    def counting(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(rows)
        return collate(rows)

    resumed = StreamSplit(split(20).files, counting).shuffled(2, generator=seeded())
    resumed.restore(begun.state())
    taken(resumed, 2)
    assert len(seen) == 4


def test_workers_make_batches_at_the_same_time():
    together = threading.Barrier(3, timeout=20)

    def waiting(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        together.wait()
        return collate(rows)

    batches = StreamSplit(split(6).files, waiting).in_order(1, workers=3)
    assert [targets.item() for _, targets in batches] == list(range(6))


def test_no_more_batches_are_made_ahead_than_there_are_workers():
    made: list[int] = []

    def noting(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        made.extend(rows)
        return collate(rows)

    batches = StreamSplit(split(50).files, noting).in_order(1, workers=2)
    next(batches)
    time.sleep(0.1)
    assert len(made) <= 3


def test_a_stream_that_is_left_unfinished_leaves_no_thread():
    before = set(threading.enumerate())
    gc.disable()  # it is gone when its last name is, and not some time later in whatever thread collects it
    try:
        batches = split(50).shuffled(2, generator=seeded(), workers=3)
        taken(batches, 2)
        started = set(threading.enumerate()) - before
        assert started
        del batches
        for thread in started:
            thread.join(timeout=20)
        assert not any(thread.is_alive() for thread in started)
    finally:
        gc.enable()


def test_an_error_in_a_worker_is_the_callers():
    def broken(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        next(StreamSplit(split(5).files, broken).shuffled(2, generator=seeded()))


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        split(3).in_order(0)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        split(3).in_order(1, workers=0)
    with pytest.raises(ValueError, match="buffer must be at least 1, got 0"):
        split(3).shuffled(1, generator=seeded(), buffer=0)
    with pytest.raises(ValueError, match="fewer examples than the batch_size of 4; use a smaller one"):
        next(split(3).shuffled(4, generator=seeded()))
