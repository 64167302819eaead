from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image as Pil

from normscope.data import load, stream, streaming

FEATURES = {"image": datasets.Image(), "label": datasets.ClassLabel(3)}
TEXTS = [f"text {i} " * (1 + i % 3) for i in range(40)]


def images(count: int, start: int = 0, size: tuple[int, int] = (6, 5)) -> dict[str, list]:
    draw = np.random.default_rng(start)
    pictures = [Pil.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]
    return {"image": pictures, "label": [i % 3 for i in range(count)]}


def rows(batches) -> Counter:
    """How often each example occurs, target included."""
    return Counter(
        (example.numpy().tobytes(), target.numpy().tobytes())
        for inputs, targets in batches
        for example, target in zip(inputs, targets, strict=True)
    )


def pixels(inputs: torch.Tensor) -> torch.Tensor:
    """Standardized images back at 8 bits, if each channel's darkest and brightest pixels are 0 and 255."""
    low, high = inputs.amin((0, 2, 3), keepdim=True), inputs.amax((0, 2, 3), keepdim=True)
    exact = (inputs - low) / (high - low) * 255
    assert (exact - exact.round()).abs().max() < 0.01
    return exact.round().to(torch.uint8)


def whole(batches) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def epoch(split, count: int):
    """The first epoch of a split of `count` examples, in batches that leave none over."""
    batch_size = next(size for size in range(64, 0, -1) if count % size == 0)
    batches = split.shuffled(batch_size, generator=torch.Generator().manual_seed(0), buffer=100)
    return itertools.islice(batches, count // batch_size)


def test_images_are_those_of_load(stored):
    path = stored(FEATURES, train=images(24), validation=images(9, 1), test=images(6, 2))
    streamed, data = stream(path), load(path)
    assert (streamed.num_classes, streamed.classes, streamed.input_shape) == (3, data.classes, data.input_shape)
    assert (streamed.task, streamed.note) == ("classification", "standardized by the moments of 24 training images")
    for role, count in (("train", 24), ("validation", 9), ("test", 6)):
        inputs, targets = whole(getattr(streamed, role).in_order(4))
        split = getattr(data, role)
        assert sorted(targets.tolist()) == sorted(split.targets.tolist())
        order, other = inputs.sum((1, 2, 3)).argsort(), split.inputs.sum((1, 2, 3)).argsort()
        torch.testing.assert_close(inputs[order], split.inputs[other], atol=1e-5, rtol=0)
        assert len(inputs) == count


def test_one_epoch_of_real_images_is_that_of_load(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "MOMENTS_FROM", 50)
    (found,) = Path(shared("tiny-imagenet-12")).glob("validation-*.parquet")  # a tenth of it is enough for a test
    (tmp_path / "train.parquet").symlink_to(found)
    streamed, data = stream(str(tmp_path), held_out=60), load(str(tmp_path))
    # `load` draws its missing splits at random, `stream` takes the first rows: together they are the same.
    held_out = itertools.chain(streamed.validation.in_order(25), streamed.test.in_order(25))
    inputs, targets = whole(itertools.chain(epoch(streamed.train, 480), held_out))
    splits = data.train, data.validation, data.test
    theirs = torch.cat([split.inputs for split in splits]), torch.cat([split.targets for split in splits])
    assert inputs.shape == (600, 3, 64, 64)
    assert rows([(pixels(inputs), targets)]) == rows([(pixels(theirs[0]), theirs[1])])


@pytest.mark.parametrize("vocabulary", [None, 512])
def test_one_epoch_of_lm1b_is_that_of_load(shared, vocabulary):
    path = shared("lm1b")
    streamed = stream(path, sequence_length=32, vocabulary=vocabulary, held_out=608)
    data = load(path, sequence_length=32, vocabulary=vocabulary)
    assert (streamed.classes, streamed.input_shape, streamed.task) == (data.classes, (32,), "language")
    assert streamed.num_classes == data.num_classes
    for role in ("train", "validation", "test"):
        split = getattr(data, role)
        expected = rows([(split.inputs, split.targets)])
        assert rows(getattr(streamed, role).in_order(64)) == expected
    assert rows(epoch(streamed.train, len(data.train))) == rows([(data.train.inputs, data.train.targets)])


def test_texts_of_several_files_are_packed_file_by_file(tmp_path):
    for index in range(3):
        part = datasets.Dataset.from_dict({"text": TEXTS[index * 10 : index * 10 + 10]})
        part.to_parquet(tmp_path / f"train-{index:05}-of-00003.parquet")
    datasets.Dataset.from_dict({"text": TEXTS[30:]}).to_parquet(tmp_path / "validation.parquet")
    datasets.Dataset.from_dict({"text": TEXTS[30:]}).to_parquet(tmp_path / "test.parquet")
    streamed = stream(str(tmp_path), sequence_length=7)
    assert len(streamed.train.files) == 3
    counted = [sum(len(text) + 1 for text in TEXTS[i : i + 10]) // 7 for i in (0, 10, 20)]
    inputs, _ = whole(streamed.train.in_order(5))
    assert len(inputs) == sum(counted)
    assert (inputs[[0, counted[0], counted[0] + counted[1]], 0] == 0).all(), "each file begins after the end of a text"


def test_a_directory_of_text_files_is_streamed_too(tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(TEXTS))
    streamed = stream(str(tmp_path), sequence_length=4, held_out=4)
    data = load(str(tmp_path), sequence_length=4)
    assert rows(streamed.train.in_order(8)) == rows([(data.train.inputs, data.train.targets)])


def test_only_the_first_texts_and_some_images_are_examined(stored, monkeypatch):
    monkeypatch.setattr(streaming, "MOMENTS_FROM", 5)
    monkeypatch.setattr(streaming, "VOCABULARY_FROM", 5)
    splits = {"train": images(20), "validation": images(3), "test": images(3)}
    assert "by the moments of 5 training images" in stream(stored(FEATURES, **splits)).note


def test_vocabularies_are_learned_from_the_first_training_texts(stored, monkeypatch):
    monkeypatch.setattr(streaming, "VOCABULARY_FROM", 2)
    path = stored(train={"text": ["ab", "c", "d"]}, validation={"text": ["e"]}, test={"text": ["f"]})
    assert stream(path, sequence_length=1).classes == ("<|end|>", "<|unknown|>", "a", "b", "c")


def test_a_split_without_labels_counts_as_missing(stored):
    test = images(4)
    test["label"] = [None] * 4
    streamed = stream(stored(FEATURES, train=images(20), validation=images(3), test=test), held_out=2)
    assert "no test split is stored: 2 rows were held out" in streamed.note
    assert len(whole(streamed.test.in_order(8))[1]) == 2
    assert len(whole(streamed.train.in_order(8))[1]) == 18


def test_missing_splits_are_disjoint_rows_from_the_beginning(stored):
    streamed = stream(stored(FEATURES, train=images(20)), held_out=3)
    splits = [rows(getattr(streamed, role).in_order(8)) for role in ("train", "validation", "test")]
    assert [sum(split.values()) for split in splits] == [14, 3, 3]
    assert sum(splits, Counter()).most_common(1)[0][1] == 1


def test_images_of_several_sizes_are_resized(stored):
    small, large = images(10), images(10, 1, (9, 9))
    mixed = {key: small[key] + large[key] for key in small}
    streamed = stream(stored(FEATURES, train=mixed), held_out=2, image_size=4)
    assert streamed.input_shape == (3, 4, 4)
    assert whole(streamed.train.in_order(3))[0].shape == (16, 3, 4, 4)


def refused(match: str, path: str, **options: object) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        list(stream(path, **options).train.in_order(1))
    assert "\n" not in str(caught.value)


def test_images_of_several_sizes_are_refused_without_a_size(stored, monkeypatch):
    small, large = images(10), images(1, 1, (9, 9))
    refused(
        "all images must have one size, got 5x6 and.* 9x9. Give image_size to resize them",
        stored(FEATURES, train={key: small[key] + large[key] for key in small}),
        held_out=1,
    )
    monkeypatch.setattr(streaming, "MOMENTS_FROM", 1)
    refused(
        r"all images must have one size, got \dx\d and \dx\d. Give image_size to resize them",
        stored(FEATURES, train={key: small[key] + large[key] for key in small}),
        held_out=1,
    )


def test_what_cannot_be_streamed_is_refused(stored):
    refused("held_out must be at least 1, got 0", "digits", held_out=0)
    refused("vocabulary is for texts", "digits", vocabulary=300)
    refused("Data set 'digits': it is small. Use load", "digits")
    refused("Data set 'declaration': it is small. Use load", "declaration", sequence_length=8)
    refused("Unknown data set: 'digit' is no built-in", "digit")
    table = {"a": [1.0, 2.0], "label": [0, 1]}
    refused("needs images with a label of type ClassLabel, or texts .* Use load for tables", stored(train=table))


def test_too_few_rows_to_hold_out_are_refused_at_once(stored):
    with pytest.raises(ValueError, match="first file of train has fewer than the 16 rows to be held out"):
        stream(stored(FEATURES, train=images(12)), held_out=8)


def test_a_label_that_is_missing_later_is_refused_when_it_is_read(stored):
    train = images(20)
    train["label"][15] = None
    refused("a label is -1, which is none of the 3 classes. Drop such rows", stored(FEATURES, train=train), held_out=1)
