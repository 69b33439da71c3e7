"""When a trial may stop before its last epoch: pure functions of learning curves.

A curve is the best value so far after each epoch, greater is better.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

PRUNERS = ("none", "median", "halving")
STARTUP_TRIALS = 5
FACTOR = 3

Curve = Sequence[float]


def best_so_far(values: Sequence[float]) -> list[float]:
    """The running maximum.

    >>> best_so_far([1.0, 3.0, 2.0])
    [1.0, 3.0, 3.0]
    """
    return list(itertools.accumulate(values, max))


def rungs(epochs: int) -> list[int]:
    """The epochs at which trials are compared: a third and two thirds of all.

    Earlier ones cost more than they save where curves begin flat, as with batch
    statistics that have seen few steps.

    >>> rungs(27), rungs(20), rungs(2), rungs(1)
    ([9, 18], [7, 14], [1], [])
    """
    found = {math.ceil(epochs / 3), math.ceil(2 * epochs / 3)}
    return sorted(epoch for epoch in found if epoch < epochs)


def median(curve: Curve, others: Sequence[Curve], epochs: int) -> bool:
    """Whether the curve is below the median of the others at its epoch.

    Golovin et al., "Google Vizier", 2017. Nobody is stopped before some others have
    come as far, nor in the first tenth of the epochs.

    >>> median([0.1, 0.2], [[0.5, 0.6]] * 5, epochs=10)
    True
    >>> median([0.1, 0.6], [[0.5, 0.6]] * 5, epochs=10)
    False
    """
    epoch = len(curve)
    reached = [other[epoch - 1] for other in others if len(other) >= epoch]
    if len(reached) < STARTUP_TRIALS or epoch <= epochs / 10 or epoch >= epochs:
        return False
    return curve[-1] < float(np.median(reached))


def halving(curve: Curve, others: Sequence[Curve], epochs: int) -> bool:
    """Whether the curve is not among the best third that came to this rung.

    Successive halving that waits for nobody: Li et al., "A system for massively
    parallel hyperparameter tuning", 2018 (1810.05934). Ties go on.

    >>> halving([0.5], [[0.6], [0.7], [0.2]], epochs=3)
    True
    >>> halving([0.65], [[0.6], [0.7], [0.2]], epochs=3)
    True
    >>> halving([0.7], [[0.6], [0.7], [0.2]], epochs=3)
    False
    """
    epoch = len(curve)
    if epoch not in rungs(epochs):
        return False
    reached = [other[epoch - 1] for other in others if len(other) >= epoch]
    ranked = sorted([*reached, curve[-1]], reverse=True)
    kept = max(1, len(ranked) // FACTOR)
    return curve[-1] < ranked[kept - 1]


def none(curve: Curve, others: Sequence[Curve], epochs: int) -> bool:
    """Nobody is stopped."""
    return False


def pruner(name: str) -> Callable[[Curve, Sequence[Curve], int], bool]:
    """The rule of this name."""
    return {"none": none, "median": median, "halving": halving}[name]
