"""Words of a running text and what stands around them, true or drawn.

Mikolov et al. 2013 (1310.4546): each word meets one of its neighbours, label 1, and
``negatives`` words that are drawn by their frequency to the power of 3/4, label 0.
Neighbours are nearer ones more often: each time a reach is drawn up to ``window``.
Frequent words are thinned out beforehand.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from kzoo.datasets import language
from kzoo.datasets.batches import Batch, philox
from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import array_bytes, fingerprint
from kzoo.hparams import declarations, hp


@dataclass(frozen=True)
class Contexts:
    """The words of a text, each ``1 + negatives`` times: once as label 1, then as 0.

    Attributes:
        stream: the text's tokens, thinned out.
        window: words that are looked at on either side.
    """

    stream: np.ndarray
    window: int
    negatives: int

    def __len__(self) -> int:
        return len(self.stream) * (1 + self.negatives)

    @property
    def labels(self) -> np.ndarray:
        """(examples,), 1 for a true neighbour."""
        slots = np.zeros(1 + self.negatives, "int32")
        slots[0] = 1
        return np.tile(slots, len(self.stream))

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Each word in the middle of what is around it: (batch, 2 * window + 1)."""
        around = np.arange(-self.window, self.window + 1)
        word = index[:, None] // (1 + self.negatives)
        there = (word + around >= 0) & (word + around < len(self.stream))
        # Past an end of the text stands what is as far on the other side.
        return self.stream[word + np.where(there, around, -around)]

    def contents(self) -> Iterator[bytes]:
        """The text and what is made of it."""
        yield array_bytes(self.stream) + f" {self.window} {self.negatives}".encode()


@dataclass(frozen=True, kw_only=True)
class SkipGramOptions(language.LanguageOptions):
    """Options of ``skip_gram:NAME``; those of the running text too."""

    tokenizer: str = hp(
        "word",
        "what a token is: words are what stands between spaces",
        choices=("character", "word", "bpe"),
    )
    reach: int = hp(5, "words on either side that are a word's context", min=1)
    negatives: int = hp(5, "words that are drawn for each true one", min=1)
    threshold: float = hp(
        1e-3, "share of the text above which words are thinned out", min=0.0, max=1.0
    )


def existing_source(source: str) -> None:
    """Raises a ``ValueError`` where there is no such text."""
    if source != "reference_manual":
        language.existing_texts(source)


def from_running_text(source: str, options: SkipGramOptions) -> Dataset:
    """Pairs of words of ``reference_manual``, or of text files."""
    known = options.to_json()
    shared = {key: known[key] for key in declarations(language.LanguageOptions)}
    chosen = language.LanguageOptions(**shared)
    if source == "reference_manual":
        text = language.reference_manual(chosen)
    else:
        text = language.text_files(source, chosen)
    pairs = skip_gram(
        text,
        window=options.reach,
        negatives=options.negatives,
        threshold=options.threshold,
    )
    return dataclasses.replace(pairs, name=f"skip_gram:{source}", options=known)


def skip_gram(
    text: Dataset, *, window: int = 5, negatives: int = 5, threshold: float = 1e-3
) -> Dataset:
    """A dataset of pairs of words from one of running text.

    Args:
        text: of the task language-modeling, a word a token.
        window: words on either side that are a word's context.
        negatives: words that are drawn for each true one.
        threshold: words that make up more than this share of the text are kept with
            the probability sqrt(threshold / share); 0 keeps all.

    Raises:
        ValueError: a dataset of another kind.
    """
    if text.spec.task != "language-modeling":
        raise ValueError(f"{text.name} is no running text but {text.spec.task}")
    seed = int(text.options.get("seed", 0))
    vocab_size = text.spec.hparams["vocab_size"]
    streams = {name: stream_of(split) for name, split in text.splits.items()}
    counts = np.bincount(streams["train"], minlength=vocab_size)
    kept = keep_probability(counts, threshold)
    splits = {}
    for name, stream in streams.items():
        drawn = philox(seed, f"skip_gram/{name}", 0).random(len(stream))
        thinned = stream[drawn < kept[stream]]
        if len(thinned) <= 2 * window:
            raise ValueError(
                f"{text.name}: there is too little text for a {name} split"
            )
        splits[name] = Contexts(thinned, window, negatives)
    noise = np.cumsum(counts.astype("float64") ** 0.75)
    options = {"window": window, "negatives": negatives, "threshold": threshold}
    return dataclasses.replace(
        text,
        name=f"skip_gram:{text.name}",
        options={**text.options, **options},
        splits=splits,
        spec=Spec(
            task="text-classification",
            inputs="first and second",
            hparams={"vocab_size": vocab_size, "pad_token_id": None, "num_classes": 1},
            classes=("drawn", "neighbour"),
            fingerprint=fingerprint(splits),
        ),
        preprocessing=dataclasses.replace(
            text.preprocessing, classes=("drawn", "neighbour")
        ),
        transform=partial(pairs_of_words, noise=noise / noise[-1]),
    )


def stream_of(split: Any) -> np.ndarray:
    """The tokens of a split of windows, in a row."""
    windows = split.rows(np.arange(len(split)))
    labels = split.labels
    ends = labels[labels >= 0][-1:]  # the last token is a label alone
    return np.concatenate([windows[labels >= 0], ends])


def keep_probability(counts: np.ndarray, threshold: float) -> np.ndarray:
    """Of each word, by how often it stands in the text (1310.4546, sec. 2.3).

    Example:
        >>> keep_probability(np.array([0, 1, 3]), 0.25).round(3).tolist()
        [1.0, 1.0, 0.577]
    """
    if threshold == 0:
        return np.ones(len(counts))
    share = np.maximum(counts, 1) / counts.sum()
    return np.minimum(1.0, np.sqrt(threshold / share))


def pairs_of_words(
    dataset: Dataset,
    raw: Batch,
    rng: np.random.Generator,
    training: bool,
    *,
    noise: np.ndarray,
) -> Batch:
    """The transform: ``first`` the word, ``second`` its neighbour or a drawn word.

    ``noise`` is the words' distribution function.
    """
    around, true = raw["inputs"], raw["labels"] == 1
    count, window = len(around), around.shape[1] // 2
    reach = rng.integers(1, window + 1, count)
    offset = 1 + np.floor(rng.random(count) * reach).astype("int64")
    side = np.where(rng.random(count) < 0.5, -1, 1)
    neighbour = around[np.arange(count), window + side * offset]
    drawn = np.searchsorted(noise, rng.random(count), side="right")
    second = np.where(true, neighbour, drawn)
    inputs = {
        "first": around[:, window, None].astype("int32"),
        "second": second[:, None].astype("int32"),
    }
    return {**raw, "inputs": inputs, "labels": raw["labels"].astype("int32")}
