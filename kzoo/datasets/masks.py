"""Batches of tokens whose labels are tokens: those that were hidden, or the next ones.

Transforms of a :class:`Dataset`; everything is drawn from the seed and the step.
"""

from dataclasses import dataclass

import numpy as np

from kzoo.datasets.augmentation import augment
from kzoo.datasets.batches import Batch
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import Inputs


def tokens_of(
    dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
) -> tuple[Inputs, np.ndarray]:
    """The preprocessed inputs, and the tokens (batch, time) among them."""
    inputs = raw["inputs"]
    if training and not isinstance(inputs, dict):
        inputs = augment(dataset.augmentation, inputs, rng)
    inputs = dataset.preprocessing.inputs(inputs)
    return inputs, inputs["tokens"] if isinstance(inputs, dict) else inputs


def labelled(
    raw: Batch, inputs: Inputs, labels: np.ndarray, counts: np.ndarray
) -> Batch:
    """The batch with a label (batch, time) where it counts."""
    weights = counts * raw["weights"][:, None].astype("float32")
    labels = np.where(counts, labels, 0).astype("int32")
    return {**raw, "inputs": inputs, "labels": labels, "weights": weights}


@dataclass(frozen=True)
class MaskedTokens:
    """Some tokens are hidden, and are the labels.

    Devlin et al. 2019 (1810.04805), sec. 3.1: of each text a share of its tokens, one
    at least; most of these become the mask, some another token, and some stay.

    Attributes:
        mask_token_id: what stands for a hidden token.
        ordinary: token ids that may be hidden, and may stand for others.
        rate: share of a text's ordinary tokens.
        masked, random: shares of those; the rest stays as it is.
    """

    mask_token_id: int
    ordinary: tuple[int, ...]
    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform of a dataset."""
        inputs, tokens = tokens_of(dataset, raw, rng, training)
        able = np.isin(tokens, self.ordinary)
        order = np.where(able, rng.random(tokens.shape), 2.0)
        rank = order.argsort(axis=1).argsort(axis=1)
        count = np.maximum(1, np.rint(able.sum(axis=1) * self.rate))
        chosen = able & (rank < count[:, None])
        kind = rng.random(tokens.shape)
        others = rng.choice(np.array(self.ordinary), tokens.shape)
        hidden = np.where(kind < self.masked, self.mask_token_id, tokens)
        drawn = (kind >= self.masked) & (kind < self.masked + self.random)
        hidden = np.where(drawn, others, hidden)
        shown = np.where(chosen, hidden, tokens).astype("int32")
        given = {**inputs, "tokens": shown} if isinstance(inputs, dict) else shown
        return labelled(raw, given, tokens, chosen)


@dataclass(frozen=True)
class ReplacedTokens:
    """Hidden tokens, and all that it takes to replace them by others.

    Clark et al. 2020 (2003.10555), sec. 3.1. What a generator thinks of the hidden ones
    is known in training alone, so what is drawn here is a number for each step.

    Attributes:
        hidden: which ones; all of them become the mask in the paper.
        pad_token_id: what counts nothing; None = there is no padding.
    """

    hidden: MaskedTokens
    pad_token_id: int | None

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform: inputs are a dict of arrays (batch, time).

        ``tokens``, of which some are hidden; ``originals``; ``hidden_weights`` and
        ``token_weights``, the hidden ones and all real ones, each 1 on the average of
        the batch; ``chances``, even between 0 and 1; and the encoder's other inputs.
        """
        batch = self.hidden(dataset, raw, rng, training)
        given = batch["inputs"]
        given = given if isinstance(given, dict) else {"tokens": given}
        chosen = batch["weights"] > 0
        tokens: np.ndarray = given["tokens"]
        originals = np.where(chosen, batch["labels"], tokens)
        real = np.ones(chosen.shape, bool)
        if self.pad_token_id is not None:
            real = originals != self.pad_token_id
        rows = (raw["weights"] > 0)[:, None]

        def shares(counts: np.ndarray) -> np.ndarray:
            """1 on the average of the rows that are no filling."""
            counts = (counts & rows).astype("float64")
            size = rows.sum() * counts.shape[1]
            return (counts * (size / max(counts.sum(), 1))).astype("float32")

        inputs = {
            **given,
            "originals": originals.astype("int32"),
            "hidden_weights": shares(chosen),
            "token_weights": shares(real),
            "chances": rng.random(chosen.shape, "float32"),
        }
        labels = np.zeros(len(chosen), "float32")
        return {**raw, "inputs": inputs, "labels": labels}


@dataclass(frozen=True)
class NextTokens:
    """At each step, the label is the token of the next one.

    Attributes:
        pad_token_id: no label; None = there is no padding.
    """

    pad_token_id: int | None

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform of a dataset."""
        inputs, tokens = tokens_of(dataset, raw, rng, training)
        labels = np.roll(tokens, -1, axis=1)
        counts = np.broadcast_to(
            np.arange(tokens.shape[1]) + 1 < tokens.shape[1], tokens.shape
        )
        if self.pad_token_id is not None:
            counts = counts & (labels != self.pad_token_id)
        return labelled(raw, inputs, labels, counts)
