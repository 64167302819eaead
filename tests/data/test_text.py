from __future__ import annotations

import itertools

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from normscope.data import load
from normscope.data.source import declaration
from normscope.data.text import pack, text_column

# Of 40 texts, each one a letter that is repeated; letters are tokens in alphabetical order.
LETTERS = [chr(ord("\u4e00") + i) for i in range(40)]
TEXTS = [letter * (3 + i % 4) for i, letter in enumerate(LETTERS)]


def read(split, classes) -> list[list[str]]:
    """The tokens of each example and of its last target; asserts that targets are one token further."""
    pieces = [[classes[token] for token in row] for row in torch.cat([split.inputs, split.targets[:, -1:]], 1)]
    assert all(torch.equal(row[1:], target[:-1]) for row, target in zip(split.inputs, split.targets, strict=True))
    return pieces


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 12), st.integers(1, 20))
def test_packing_predicts_each_token_once_in_order(lengths, length, at_once):
    texts = [np.arange(1, n + 1) + 100 * i for i, n in enumerate(lengths)]
    sequence = np.concatenate([[0], *texts])
    windows = list(itertools.chain.from_iterable(pack(iter(texts), length)))
    assert len(windows) == (len(sequence) - 1) // length
    for index, window in enumerate(windows):
        np.testing.assert_array_equal(window, sequence[index * length : (index + 1) * length + 1])


def test_packing_gives_the_same_in_small_pieces(monkeypatch):
    texts = [np.arange(n) for n in (5, 70, 3, 200, 1)]
    whole = np.concatenate(list(pack(iter(texts), 7)))
    monkeypatch.setattr("normscope.data.text._PACKED_AT_ONCE", 16)
    pieces = list(pack(iter(texts), 7))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_text_is_a_language_problem_over_its_characters(stored):
    data = load(
        stored(train={"text": TEXTS}, validation={"text": TEXTS[:9]}, test={"text": [*TEXTS[:9], "?"]}),
        sequence_length=8,
    )
    assert (data.task, data.input_shape, data.num_classes) == ("language", (8,), 42)
    assert data.classes == ("<|end|>", "<|unknown|>", *LETTERS)
    assert (data.train.inputs.dtype, data.train.targets.dtype) == (torch.int64, torch.int64)
    assert len(data.train) == (sum(map(len, TEXTS)) + 40) // 8
    sequence = "".join("|" + text for text in TEXTS) + "|"
    windows = {sequence[i * 8 : i * 8 + 9] for i in range(len(data.train))}
    seen = {"".join(piece).replace("<|end|>", "|") for piece in read(data.train, data.classes)}
    assert seen == windows
    assert (
        data.note
        == "40 characters are tokens; texts are packed: an example may begin inside one text and end inside another"
    )
    assert all(int(split.targets.min()) >= 0 for split in (data.train, data.validation, data.test)), "none is ignored"


def test_what_training_never_saw_is_unknown_in_evaluation(stored):
    data = load(
        stored(train={"text": TEXTS}, validation={"text": ["abcd"]}, test={"text": [f"{LETTERS[0]}?{LETTERS[0]}?"]}),
        sequence_length=5,
    )
    assert data.validation.inputs.tolist() == [[0, 1, 1, 1, 1]]
    assert data.validation.targets.tolist() == [[1, 1, 1, 1, 0]]
    assert data.test.inputs.tolist() == [[0, 2, 1, 2, 1]]


def test_subwords_are_learned_from_the_training_texts_alone(stored):
    train, other = ["the theory of the other " + text for text in TEXTS], ["zyx zyx zyx zyx"] * 30
    path = stored(train={"text": train}, validation={"text": other}, test={"text": other})
    data = load(path, sequence_length=4, vocabulary=270)
    assert data.num_classes == len(data.classes) == 270
    assert any("the" in token for token in data.classes)
    assert not any("zy" in token for token in data.classes)


def test_missing_splits_are_the_first_texts_and_the_only_split_is_train(stored):
    data = load(stored(test={"text": TEXTS}), sequence_length=4)
    letters = {
        role: set("".join(itertools.chain.from_iterable(read(getattr(data, role), data.classes)))) & set(LETTERS)
        for role in ("train", "validation", "test")
    }
    assert letters["train"] == set(LETTERS[8:])
    assert letters["validation"] == letters["test"] == set(), "letters that training never saw"
    assert [len(getattr(data, role)) for role in letters] == [44, 5, 5]
    assert data.note.startswith(
        "the only stored split, test, was taken for train; "
        "no validation split is stored: 4 texts were cut from the beginning of train; "
        "no test split is stored: 4 texts were cut from the beginning of train; "
    )


