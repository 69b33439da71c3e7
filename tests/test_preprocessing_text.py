"""Tokenisers, the lengths that texts come in, and what of them a model folder holds."""

import itertools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

import kzoo
from kzoo import weights
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import (
    KINDS,
    Tokenizer,
    padded,
    static_lengths,
    train_tokenizer,
)

TEXTS = ["Österreich", "New Zealand", "日本", "the cat sat on the mat", "a\nb\tc"]


def texts(*values: str) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_0_and_the_same_texts_give_the_same_tokenizer(kind: str) -> None:
    made, again = train_tokenizer(kind, TEXTS), train_tokenizer(kind, iter(TEXTS))
    assert made == again
    assert (made.pad_token_id, made.unknown_token_id) == (0, 1)
    ids = made.encode(TEXTS)
    assert min(map(min, ids)) > 1 and max(map(max, ids)) < made.vocab_size


def test_a_character_is_a_token() -> None:
    made = train_tokenizer("character", TEXTS)
    assert [len(one) for one in made.encode(TEXTS)] == [len(text) for text in TEXTS]
    assert made.vocab_size == 2 + len(set("".join(TEXTS)))
    assert made.decode(made.encode(TEXTS)) == TEXTS
    # Composed and decomposed letters are one.
    assert made.encode([unicodedata.normalize("NFD", TEXTS[0])]) == made.encode(
        TEXTS[:1]
    )


def test_a_word_is_a_token_in_either_case() -> None:
    made = train_tokenizer("word", ["The cat, the mat."])
    the, cat, comma = made.encode(["the cat ,"])[0]
    assert made.encode(["THE, cat"]) == [[the, comma, cat]]
    assert made.encode(["the dog"]) == [[the, made.unknown_token_id]]


@given(st.text(max_size=20))
def test_no_text_is_unseen_to_byte_pairs(text: str) -> None:
    ids = BYTE_PAIRS.encode([text])[0]
    assert BYTE_PAIRS.unknown_token_id not in ids
    assert BYTE_PAIRS.decode([ids]) == [text]


BYTE_PAIRS = train_tokenizer("bpe", TEXTS * 5, vocab_size=300)


def test_frequent_pairs_are_merged_and_the_vocabulary_is_kept_small() -> None:
    assert BYTE_PAIRS.vocab_size <= 300
    assert len(BYTE_PAIRS.encode(["the mat"])[0]) < 7
    few = train_tokenizer("word", ["a a a b b c"], vocab_size=4)
    assert few.vocab_size == 4  # padding, unknown, a, b
    assert few.encode(["a b c"])[0].count(few.unknown_token_id) == 1


def test_unknown_kind_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown tokenizer 'wrod'. Did you mean"):
        train_tokenizer("wrod", TEXTS)


@given(st.integers(1, 100_000))
def test_lengths_are_few_and_at_most_twice_what_is_needed(most: int) -> None:
    lengths = static_lengths(most)
    assert lengths[-1] == most and list(lengths) == sorted(set(lengths))
    assert all(2 * one >= two for one, two in itertools.pairwise(lengths))
    assert len(lengths) <= 15


def test_texts_become_tokens_of_the_least_length_that_fits() -> None:
    tokenizer = train_tokenizer("character", TEXTS)
    made = Preprocessing(tokenizer=tokenizer, lengths=(4, 8), truncate=True)
    short = made.inputs(texts("cat", ""))
    assert (short.shape, short.dtype) == ((2, 4), np.int32)
    assert (short[1] == 0).all() and (short[0] > 1).sum() == 3
    cut = made.inputs(texts("New Zealand", "cat"))
    assert cut.shape == (2, 8)
    np.testing.assert_array_equal(cut[0], made.inputs(texts("New Zeal"))[0])


def test_a_text_that_is_too_long_is_not_cut_in_silence() -> None:
    tokenizer = train_tokenizer("character", TEXTS)
    made = Preprocessing(tokenizer=tokenizer, lengths=(4, 8))
    assert made.inputs(texts("New Zeal")).shape == (1, 8)
    message = "the text 'New Zealand' has 11 tokens, more than max_length=8; truncate"
    with pytest.raises(ValueError, match=message):
        made.inputs(texts("cat", "New Zealand"))


def test_unseen_characters_are_the_unknown_token() -> None:
    made = Preprocessing(tokenizer=train_tokenizer("character", ["abc"]), lengths=(4,))
    np.testing.assert_array_equal(made.inputs(texts("a☃")) == 1, [[0, 1, 0, 0]])


def test_padding_fills_with_the_tokenizers_own() -> None:
    np.testing.assert_array_equal(padded([[5], [6, 7]], (2, 3), 1), [[5, 1], [6, 7]])
    assert padded([], (2, 3)).shape == (0, 2)


def test_a_folder_keeps_the_tokenizer_beside_the_preprocessing(tmp_path: Path) -> None:
    made = Preprocessing(
        tokenizer=train_tokenizer("word", TEXTS), lengths=(8, 16), classes=("a", "b")
    )
    model = kzoo.build_model("gru", vocab_size=20, units=4, num_layers=1)
    folder = kzoo.save(model, tmp_path / "model", preprocessing=made)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessing.json",
        "tokenizer.json",
    ]
    again = weights.load_preprocessing(folder)
    assert again == made
    np.testing.assert_array_equal(
        again.inputs(texts("the mat")), made.inputs(texts("the mat"))
    )
    # Other programs of the field read the file, too.
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert theirs.encode("the mat").ids == made.tokenizer.encode(["the mat"])[0]
    assert "tokenizer" not in json.loads((folder / "preprocessing.json").read_text())
    # Saved without, the old tokenizer is gone.
    kzoo.save(model, folder, preprocessing=Preprocessing())
    assert not (folder / "tokenizer.json").exists()


def test_a_file_that_is_no_tokenizer_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"not a tokenizer\.json: "):
        _ = Tokenizer("{}").library
