"""The arithmetic of a learning-rate range test: rates, smoothing, suggestion.

Without Keras, so that a mistake in the options gets its error at once.
"""

import math
from pathlib import Path

import numpy as np

from kzoo.training.run import check_file

STEPS = 200
MIN_RATE = 1e-6
MAX_RATE = 10.0
MOMENTUM = 0.9  # of the moving average that smooths the loss
DIVERGED = 4.0  # times the lowest smoothed loss
SETTLING = 10  # steps in which the moving average is too young to be judged
NEAR = 3.0  # a range test tells rates apart by about this factor

PICTURES = (".png", ".pdf", ".svg")

RULE = "steepest descent of the smoothed loss over log(rate), before its minimum"


def check_options(steps: int, min_rate: float, max_rate: float) -> None:
    """Raises a ``ValueError`` for a range or a number of steps that cannot be used."""
    if steps < 2 * SETTLING:
        raise ValueError(f"steps={steps}: {2 * SETTLING} at least")
    if not (0 < min_rate < max_rate and math.isfinite(max_rate)):
        raise ValueError(
            f"min_rate={min_rate:g} and max_rate={max_rate:g}: the lowest rate must be "
            "above 0 and below the highest, which must be finite"
        )


def check_picture(path: Path) -> None:
    """Raises where no picture can be written: another ending, or no folder."""
    if path.suffix.lower() not in PICTURES:
        raise ValueError(f"{path} ends in none of {', '.join(PICTURES)}")
    check_file(path)


def growing_rates(steps: int, min_rate: float, max_rate: float) -> np.ndarray:
    """Rates from the lowest to the highest, each the same multiple of the one before.

    Example:
        >>> growing_rates(20, 1e-3, 1e-1)[[0, -1]].tolist()
        [0.001, 0.1]
    """
    check_options(steps, min_rate, max_rate)
    return np.geomspace(min_rate, max_rate, steps)


class Smoother:
    """An exponential moving average without the bias of its start at zero.

    Kingma & Ba 2015 (1412.6980), sec. 3: after n values x, with momentum b, it is
    sum(b^(n-k) x_k) (1 - b) / (1 - b^n).
    """

    def __init__(self, momentum: float = MOMENTUM) -> None:
        self.momentum = momentum
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> float:
        """The average with one more value."""
        self.total = self.momentum * self.total + (1 - self.momentum) * value
        self.count += 1
        return self.total / (1 - self.momentum**self.count)


def has_diverged(loss: float, best: float) -> bool:
    """Whether a smoothed loss is four times the best, or as far above one below 0."""
    return loss > best + (DIVERGED - 1) * abs(best)


def suggested_rate(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """The rate at which the smoothed loss falls fastest, before its minimum.

    The slope is that over log(rate), by central differences; the first steps, in which
    the average is young, do not count.

    Args:
        rates: (steps,), growing.
        smoothed: (steps,), the losses.

    Returns:
        One of the rates, or None where the loss never falls.

    Example:
        >>> rates = growing_rates(100, 1e-5, 1.0)
        >>> losses = 1 / (1 + (rates / 1e-2) ** 2)     # falls fastest at 1e-2
        >>> round(suggested_rate(rates, losses), 3)
        0.01
    """
    if len(rates) < SETTLING + 2:
        return None
    slopes = np.gradient(smoothed, np.log(rates))
    end = SETTLING + int(np.argmin(smoothed[SETTLING:]))
    falling = slopes[SETTLING : end + 1]
    steepest = int(np.argmin(falling))
    return float(rates[SETTLING + steepest]) if falling[steepest] < 0 else None


def comparison(
    rate: float, suggestion: float | None, lowest_loss_rate: float, diverged: bool
) -> str:
    """How a recipe's learning rate lies to the result of the test, in words.

    Args:
        rate: the recipe's, at its peak.
        suggestion: of the test.
        lowest_loss_rate: the rate at which the smoothed loss was lowest.
        diverged: whether the loss grew beyond all bounds after that.

    Example:
        >>> comparison(1e-3, 2e-3, 1e-2, True)
        'near the suggestion (0.5 times)'
        >>> comparison(1.0, 2e-3, 1e-2, True)
        'too high: the loss grew at rates above 0.01 until it diverged'
    """
    if suggestion is None:
        return "no suggestion to compare with: the loss never fell"
    ratio = rate / suggestion
    if 1 / NEAR <= ratio <= NEAR:
        return f"near the suggestion ({ratio:.2g} times)"
    if diverged and rate > lowest_loss_rate:
        return (
            f"too high: the loss grew at rates above {lowest_loss_rate:.2g} until it "
            "diverged"
        )
    side = "above" if ratio > 1 else "below"
    return f"{side} the suggestion ({ratio:.2g} times)"
