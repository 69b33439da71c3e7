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
from kzoo.tasks import HIGHER_IS_BETTER
from kzoo.training.monitor import metrics_of
from kzoo.training.plan import Plan

COSTS = ("weights", "macs", "latency")


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
        """The value where greater is better; not defined is the least of all."""
        if not math.isfinite(value):
            return -math.inf
        return value if self.direction == "max" else -value


def objectives_of(planned: Plan, text: str | None) -> tuple[Objective, ...]:
    """Reads ``accuracy,weights``; None is the metric that picks the epoch.

    Raises:
        ValueError: a name that a training of the plan does not report.
    """
    task = planned.task
    names = dict.fromkeys((*metrics_of(task, planned.dataset), *COSTS))
    asked = [part.strip() for part in (text or planned.monitor.metric).split(",")]
    objectives = []
    for name in dict.fromkeys(asked):
        if name not in names:
            raise ValueError(
                f"a training for {task.name} reports no objective "
                f"{name!r}{nearest(name, names)}"
            )
        rising = HIGHER_IS_BETTER.get(name, False)  # a cost is better when it is less
        objectives.append(Objective(name, "max" if rising else "min"))
    return tuple(objectives)


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


def finite(values: Mapping[str, float | None]) -> bool:
    """Whether all of them are numbers; None is one that JSON could not hold."""
    return all(value is not None and math.isfinite(value) for value in values.values())


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
