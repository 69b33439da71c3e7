"""The 5-gram that language models are measured against."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from language import WittenBell


def test_probabilities_sum_to_one() -> None:
    text = [0, 1, 2, 0, 1, 1, 0, 1, 2, 3]
    model = WittenBell(text, order=3, vocab_size=5)
    for history in ([], [0], [0, 1], [4, 4], [3, 0]):
        total = sum(model.probability(history, token) for token in range(5))
        assert total == pytest.approx(1.0)


def test_by_hand() -> None:
    """After a: b twice of three, two kinds. Alone: b 2 of 6, three kinds."""
    a, b, c = 0, 1, 2
    model = WittenBell([a, b, a, b, a, c], order=2, vocab_size=3)
    shorter = (2 + 3 * (1 / 3)) / (6 + 3)
    assert model.probability([a], b) == pytest.approx((2 + 2 * shorter) / (3 + 2))
    assert model.probability([c], b) == pytest.approx(shorter)  # nothing came after c
