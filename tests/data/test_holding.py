"""What a stream keeps in memory: of which examples, how many, and the same every time."""

from __future__ import annotations

from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from PIL import Image as Pil

from normscope.data import hold, load, stream
from normscope.data.holding import chosen

FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(3)}


def images(count: int, start: int) -> dict[str, list]:
    draw = np.random.default_rng(start)
    pictures = [Pil.fromarray(draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(count)]
    return {"image": pictures, "label": [i % 3 for i in range(count)]}


def rows(split) -> Counter:
    pairs = zip(split.inputs, split.targets, strict=True)
    return Counter((example.numpy().tobytes(), target.numpy().tobytes()) for example, target in pairs)


def test_what_is_held_are_examples_of_each_split_and_training_streams_them_all(stored):
    streamed = stream(stored(FEATURES, train=images(70, 0), validation=images(90, 1), test=images(8, 2)))
    data = hold(streamed, max_train=66, max_eval=10)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [66, 10, 8]
    assert (data.input_shape, data.num_classes, data.classes) == ((3, 6, 5), 3, streamed.classes)
    assert data.note.endswith("streamed; 66 of train, 10 of validation, 8 of test are held in memory")
    for role in ("train", "validation", "test"):
        every = [torch.cat(parts) for parts in zip(*getattr(streamed, role).in_order(16), strict=True)]
        of_all = rows(type(data.train)(*every))
        assert rows(getattr(data, role)) <= of_all
    batches = data.streamed.shuffled(7, generator=torch.Generator().manual_seed(0), buffer=100)
    assert sum(len(next(batches)[1]) for _ in range(10)) == 70


def test_the_same_examples_are_held_every_time_and_the_hash_speaks_for_them(stored):
    by_class = images(30, 1) | {"label": [i // 10 for i in range(30)]}
    path = stored(FEATURES, train=images(20, 0), validation=by_class, test=images(30, 2))
    one, two = (hold(stream(path), max_train=8, max_eval=8) for _ in range(2))
    assert torch.equal(one.validation.inputs, two.validation.inputs)
    assert one.sha256 == two.sha256
    assert one.sha256 != hold(stream(path), max_train=8, max_eval=9).sha256
    assert {*one.validation.targets.tolist()} == {0, 1, 2}  # not the first rows alone


def test_held_texts_are_windows_of_the_stream(stored):
    texts = [chr(97 + i % 26) * 7 for i in range(60)]
    path = stored(train={"text": texts}, validation={"text": texts[:20]}, test={"text": texts[:20]})
    data = hold(stream(path, sequence_length=8), max_train=12, max_eval=4)
    splits = (data.train, data.validation, data.test)
    assert [tuple(split.inputs.shape) for split in splits] == [(12, 8), (4, 8), (4, 8)]
    assert torch.equal(data.train.inputs[:, 1:], data.train.targets[:, :-1])
    whole = load(path, sequence_length=8)
    assert rows(data.validation) <= rows(whole.validation)


def test_a_choice_takes_every_example_equally_often_and_in_every_order(seed):
    generator = torch.Generator().manual_seed(seed)
    draws = [tuple(chosen(range(4), 2, generator=generator)) for _ in range(1200)]
    counts = Counter(draws)
    assert len(counts) == 12  # of which 11 are free: once in a thousand
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 31.3


def test_fewer_examples_than_asked_for_are_all_taken(generator):
    assert sorted(chosen(range(3), 5, generator=generator)) == [0, 1, 2]
    assert chosen([], 5, generator=generator) == []


def test_limits_below_one_and_empty_splits_are_refused(stored):
    path = stored(train={"text": ["abc"] * 9}, validation={"text": ["a"]}, test={"text": ["a"]})
    streamed = stream(path, sequence_length=4)
    with pytest.raises(ValueError, match="max_eval must be at least 1, got 0"):
        hold(streamed, max_train=1, max_eval=0)
    with pytest.raises(ValueError, match=r"Data set .*: a split has no example\. Fill it"):
        hold(streamed, max_train=1, max_eval=1)
