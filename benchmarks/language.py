"""Bits per character on the reference manual, beside an interpolated 5-gram.

    python benchmarks/language.py                     # the 5-gram alone: seconds
    python benchmarks/language.py --model lstm_language_model --out runs/manual

The 5-gram is that of Witten & Bell 1991, interpolated: it learns from the training
split of ``kzoo.load_dataset("reference_manual")`` and is scored on its test split, on
the same tokens as the model.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

import kzoo
from kzoo.datasets import Dataset


class WittenBell:
    """p(c | h) = (n(h, c) + t(h) p(c | shorter h)) / (n(h) + t(h)).

    ``n`` counts, and ``t(h)`` is how many different tokens came after ``h``. Before
    the shortest history stands the uniform distribution.
    """

    def __init__(self, ids: Sequence[int], order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        self.counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for i, token in enumerate(ids):
            for length in range(min(order - 1, i) + 1):
                self.counts[tuple(ids[i - length : i])][token] += 1
        self.totals = {h: sum(found.values()) for h, found in self.counts.items()}

    def probability(self, history: Sequence[int], token: int) -> float:
        found = 1.0 / self.vocab_size
        for length in range(min(self.order - 1, len(history)) + 1):
            counts = self.counts.get(tuple(history[len(history) - length :]))
            if counts is None:
                break
            total = self.totals[tuple(history[len(history) - length :])]
            types = len(counts)
            found = (counts[token] + types * found) / (total + types)
        return found

    def bits(self, ids: Sequence[int]) -> float:
        """The mean of -log2 p of each token but the first, given all before it."""
        reach = self.order - 1
        return sum(
            -math.log2(self.probability(ids[max(0, i - reach) : i], ids[i]))
            for i in range(1, len(ids))
        ) / (len(ids) - 1)


def text_ids(dataset: Dataset, split: str) -> list[int]:
    """All tokens of a split in order: the first, and all labels."""
    examples = dataset.splits[split]
    labels = examples.labels[examples.labels >= 0]
    first = examples.rows(np.arange(1))[0, 0]
    return [int(first), *labels.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--model", help="also train this one, by its recipe")
    parser.add_argument("--out", default="runs/language")
    parsed = parser.parse_args()
    dataset = kzoo.load_dataset("reference_manual")
    vocab_size = dataset.spec.hparams["vocab_size"]
    baseline = WittenBell(text_ids(dataset, "train"), parsed.order, vocab_size)
    bits = baseline.bits(text_ids(dataset, "test"))
    told = {"order": parsed.order, "n-gram": bits}
    if parsed.model:
        run = kzoo.train(parsed.model, "reference_manual", out=parsed.out)
        found = run.metrics["test"]["bits_per_character"]
        told |= {"model": parsed.model, "bits per character": found}
        told["share of the n-gram"] = found / bits
        told["seconds"] = run.metrics["seconds"]
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
