"""Texts as examples for language models: one long sequence of tokens, cut into windows of equal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from normscope.data.dataset import Split
from normscope.data.division import EVALUATION_NAMES, SEED
from normscope.data.source import require
from normscope.data.vocabulary import Tokens, Vocabulary, learn

_PACKED_AT_ONCE = 1 << 16  # tokens
_NONE = np.zeros((0, 1), np.int64)


def text_column(features: Mapping[str, Any]) -> str:
    """The column called text, else the only one of strings.

    Raises:
        ValueError: there is none, or more than one.
    """
    datasets = require("datasets")
    strings = [
        column
        for column, kind in features.items()
        if isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string")
    ]
    if "text" in strings or len(strings) == 1:
        return "text" if "text" in strings else strings[0]
    found = f"columns {', '.join(strings)} hold strings" if strings else "no column holds strings"
    raise ValueError(f"{found}, so it is not clear what the text is. Call that column text.")


def stored_texts(tables: Mapping[str, Any]) -> dict[str, list[str]]:
    """The texts of each split of a `DatasetDict`, empty ones left out.

    Raises:
        ValueError: no text column, or a missing text.
    """
    column = text_column(next(iter(tables.values())).features)
    return {split: _texts(rows, split, column) for split, rows in tables.items()}


def as_splits(
    stored: Mapping[str, list[str]],
    *,
    sequence_length: int,
    vocabulary: int | None,
    validation_fraction: float,
    max_train: int | None,
    max_eval: int | None,
) -> tuple[dict[str, Split], Vocabulary, list[str]]:
    """Divide the stored texts, learn the vocabulary from those of training, and pack each split.

    Raises:
        ValueError: nothing to cut from, a split shorter than one example.
    """
    texts, notes = _divide(stored, validation_fraction)
    learned = learn(texts["train"], vocabulary)
    notes += [learned.note, "texts are packed: an example may begin inside one text and end inside another"]
    generator = torch.Generator().manual_seed(SEED)
    splits = {}
    for role, limit in (("train", max_train), ("validation", max_eval), ("test", max_eval)):
        windows = np.concatenate(list(pack(learned.encode(texts[role]), sequence_length)) or [_NONE])
        if not len(windows):
            raise ValueError(
                f"split {role} is shorter than one example of {sequence_length} tokens. "
                "Use a smaller sequence_length or a longer text."
            )
        order = torch.randperm(len(windows), generator=generator)
        if limit is not None and limit < len(windows):
            notes.append(f"{role} was reduced from {len(windows)} to {limit} examples")
            order = order[:limit]
        splits[role] = as_split(windows[order.numpy()])
    return splits, learned, notes


def pack(texts: Iterable[Tokens], sequence_length: int) -> Iterator[Tokens]:
    """Cut the texts, one after the other, into windows (n, T + 1); each starts with the last token of the one before.

    So each token is predicted once, the first one from the end of a text that stands before everything; fewer than
    T tokens at the very end are left out. Nothing is padded.
    """
    pending: list[Tokens] = [np.zeros(1, np.int64)]
    waiting = 1
    for tokens in texts:
        pending.append(tokens)
        waiting += len(tokens)
        if waiting > max(sequence_length, _PACKED_AT_ONCE):
            windows, rest = _windows(np.concatenate(pending), sequence_length)
            yield windows
            pending, waiting = [rest], len(rest)
    windows, _ = _windows(np.concatenate(pending), sequence_length)
    if len(windows):
        yield windows


def as_split(windows: Tokens) -> Split:
    """Windows (n, T + 1) as inputs (n, T) and, one token further, targets (n, T)."""
    tokens = torch.from_numpy(windows)
    return Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


def _windows(tokens: Tokens, length: int) -> tuple[Tokens, Tokens]:
    count = (len(tokens) - 1) // length
    starts = np.arange(count)[:, None] * length
    return tokens[starts + np.arange(length + 1)], tokens[count * length :]


def _texts(rows: Any, split: str, column: str) -> list[str]:
    if column not in rows.features:
        raise ValueError(f"split {split} has no column {column}, which others have. Give every split the same columns.")
    texts: Sequence[str | None] = rows.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    missing = sum(text is None for text in texts)
    if missing:
        raise ValueError(f"column {column} of split {split} misses {missing} texts. Drop those rows.")
    return [text for text in texts if text]


def _divide(stored: Mapping[str, list[str]], validation_fraction: float) -> tuple[dict[str, list[str]], list[str]]:
    """Texts of train, validation and test; missing splits are the first texts of the training split, in blocks.

    In blocks, because neighbouring rows may be lines of one text.
    """
    name, notes = training_split(stored)
    train, others = stored[name], {split: texts for split, texts in stored.items() if split != name}
    cut = round(validation_fraction * len(train))
    texts = {}
    for role, names in EVALUATION_NAMES.items():
        found = next((name for name in names if name in others), None)
        if found is not None:
            texts[role] = others[found]
            continue
        if cut < 1:
            raise ValueError(
                f"{validation_fraction:g} of {len(train)} training texts leaves nothing for {role}. "
                "Use a larger validation_fraction or more texts."
            )
        texts[role], train = train[:cut], train[cut:]
        notes.append(f"no {role} split is stored: {cut} texts were cut from the beginning of train")
    return {"train": train, **texts}, notes


def training_split(stored: Iterable[str]) -> tuple[str, list[str]]:
    """The stored split to train on, which is train or else the only one; and what to note.

    Raises:
        ValueError: there is neither.
    """
    names = list(stored)
    if "train" in names:
        return "train", []
    if len(names) == 1:
        return names[0], [f"the only stored split, {names[0]}, was taken for train"]
    raise ValueError(f"there is no train split, only {', '.join(names)}. Rename one to train.")
