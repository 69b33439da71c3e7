"""Options of ``tune``, and the names of its tuners.

Without Keras, so that a typo gets its error at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from kzoo.hparams import HParams, hp, nearest
from kzoo.tuning.pruning import PRUNERS

TUNERS = ("random", "grid", "bayesian", "hyperband", "tpe")


@dataclass(frozen=True, kw_only=True)
class TuneOptions(HParams):
    """Options of ``tune`` that are seldom needed."""

    executions: int = hp(
        1, "trainings of a trial, from different seeds; the mean counts", min=1, max=100
    )
    keep: int = hp(3, "models of the best trials that stay on disk", min=1)
    disk_gb: float = hp(10.0, "that the sweep may take", min=0.0)
    max_weights: int = hp(
        0, "trainable weights beyond which a trial fails unbuilt; 0 = any number", min=0
    )
    wait_seconds: float = hp(120.0, "that a worker waits for its chief", min=0.1)
    failures: float = hp(
        0.5, "share of failed trials beyond which the sweep ends", min=0.0, max=1.0
    )


def check_tuner(name: str) -> None:
    """Raises a ``ValueError`` for a tuner that there is not."""
    _check_choice("tuner", name, TUNERS)


def check_prune(name: str) -> None:
    """Raises a ``ValueError`` for a pruning that there is not."""
    _check_choice("prune", name, PRUNERS)


def check_trials(trials: int) -> None:
    """Raises a ``ValueError`` for a sweep of no trial."""
    if trials < 1:
        raise ValueError(f"trials={trials}: one at least")


def _check_choice(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        legal = ", ".join(known)
        hint = nearest(value, known)
        hint = hint if "Did you mean" in hint else ""
        raise ValueError(f"{name}={value!r} is not one of {legal}{hint}")
