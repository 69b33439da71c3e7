"""The learning-rate range test: which rates a model, its data and its recipe bear."""

import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution as distributions
from kzoo.training import plots
from kzoo.training.compiling import compiled
from kzoo.training.feeding import TrainingSequence, training_batches
from kzoo.training.fit import seeded
from kzoo.training.plan import Plan, plan
from kzoo.training.range_test import (
    MAX_RATE,
    MIN_RATE,
    RULE,
    SETTLING,
    STEPS,
    Smoother,
    check_options,
    check_picture,
    comparison,
    growing_rates,
    has_diverged,
    suggested_rate,
)
from kzoo.training.recipe import Recipe
from kzoo.training.schedules import peak_rate

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RateTest:
    """What a range test measured.

    Attributes:
        model: its name.
        dataset: its name.
        optimizer: the recipe's.
        batch_size: the recipe's.
        rates: of each step that was taken, growing.
        losses: of the batch of each step, before its update.
        smoothed: their moving average, bias-corrected.
        stopped: why before the highest rate: "diverged", "not finite", or "".
        suggestion: a learning rate, or None where the loss never fell.
        rule: how the suggestion was chosen.
        recipe_rate: the recipe's own learning rate, at its peak.
    """

    model: str
    dataset: str
    optimizer: str
    batch_size: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    stopped: str
    suggestion: float | None
    rule: str
    recipe_rate: float

    @property
    def lowest_loss_rate(self) -> float:
        """The rate at which the smoothed loss was lowest."""
        first = SETTLING if len(self.rates) > SETTLING else 0
        return self.rates[first + int(np.argmin(self.smoothed[first:]))]

    @property
    def verdict(self) -> str:
        """How the recipe's rate lies to the suggestion, in words."""
        return comparison(
            self.recipe_rate,
            self.suggestion,
            self.lowest_loss_rate,
            bool(self.stopped),
        )

    def to_json(self) -> dict[str, Any]:
        """All of it, in plain JSON types."""
        derived = {"lowest_loss_rate": self.lowest_loss_rate, "verdict": self.verdict}
        return {**dataclasses.asdict(self), **derived}

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the loss over the rate; .png, .pdf or .svg by the file's ending."""
        plots.loss_over_rate(
            Path(path),
            np.array(self.rates),
            np.array(self.losses),
            np.array(self.smoothed),
            suggestion=self.suggestion,
            recipe_rate=self.recipe_rate,
            title=f"{self.model} on {self.dataset}, {self.optimizer}, "
            f"batches of {self.batch_size}",
        )


def lr_find(
    model: Any,
    dataset: Any = None,
    /,
    *,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    steps: int = STEPS,
    min_rate: float = MIN_RATE,
    max_rate: float = MAX_RATE,
    out: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> RateTest:
    """Tests learning rates before a training, and suggests one.

    A copy of the model is trained on the batches of :func:`kzoo.train`, with the
    recipe's optimizer, loss and precision, while the learning rate grows exponentially
    from step to step (Smith 2017, 1506.01186, sec. 3.3). The test ends when the loss is
    not finite or its moving average has come to four times its lowest. The suggestion
    is the rate at which the smoothed loss falls fastest. The model that was given stays
    as it is, and nothing but the picture is written.

    The recipe's schedule and warm-up are off during the test; ``layer_decay``,
    ``freeze``, ``clip`` and ``gradient_accumulation`` are in force.

    Args:
        model: as of :func:`kzoo.train`: a registry name; a run or model folder, or a
            ``keras.Model``, whose weights the test starts from.
        dataset: a dataset's name, arrays or a ``Dataset``; None = the recipe's.
        recipe: a recipe's name or a :class:`Recipe`; None = the model's own.
        data: options of the dataset.
        steps: updates of the weights from the lowest rate to the highest, at least 20.
        min_rate: the lowest rate, above 0.
        max_rate: the highest rate.
        out: a file for the picture, .png, .pdf or .svg, which is replaced; None = no
            picture.
        **settings: hyper-parameters and recipe fields by name.

    Returns:
        The rates, the losses, the suggestion and the recipe's own rate.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together; or the loss
            is not finite at the lowest rate already.
        FileNotFoundError: a folder to start from has no model, or there is no folder
            for the picture.

    Example:
        >>> import kzoo
        >>> test = kzoo.lr_find("mlp", "digits", units=(16,), steps=40)
        >>> 1e-6 < test.suggestion < 10
        True
    """
    check_options(steps, min_rate, max_rate)
    if out is not None:
        check_picture(Path(out))
    where = distributions.resolve("none")
    planned = plan(
        model, dataset, recipe=recipe, data=data, settings=settings, any_model=True
    )
    # The loss of each step is wanted, not that of several.
    asked = dataclasses.replace(planned.recipe, steps_per_execution=1)
    planned = dataclasses.replace(planned, recipe=asked)
    for note in planned.notes:
        log.info(note)
    with seeded(planned.recipe.seed), where.scope(planned.layout):
        if planned.recipe.deterministic:
            distributions.enable_determinism()
        trained = compiled(planned, rate=min_rate)
        result = _measured(planned, trained, growing_rates(steps, min_rate, max_rate))
    if out is not None:
        result.plot(out)
    return result


def _measured(planned: Plan, trained: keras.Model, rates: np.ndarray) -> RateTest:
    """Trains one update at each rate, until the loss diverges."""
    recipe = planned.recipe
    losses: list[float] = []
    smoothed: list[float] = []
    smoother, stopped = Smoother(), ""
    with training_batches(planned.dataset, recipe) as batches:
        for loss in _losses(trained, batches, rates, recipe.gradient_accumulation):
            if not math.isfinite(loss):
                stopped = "not finite"
                break
            losses.append(loss)
            smoothed.append(smoother.add(loss))
            settled = smoothed[SETTLING:]
            if settled and has_diverged(settled[-1], min(settled)):
                stopped = "diverged"
                break
    if not losses:
        raise ValueError(f"the loss is not finite at the lowest rate, {rates[0]:g}")
    taken = rates[: len(losses)]
    return RateTest(
        model=planned.name,
        dataset=planned.dataset.name,
        optimizer=recipe.optimizer,
        batch_size=recipe.batch_size,
        rates=tuple(taken.tolist()),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        stopped=stopped,
        suggestion=suggested_rate(taken, np.array(smoothed)),
        rule=RULE,
        recipe_rate=peak_rate(recipe),
    )


def _losses(
    trained: keras.Model, batches: TrainingSequence, rates: np.ndarray, accumulated: int
) -> Iterator[float]:
    """The loss of each update's batches, which is made at its own rate.

    ``train_on_batch`` hands the optimizer's variables to the step and takes them back
    on every backend; inside ``fit``, JAX would not see a new rate.
    """
    for i, rate in enumerate(rates):
        trained.optimizer.learning_rate = float(rate)
        parts = []
        for j in range(i * accumulated, (i + 1) * accumulated):
            inputs, labels, weights = batches[j]
            logs = trained.train_on_batch(
                inputs, labels, sample_weight=weights, return_dict=True
            )
            parts.append(float(logs["loss"]))
        yield sum(parts) / len(parts)
