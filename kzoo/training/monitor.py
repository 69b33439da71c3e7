"""Which metric of the validation split picks the epoch, and why.

Early stopping, the objective of a sweep, studies and plots follow the same one.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.datasets import Dataset
from kzoo.hparams import nearest
from kzoo.tasks import HIGHER_IS_BETTER, Task

AUTO = "auto"
BALANCED = "balanced_accuracy"

# Classes whose numbers of training examples are further apart than this are imbalanced:
# a model that always answers the largest of them would have a fair accuracy.
IMBALANCE = 3.0


@dataclass(frozen=True)
class Monitor:
    """The metric that picks the epoch.

    Attributes:
        metric: one of the task's metrics, or ``loss``.
        reason: why it is this one, as the log says it.
    """

    metric: str
    reason: str

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, else -1."""
        return 1 if HIGHER_IS_BETTER[self.metric] else -1

    def value(self, scores: Mapping[str, Any]) -> tuple[float, float, float]:
        """The epoch with the greatest value is kept; ties go to the lower loss.

        A score that is not defined is less than any other.

        Example:
            >>> Monitor("mae", "asked for").value({"loss": 0.5, "mae": 0.25})
            (1.0, -0.25, -0.5)
        """
        score, loss = (
            value if value is not None and math.isfinite(value) else None
            for value in (scores[self.metric], scores["loss"])
        )
        # Numbers throughout: snapshots hold the value, as strict JSON.
        return (
            float(score is not None),
            0.0 if score is None else self.sign * score,
            -sys.float_info.max if loss is None else -loss,
        )

    def score(self, value: tuple[float, float, float]) -> float:
        """The metric behind a value; NaN where it is not defined."""
        defined, gain, _ = value
        return self.sign * gain if defined else math.nan


def metrics_of(task: Task, dataset: Dataset) -> tuple[str, ...]:
    """The names of all scores of a split of these data."""
    names = (*task.metrics, "loss")
    if len(dataset.spec.classes) <= 5:
        names = tuple(name for name in names if name != "top_5_accuracy")
    return tuple(dict.fromkeys(names))


def monitor_of(task: Task, asked: str, dataset: Dataset) -> Monitor:
    """The metric that picks the epoch of a run.

    Args:
        task: of the run.
        asked: the recipe's ``monitor``. ``auto`` is balanced accuracy where training
            weighs the classes or they are imbalanced, and else the task's first metric.
        dataset: that is trained on, weighted by its classes or not.

    Raises:
        ValueError: a metric that a training for the task on these data does not report.
    """
    names = metrics_of(task, dataset)
    if asked != AUTO:
        if asked not in names and asked in task.metrics:
            raise ValueError(
                f"monitor={asked!r} is for more than 5 classes; {dataset.name} has "
                f"{len(dataset.spec.classes)}"
            )
        if asked not in names:
            raise ValueError(
                f"monitor={asked!r} is no metric of {task.name}"
                f"{nearest(asked, [AUTO, *names])}"
            )
        return Monitor(asked, "asked for")
    if BALANCED in names:
        if dataset.class_weights:
            return Monitor(BALANCED, "since training weighs the classes")
        apart = imbalance(dataset)
        if apart:
            return Monitor(BALANCED, f"since {apart}")
    return Monitor(names[0], f"the first metric of {task.name}")


def imbalance(dataset: Dataset) -> str:
    """How far apart the classes are, in words; empty where they are not imbalanced."""
    labels = np.asarray(dataset.splits["train"].labels)
    classes = dataset.spec.classes
    if not classes or labels.dtype.kind not in "iu":
        return ""
    counts = np.bincount(labels[labels >= 0], minlength=len(classes))
    counts = np.where(counts > 0, counts, counts.max(initial=0))
    most, fewest = int(counts.argmax()), int(counts.argmin())
    if counts[most] <= IMBALANCE * counts[fewest]:
        return ""
    return (
        f"class {classes[most]!r} has {counts[most]} training labels and "
        f"{classes[fewest]!r} {counts[fewest]}, more than {IMBALANCE:g}:1"
    )
