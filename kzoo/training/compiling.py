"""A model ready for ``fit``: with optimizer, loss and what is shown meanwhile."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from kzoo.losses.task import TaskLoss, cross_entropy, focal, own_losses, squared_error
from kzoo.registry import build_model
from kzoo.tasks import Task
from kzoo.training.finetune import depths
from kzoo.training.plan import Plan
from kzoo.training.recipe import Recipe
from kzoo.training.schedules import optimizer

log = logging.getLogger(__name__)


def compiled(planned: Plan, rate: float | None = None) -> keras.Model:
    """The model, or a trainer around it, with optimizer, loss and running metrics.

    Args:
        planned: the data and the recipe.
        rate: a learning rate that can be assigned later; None = the recipe's schedule.
    """
    with dtype_policy(planned.recipe.precision):
        model = planned.build()
        trained = model
        if planned.task.name == "reconstruction":
            trained = build_model("autoencoding", autoencoder=model)
        elif planned.recipe.unlabelled != "none":
            trained = build_model(
                "self_training",
                student=model,
                confidence=planned.recipe.confidence,
                unlabelled_weight=planned.recipe.unlabelled_weight,
            )
    return compile_by(planned, trained, model, rate)


def compile_by(
    planned: Plan,
    trained: keras.Model,
    model: keras.Model,
    rate: float | None = None,
) -> keras.Model:
    """Compiles by the plan: its optimizer, the task's loss and running metrics.

    Args:
        planned: the data and the recipe.
        trained: what ``fit`` is called on.
        model: of kzoo's; ``trained`` itself, or the one inside it that learns.
        rate: a learning rate that can be assigned later; None = the recipe's schedule.
    """
    recipe = planned.recipe
    steps = planned.dataset.steps_per_epoch(recipe.batch_size)
    if hasattr(model, "kzoo"):  # a network of the caller's own is trained as it is
        shorten_memory(trained, steps)
    staged = recipe.layer_decay < 1 or recipe.unfreeze_epochs
    trained.compile(
        optimizer=optimizer(recipe, steps, depths(model) if staged else None, rate),
        loss=task_loss(planned.task, recipe),
        **running_metrics(planned.task),
        jit_compile="auto" if recipe.jit is None else recipe.jit,
        steps_per_execution=recipe.steps_per_execution,
    )
    return trained


# Running statistics of batch normalisation reach back so far at most.
MEMORY_EPOCHS = 5


def shorten_memory(model: keras.Model, steps_per_epoch: int) -> None:
    """Running statistics of batch normalisation that a small dataset can reach.

    At Keras's momentum of 0.99 they still hold a third of their first values after a
    hundred steps: a small dataset would be learned by heart in training, and answered
    at random in validation. So they reach back five epochs at most; with 20 steps an
    epoch or more the momentum of 0.99 stays. The number of epochs plays no part, so
    that a run may be extended.

    Args:
        model: changed in place, before it is compiled.
        steps_per_epoch: of its training.
    """
    most = 1 - 1 / (MEMORY_EPOCHS * steps_per_epoch)
    slow = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.momentum > most
    ]
    for layer in slow:
        layer.momentum = most
    if slow:
        log.info(
            "momentum of batch normalisation: %.3g, for %s steps an epoch",
            most,
            steps_per_epoch,
        )


def task_loss(task: Task, recipe: Recipe) -> TaskLoss:
    """The training loss of a task."""
    if task.loss == "outputs":
        return TaskLoss(own_losses)
    if task.loss == "squared_error":
        return TaskLoss(squared_error)
    if recipe.loss == "focal":
        options = {"gamma": recipe.focal_gamma}
        return TaskLoss(focal, label_smoothing=recipe.label_smoothing, **options)
    return TaskLoss(cross_entropy, label_smoothing=recipe.label_smoothing)


def running_metrics(task: Task) -> dict[str, list[keras.metrics.Metric]]:
    """What is shown while an epoch runs, beside the loss: arguments of ``compile``."""
    # The share of finite outputs tells in which step a run diverged: each batch counts
    # alike, whatever its weights.
    shown = {"metrics": [MeanOf(finite, name="finite")]}
    if task.loss == "cross_entropy":
        shown["weighted_metrics"] = [MeanOf(right, name="accuracy")]
    return shown


class MeanOf(keras.metrics.Mean):
    """The weighted mean of a function of labels and outputs.

    Keras's own wrapper would weigh it by a mask that the outputs carry, too.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str) -> None:
        super().__init__(name=name)
        self.function = function

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(self.function(y_true, y_pred), sample_weight)


def finite(labels: Any, outputs: Any) -> Any:
    """1 where all outputs of an example are numbers, else 0: (batch,)."""
    ops = keras.ops
    outputs = ops.reshape(outputs, (ops.shape(outputs)[0], -1))
    return ops.cast(ops.all(ops.isfinite(outputs), axis=-1), "float32")


def right(labels: Any, logits: Any) -> Any:
    """1 where the likeliest class is the label's, else 0: one value a label."""
    ops = keras.ops
    if logits.shape[-1] == 1:
        picked = ops.cast(logits[..., 0] > 0, "int32")
        labels = ops.cast(labels, "float32") > 0.5  # mixed ones lie between
    else:
        picked = ops.argmax(logits, axis=-1)
    if len(labels.shape) == len(logits.shape) and logits.shape[-1] > 1:
        labels = ops.argmax(labels, axis=-1)
    labels = ops.reshape(labels, ops.shape(picked))
    return ops.cast(ops.equal(ops.cast(labels, picked.dtype), picked), "float32")


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
