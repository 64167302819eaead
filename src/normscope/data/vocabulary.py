"""Vocabularies of texts: their characters, or subwords learned from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from normscope.data.source import require

Tokens: TypeAlias = npt.NDArray[np.int64]

# Token 0 follows every text. It is no string that a text could contain: nothing in a text is ever read as it.
END = "<|end|>"
_UNKNOWN = "<|unknown|>"
_BYTES = 256
_TEXTS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a text's tokens are.

    Attributes:
        tokens: the name of each; the first is the end of a text.
        note: what has to be known of it.
    """

    tokens: tuple[str, ...]
    note: str
    _encode: Callable[[Sequence[str]], list[Tokens]]

    def encode(self, texts: Iterable[str]) -> Iterator[Tokens]:
        """Each text's tokens, and the end of the text after them; (L + 1,) each."""
        remaining = iter(texts)
        while some := list(itertools.islice(remaining, _TEXTS_AT_ONCE)):
            for tokens in self._encode(some):
                yield np.append(tokens, 0)


def learn(texts: Iterable[str], size: int | None) -> Vocabulary:
    """The characters of some texts where `size` is None, else a byte-level byte-pair encoding of so many tokens.

    Equal texts give equal vocabularies, on every machine.

    Args:
        texts: to learn from: those of training, and no others.
        size: tokens in all, the end of a text and the 256 bytes among them; texts too short to have as many
            pairs worth merging give fewer, as the note says.

    Raises:
        ValueError: size is less than 257.
    """
    return _characters(texts) if size is None else _subwords(texts, size)


def _characters(texts: Iterable[str]) -> Vocabulary:
    """Every character of the texts is a token; the one after the end of a text stands for all others."""
    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    known = sorted(seen)
    codes = np.array([ord(character) for character in known], np.uint32)

    def encode(some: Sequence[str]) -> list[Tokens]:
        return [_character_tokens(text, codes) for text in some]

    return Vocabulary((END, _UNKNOWN, *known), f"{len(known)} characters are tokens", encode)


def _character_tokens(text: str, codes: npt.NDArray[np.uint32]) -> Tokens:
    # Lone surrogates are characters of a Python string too.
    given = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    place = np.searchsorted(codes, given)
    found = codes[np.minimum(place, len(codes) - 1)] == given
    return np.where(found, place + 2, 1).astype(np.int64)


def _subwords(texts: Iterable[str], size: int) -> Vocabulary:
    """Byte-level BPE after Radford et al. 2019 ("Language Models are Unsupervised Multitask Learners", section 2.2).

    There is no unknown token: every text is a sequence of bytes.
    """
    if size <= _BYTES:
        raise ValueError(f"vocabulary must be at least {_BYTES + 1} (the end of a text and the bytes), got {size}.")
    library = require("tokenizers")
    tokenizer: Any = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = library.trainers.BpeTrainer(
        vocab_size=size - 1,
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = tokenizer.get_vocab_size()
    tokens = (END, *(tokenizer.id_to_token(index) for index in range(learned)))

    def encode(some: Sequence[str]) -> list[Tokens]:
        encoded = tokenizer.encode_batch_fast(list(some), add_special_tokens=False)
        return [np.array(one.ids, np.int64) + 1 for one in encoded]

    short = f", fewer than the {size} asked for, which need a longer text" if len(tokens) < size else ""
    return Vocabulary(tokens, f"{len(tokens)} subwords were learned from the training texts{short}", encode)
