"""The learning rate as a pure function of the step, and the optimizer that uses it."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.hparams import nearest
from kzoo.training.recipe import Recipe


def learning_rate(recipe: Recipe, step: Any, steps_per_epoch: int) -> Any:
    """The learning rate of a step, counted from 0.

    It rises linearly over ``warmup_steps``: (step + 1) / warmup_steps of its peak.
    Then, with t from 0 to 1 over the steps that are left:

        constant  1
        cosine    (1 + cos(pi t)) / 2                    (Loshchilov & Hutter 2017)
        linear    1 - t
        step      decay_rate ** (decay_epochs that have passed)
        noam      sqrt(warmup_steps / (step + 1))           (Vaswani et al. 2017, 5.3)

    Args:
        recipe: names the schedule.
        step: an int, or a tensor of the backend.
        steps_per_epoch: training steps.

    Returns:
        A float32 tensor.

    Example:
        >>> recipe = Recipe(learning_rate=1.0, schedule="linear", epochs=10)
        >>> float(learning_rate(recipe, 25, steps_per_epoch=10))
        0.75
    """
    total = recipe.epochs * steps_per_epoch
    step = ops.cast(step, "float32")
    left = max(1, total - recipe.warmup_steps)
    t = ops.clip((step - recipe.warmup_steps) / left, 0.0, 1.0)
    if recipe.schedule == "cosine":
        factor = (1.0 + ops.cos(np.pi * t)) / 2.0
    elif recipe.schedule == "linear":
        factor = 1.0 - t
    elif recipe.schedule == "step":
        passed = [
            ops.cast(step >= epoch * steps_per_epoch, "float32")
            for epoch in recipe.decay_epochs
        ]
        factor = ops.power(float(recipe.decay_rate), sum(passed))
    elif recipe.schedule == "noam":
        # With their peak of (hidden_dim * warmup_steps) ** -0.5 it is their formula.
        passed_steps = ops.maximum(step + 1.0, recipe.warmup_steps)
        factor = ops.sqrt(recipe.warmup_steps / passed_steps)
    else:
        factor = ops.ones_like(t)
    if recipe.warmup_steps:
        factor = factor * ops.minimum(1.0, (step + 1.0) / recipe.warmup_steps)
    return peak_rate(recipe) * factor


def peak_rate(recipe: Recipe) -> float:
    """The highest learning rate: as given, or scaled to the batch.

    ``linear`` keeps the path of SGD (Goyal et al. 2017, 1706.02677), ``square_root``
    that of adaptive optimizers (Malladi et al. 2022, 2205.10287). The batch is that of
    all replicas together, so the number of replicas changes nothing.

    Example:
        >>> asked = {"learning_rate": 0.1, "batch_size": 1024}
        >>> peak_rate(Recipe(**asked))
        0.1
        >>> peak_rate(Recipe(**asked, learning_rate_scaling="linear"))
        0.4
    """
    powers = {"none": 0.0, "linear": 1.0, "square_root": 0.5}
    factor = recipe.batch_size / recipe.base_batch_size
    return float(recipe.learning_rate * factor ** powers[recipe.learning_rate_scaling])


def rate_share(recipe: Recipe, depth: int, step: Any, steps_per_epoch: int) -> Any:
    """The share of the learning rate that a weight gets, by its place in the model.

    ``layer_decay ** depth`` (Clark et al. 2020, 2003.10555; Bao et al. 2022,
    2106.08254), and 0 until its block's turn comes: the head learns from the start,
    then after each ``unfreeze_epochs`` the next block (Howard & Ruder 2018, 1801.06146,
    sec. 3.3).

    Args:
        recipe: has the two.
        depth: blocks from the head, 0 = the head itself.
        step: counted from 0; an int, or a tensor of the backend.
        steps_per_epoch: training steps.

    Returns:
        A float32 tensor.

    Example:
        >>> recipe = Recipe(layer_decay=0.5, unfreeze_epochs=3)
        >>> [float(rate_share(recipe, 2, step, 10)) for step in (59, 60)]
        [0.0, 0.25]
    """
    begin = depth * recipe.unfreeze_epochs * steps_per_epoch
    share = float(recipe.layer_decay) ** depth
    return share * ops.cast(ops.convert_to_tensor(step) >= begin, "float32")


def by_depth(
    kind: type[keras.optimizers.Optimizer],
    recipe: Recipe,
    depths: Mapping[str, int],
    steps_per_epoch: int,
) -> type[keras.optimizers.Optimizer]:
    """The optimizer with the learning rate of each weight by its depth.

    A weight whose turn has not come keeps its value; its moments gather meanwhile.

    Args:
        kind: an optimizer of Keras's.
        recipe: has ``layer_decay`` and ``unfreeze_epochs``.
        depths: of weights by path; what is not there, such as a trainer's own weights,
            learns as the head does.
        steps_per_epoch: training steps.
    """

    class ByDepth(kind):
        """Of the weight at hand: ``share``, which its decay is scaled by too."""

        share: Any = 1.0

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(
                gradient, variable, learning_rate * self._share(variable)
            )

        def _apply_weight_decay(self, variables: Any) -> None:
            for variable in variables:
                if self.weight_decay is not None and self._use_weight_decay(variable):
                    self.share = self._share(variable)
                    super()._apply_weight_decay([variable])
            self.share = 1.0

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() * self.share

        def _share(self, variable: Any) -> Any:
            number = self._get_variable_index(variable)
            depth = depths.get(self._trainable_variables[number].path, 0)
            return rate_share(recipe, depth, self.iterations, steps_per_epoch)

    return ByDepth


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """:func:`learning_rate` as Keras wants it."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: Any) -> Any:
        return learning_rate(self.recipe, step, self.steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_json(), "steps": self.steps_per_epoch}


