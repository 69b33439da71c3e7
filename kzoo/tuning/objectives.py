"""What a sweep optimises: metrics of the validation split, and what a model costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from kzoo.datasets import Dataset
from kzoo.distillation.report import latency_ms
from kzoo.hparams import nearest
from kzoo.macs import counted
from kzoo.registry import trainable_parameters
from kzoo.tasks import Task

COSTS = ("weights", "macs", "latency")
_LESS_IS_BETTER = ("loss", "mse", "mae", "perplexity")


@dataclass(frozen=True)
class Objective:
    """One of them.

    Attributes:
        name: a metric of the validation split; ``weights``, the trainable ones;
            ``macs``; or ``latency``, milliseconds of one example on this machine.
        direction: ``max`` or ``min``, as KerasTuner says it.
    """

    name: str
    direction: str

    @property
    def is_cost(self) -> bool:
        return self.name in COSTS

    def gain(self, value: float) -> float:
        """The value where greater is better."""
        return value if self.direction == "max" else -value


def objectives_of(task: Task, text: str | None) -> tuple[Objective, ...]:
    """Reads ``accuracy,weights``; None is the task's first metric.

    Raises:
        ValueError: a name that a training of the task does not report.
    """
    known = dict.fromkeys((*task.metrics, "loss", *COSTS))
    names = [part.strip() for part in (text or task.metrics[0]).split(",")]
    found = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise ValueError(
                f"a training for {task.name} reports no objective "
                f"{name!r}{nearest(name, known)}"
            )
        less = name in (*_LESS_IS_BETTER, *COSTS)
        if name == task.metrics[0]:
            less = not task.higher_is_better
        found.append(Objective(name, "min" if less else "max"))
    return tuple(found)


def cost(name: str, model: keras.Model, dataset: Dataset) -> float:
    """What the model costs.

    Raises:
        ValueError: its multiply-accumulates are not known; the message names a layer.
    """
    if name == "weights":
        return trainable_parameters(model)
    if name == "macs":
        return counted(model)
    return latency_ms(model, dataset, batch_sizes=(1,))["1"]


def finite(values: Mapping[str, float]) -> bool:
    """Whether all of them are numbers."""
    return all(math.isfinite(value) for value in values.values())


def pareto_front(
    points: Sequence[Sequence[float]], directions: Sequence[str]
) -> list[int]:
    """Which points no other beats: as good in all, and better in one.

    >>> pareto_front([(0.9, 100), (0.8, 50), (0.85, 120), (0.9, 100)], ("max", "min"))
    [0, 1, 3]
    """
    signs = np.array([1.0 if one == "max" else -1.0 for one in directions])
    gains = np.asarray(points, "float64").reshape(-1, len(signs)) * signs
    front = []
    for i, mine in enumerate(gains):
        beaten = (gains >= mine).all(axis=1) & (gains > mine).any(axis=1)
        if not beaten.any():
            front.append(i)
    return front