def test_empty_texts_are_left_out(stored):
    with_empty = [text for pair in zip(TEXTS, [""] * 40, strict=True) for text in pair]
    splits = {"validation": {"text": TEXTS}, "test": {"text": TEXTS}}
    one = load(stored(train={"text": TEXTS}, **splits), sequence_length=4)
    two = load(stored(train={"text": with_empty}, **splits), sequence_length=4)
    assert torch.equal(one.train.inputs, two.train.inputs)
    assert one.sha256 == two.sha256


def test_limits_keep_some_of_the_same_examples(stored):
    path = stored(train={"text": TEXTS})
    whole, small = load(path, sequence_length=4), load(path, sequence_length=4, max_train=7, max_eval=2)
    assert [len(split) for split in (small.train, small.validation, small.test)] == [7, 2, 2]
    assert torch.equal(small.train.inputs, whole.train.inputs[:7])
    assert small.classes == whole.classes
    assert "train was reduced from 44 to 7 examples" in small.note
    assert small.sha256 != whole.sha256


def test_examples_are_in_a_fixed_random_order_and_ignore_the_global_seed(stored):
    path = stored(train={"text": TEXTS})
    one = load(path, sequence_length=4)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        two = load(path, sequence_length=4)
    assert torch.equal(one.train.inputs, two.train.inputs)
    assert one.sha256 == two.sha256
    assert one.train.inputs[:, 0].tolist() != sorted(one.train.inputs[:, 0].tolist())


def test_the_hash_speaks_for_the_vocabulary_and_the_length(stored):
    path = stored(train={"text": TEXTS})
    options = [{"sequence_length": 4}, {"sequence_length": 5}, {"sequence_length": 4, "vocabulary": 260}]
    assert len({load(path, **some).sha256 for some in options}) == 3


def test_a_directory_of_text_files_is_a_text(tmp_path):
    (tmp_path / "train.txt").write_text("\n".join(TEXTS))
    assert load(str(tmp_path), sequence_length=4).num_classes == 34


@pytest.mark.parametrize(
    ("splits", "options", "match"),
    [
        ({"train": {"label": [1, 2]}}, {}, "no column holds strings, so it is not clear what the text is. Call"),
        ({"train": {"a": ["x"], "b": ["y"]}}, {}, "columns a, b hold strings"),
        ({"train": {"text": [*TEXTS, None]}}, {}, "column text of split train misses 1 texts. Drop those rows"),
        ({"train": {"text": TEXTS[:3]}}, {}, "0.1 of 3 training texts leaves nothing for validation"),
        (
            {"validation": {"text": TEXTS}, "test": {"text": TEXTS}},
            {},
            "there is no train split, only validation, test",
        ),
        ({"train": {"text": TEXTS}}, {"sequence_length": 50}, "split validation is shorter than one example of 50 tok"),
        ({"train": {"text": TEXTS}}, {"vocabulary": 200}, "vocabulary must be at least 257"),
    ],
)
def test_unusable_texts_are_refused(stored, splits, options, match):
    with pytest.raises(ValueError, match=match) as caught:
        load(stored(**splits), **({"sequence_length": 4} | options))
    assert "\n" not in str(caught.value)


def test_the_text_column_is_called_text_or_is_the_only_one():
    value = datasets.Value
    assert text_column({"title": value("string"), "text": value("string")}) == "text"
    assert text_column({"label": value("int64"), "line": value("large_string")}) == "line"


def test_a_text_is_built_in():
    data = load("declaration", sequence_length=16)
    assert data.task == "language"
    paragraphs = declaration()
    assert paragraphs[0] == "The unanimous Declaration of the thirteen united States of America,"
    assert sum(paragraph.startswith("He has ") for paragraph in paragraphs) == 17
    assert len("\n".join(paragraphs)) == 8086
    sequence = "|" + "|".join(paragraphs) + "|"
    for piece in read(data.train, data.classes):
        assert "".join(piece).replace("<|end|>", "|") in sequence
    assert len(data.train) == (sum(len(paragraph) + 1 for paragraph in paragraphs[8:]) // 16)
    assert load("declaration", sequence_length=16, vocabulary=300).num_classes == 300


@pytest.mark.parametrize(
    ("name", "vocabulary", "classes", "sizes"),
    [
        ("tiny_shakespeare", None, 67, (31_370, 1_742, 1_742)),
        ("lm1b", 1024, 1024, None),
    ],
)
def test_the_shared_texts_load_as_they_stand(shared, name, vocabulary, classes, sizes):
    data = load(shared(name), sequence_length=32, vocabulary=vocabulary, max_train=500, max_eval=100)
    assert (data.num_classes, data.input_shape) == (classes, (32,))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [500, 100, 100]
    if sizes:
        assert f"train was reduced from {sizes[0]} to 500" in data.note
