"""Pairs of texts, of which a model reads the first and writes the second."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.hparams import HParams
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import PAD, UNKNOWN, check_length, train_tokenizer

START, END = "[START]", "[END]"
SPECIALS = (PAD, START, END, UNKNOWN)  # 0, 1, 2, 3

Pairs = Sequence[tuple[str, str]]


def from_pairs(
    name: str,
    options: HParams,
    pairs: Mapping[str, Pairs],
    *,
    task: str,
    tokenizer: str = "character",
    vocab_size: int = 8000,
    max_length: int = 512,
    truncate: bool = False,
) -> Dataset:
    """A dataset of pairs of texts by split, with one tokeniser for both sides.

    Args:
        name: as ``load_dataset`` knows it.
        options: what it was loaded with.
        pairs: ``{"train": [(source, text), ...], ...}``.
        task: ``translation`` or ``summarization``.
        tokenizer: a kind of ``kzoo.preprocessing.text``; it learns from the training
            split alone.
        vocab_size: tokens at most.
        max_length: tokens of a source or a text at most.
        truncate: longer ones are cut; else they are refused.

    Raises:
        ValueError: a text is too long, and is not to be cut.
    """
    texts = (text for pair in pairs["train"] for text in pair)
    made = train_tokenizer(tokenizer, texts, vocab_size, SPECIALS)

    def encoded(side: Iterable[str]) -> list[list[int]]:
        texts = list(side)
        found = made.encode(texts, max_length if truncate else None)
        check_length(texts, found, max_length)
        return found

    ids = {
        key: tuple(encoded(side) for side in zip(*value, strict=True))
        for key, value in pairs.items()
    }
    # One width for all splits, so that few shapes are compiled.
    time = max(len(row) for sources, _ in ids.values() for row in sources)
    steps = max(len(row) for _, found in ids.values() for row in found) + 1
    splits = {
        key: as_split(sources, found, time, steps)
        for key, (sources, found) in ids.items()
    }
    hparams = {
        "vocab_size": made.vocab_size,
        "pad_token_id": SPECIALS.index(PAD),
        "start_token_id": SPECIALS.index(START),
        "end_token_id": SPECIALS.index(END),
    }
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=splits,
        spec=Spec(task, "pairs", hparams, (), fingerprint(splits)),
        preprocessing=Preprocessing(tokenizer=made),
    )


def chosen_pairs(
    name: str, options: Any, pairs: Mapping[str, Pairs], task: str
) -> Dataset:
    """:func:`from_pairs` as a ``TextOptions`` says."""
    return from_pairs(
        name,
        options,
        pairs,
        task=task,
        tokenizer=options.tokenizer,
        vocab_size=options.max_vocab_size,
        max_length=options.max_length,
        truncate=options.truncate,
    )


def as_split(
    sources: list[list[int]], texts: list[list[int]], time: int, steps: int
) -> Split:
    """Tokens of both sides, as arrays.

    Inputs are ``tokens`` (examples, time) and ``decoder_tokens`` (examples, steps),
    the start token and the text; labels (examples, steps) are the text and its end
    token, -1 past it.
    """
    start, end = SPECIALS.index(START), SPECIALS.index(END)
    inputs = {
        "tokens": rectangle(sources, time, 0),
        "decoder_tokens": rectangle([[start, *ids] for ids in texts], steps, 0),
    }
    return Split(inputs, rectangle([[*ids, end] for ids in texts], steps, -1))


def rectangle(rows: Sequence[Sequence[int]], width: int, fill: int) -> np.ndarray:
    """Rows of numbers as one array (rows, width), filled up at their end."""
    array = np.full((len(rows), width), fill, "int32")
    for row, ids in zip(array, rows, strict=True):
        row[: len(ids)] = ids
    return array