def optimizer(
    recipe: Recipe,
    steps_per_epoch: int,
    depths: Mapping[str, int] | None = None,
    rate: float | None = None,
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer.

    Weight decay leaves biases and the scales of normalisations alone.

    Args:
        recipe: what to make.
        steps_per_epoch: training steps.
        depths: how far from the head each weight lies, by path, where the recipe treats
            them by that.
        rate: a learning rate that can be assigned later; None = the recipe's schedule.

    Raises:
        ValueError: Keras has no optimizer of this name, or the epochs are too few.
    """
    if recipe.warmup_steps >= recipe.epochs * steps_per_epoch:
        raise ValueError(
            f"warmup_steps={recipe.warmup_steps} takes the whole training of "
            f"{recipe.epochs * steps_per_epoch} steps"
        )
    options: dict[str, Any] = {"weight_decay": recipe.weight_decay or None}
    if recipe.optimizer.lower() == "sgd":
        options |= {"momentum": recipe.momentum, "nesterov": recipe.momentum > 0}
    if recipe.clip:
        options["global_clipnorm"] = recipe.clip
    if recipe.ema:
        options |= {"use_ema": True, "ema_momentum": recipe.ema}
    if recipe.gradient_accumulation > 1:
        options["gradient_accumulation_steps"] = recipe.gradient_accumulation
    if recipe.optimizer.lower() == "adamw":
        options["weight_decay"] = recipe.weight_decay  # None would mean Keras's 0.004
    if recipe.optimizer.lower() == "muon":  # has a second one, 0.004 by default
        options["adam_weight_decay"] = options["weight_decay"]
    kind = optimizer_class(recipe.optimizer)
    if depths:
        last = max(depths.values()) * recipe.unfreeze_epochs
        if last >= recipe.epochs:
            raise ValueError(
                f"unfreeze_epochs={recipe.unfreeze_epochs} has the first of "
                f"{max(depths.values())} blocks learn after {last} epochs; "
                f"epochs={recipe.epochs} is too few"
            )
        kind = by_depth(kind, recipe, depths, steps_per_epoch)
    schedule = Schedule(recipe, steps_per_epoch) if rate is None else rate
    made = kind(schedule, **options)
    if recipe.weight_decay:
        made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def optimizer_class(name: str) -> type[keras.optimizers.Optimizer]:
    """Keras's class of this name, in any case; a ``ValueError`` with the nearest."""
    base = keras.optimizers.Optimizer
    classes = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, base)
    }
    for wrapper in ("optimizer", "lossscaleoptimizer", "multioptimizer"):
        classes.pop(wrapper, None)
    if name.lower() not in classes:
        raise ValueError(f"unknown optimizer {name!r}{nearest(name, classes)}")
    return classes[name.lower()]
