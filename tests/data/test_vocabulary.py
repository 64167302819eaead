from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from normscope.data.vocabulary import END, learn

TEXTS = ["the cat sat on the mat", "the other cat, the thin one", "a theory of the other"] * 4
LEARNED = learn(TEXTS, 270)


def decoded(tokens, vocabulary) -> str:
    """The text of byte-level tokens, by the definition of GPT-2's alphabet of bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    return bytes(byte_of[sign] for token in tokens for sign in vocabulary.tokens[token]).decode()


def test_characters_are_numbered_in_order_after_the_end_and_the_unknown():
    vocabulary = learn(["ba", "c"], None)
    assert vocabulary.tokens == (END, "<|unknown|>", "a", "b", "c")
    (tokens,) = vocabulary.encode(["abxcé\U0001f600"])
    assert tokens.tolist() == [2, 3, 1, 4, 1, 1, 0]
    assert tokens.dtype == np.int64


@given(st.text(min_size=1), st.text())
def test_characters_come_back(learned, text):
    vocabulary = learn([learned], None)
    (tokens,) = vocabulary.encode([text])
    back = [vocabulary.tokens[token] for token in tokens[:-1]]
    assert back == [sign if sign in learned else "<|unknown|>" for sign in text]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_subwords_spell_every_text(text):
    (tokens,) = LEARNED.encode([text])
    assert tokens[-1] == 0
    assert 0 not in tokens[:-1]
    assert decoded(tokens[:-1], LEARNED) == text


def test_the_end_of_a_text_cannot_be_spelled():
    (tokens,) = learn(TEXTS, 260).encode([END])
    assert len(tokens) > 2


def test_frequent_pairs_become_one_token():
    vocabulary = learn(TEXTS, 275)
    assert len(vocabulary.tokens) == 275
    assert vocabulary.note == "275 subwords were learned from the training texts"
    assert {"Ġthe", "Ġcat", "Ġother"} <= set(vocabulary.tokens)
    (tokens,) = vocabulary.encode(["the cat"])
    assert len(tokens) < 6


def test_subwords_are_the_librarys_own_byte_pair_encoding():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=269, initial_alphabet=alphabet, show_progress=False)
    )
    vocabulary = learn(TEXTS, 270)
    for tokens, text in zip(vocabulary.encode(TEXTS), TEXTS, strict=True):
        assert [vocabulary.tokens[token] for token in tokens[:-1]] == tokenizer.encode(text).tokens


def test_a_text_too_short_for_the_size_gives_fewer_and_says_so():
    vocabulary = learn(["ab"], 1000)
    assert len(vocabulary.tokens) == 258
    assert "258 subwords were learned" in vocabulary.note
    assert "fewer than the 1000 asked for" in vocabulary.note


def test_a_vocabulary_is_the_same_in_every_process():
    code = (
        "from normscope.data.vocabulary import learn; "
        f"v = learn({TEXTS!r}, 275); print(v.tokens, [t.tolist() for t in v.encode({TEXTS!r})])"
    )

    environment = {"RAYON_NUM_THREADS": "3", "PATH": ""}
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    here = learn(TEXTS, 275)
    assert there == f"{here.tokens} {[tokens.tolist() for tokens in here.encode(TEXTS)]}\n"


def test_many_texts_keep_their_order():
    texts = [f"{i}" for i in range(3000)]
    vocabulary = learn(texts, None)
    back = ["".join(vocabulary.tokens[token] for token in tokens[:-1]) for tokens in vocabulary.encode(iter(texts))]
    assert back == texts


def test_a_vocabulary_below_the_bytes_is_refused():
    with pytest.raises(
        ValueError, match=r"vocabulary must be at least 257 \(the end of a text and the bytes\), got 256"
    ):
        learn(TEXTS, 256)
