"""Plain Keras models in ``kzoo.train``: what they can do, and whether they fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.datasets import Dataset
from kzoo.hparams import HParams, declarations, nearest
from kzoo.tasks import get_task
from kzoo.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class PlainHParams(HParams):
    """Of a model that kzoo did not build: none."""


# Recipe fields that need to know a model's taps or how to build it again.
_NEEDS_IDENTITY = (
    "freeze",
    "lora",
    "layer_decay",
    "unfreeze_epochs",
    "unlabelled",
    "precision",
)


def check_recipe(name: str, recipe: Recipe) -> None:
    """Raises a ``ValueError`` for a field that a plain Keras model cannot have."""
    fields = declarations(Recipe)
    for field in _NEEDS_IDENTITY:
        value = getattr(recipe, field)
        if value != fields[field].default:
            raise ValueError(
                f"{field}={value!r} needs a model that kzoo built; {name} is a plain "
                "Keras model"
            )


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` for what is no field of the recipe."""
    fields = declarations(Recipe)
    for key in settings:
        if key not in fields:
            raise ValueError(
                f"{name} is a plain Keras model, which has no hyper-parameters, and "
                f"the recipe has no field {key!r}{nearest(key, fields)}"
            )


def check_fits(name: str, model: keras.Model, dataset: Dataset) -> None:
    """Raises a ``ValueError`` where the model cannot be trained on these data.

    A model without weights yet is called on an example, which builds it.
    """
    task = get_task(dataset.spec.task)
    if task.writes or task.loss == "outputs":
        raise ValueError(f"{task.name} needs a model that kzoo built")
    batch = next(iter(dataset.eval_batches("train", 2)))["inputs"]
    given = batch if isinstance(batch, dict) else {"": batch}
    if getattr(model, "inputs", None):
        _check_inputs(name, model, given, dataset)
    outputs = getattr(model, "outputs", None) or _called(name, model, batch, dataset)
    outputs = keras.tree.flatten(outputs)
    if len(outputs) != 1:
        raise ValueError(f"{name} gives {len(outputs)} outputs; kzoo trains one")
    shape = tuple(outputs[0].shape)
    wanted = dataset.spec.hparams.get("num_classes")
    if wanted is None:
        wanted = dataset.spec.hparams.get("vocab_size")
    rank = 3 if task.per_step else 2
    if len(shape) != rank or shape[-1] != wanted:
        per = "each step of an example" if task.per_step else "an example"
        what = "logits" if task.loss == "cross_entropy" else "number"
        raise ValueError(
            f"{name} gives {_sizes(shape)} for an example; {dataset.name} needs "
            f"{wanted} {what} for {per}"
        )
    if task.loss == "cross_entropy":
        _check_logits(name, model, outputs[0])


def _check_inputs(
    name: str, model: keras.Model, given: Mapping[str, np.ndarray], dataset: Dataset
) -> None:
    taken = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
    if len(taken) == len(given) == 1:
        taken = {key: next(iter(taken.values())) for key in given}
    if set(taken) != set(given):
        raise ValueError(
            f"{name} takes the inputs {', '.join(sorted(taken))}; {dataset.name} gives "
            f"{', '.join(sorted(filter(None, given))) or 'one without a name'}"
        )
    for key, shape in taken.items():
        ours = given[key].shape
        fits = len(shape) == len(ours) and all(
            size in (None, real) for size, real in zip(shape[1:], ours[1:], strict=True)
        )
        if not fits:
            raise ValueError(
                f"{name} takes {key or 'inputs'} of {_sizes(shape)}; {dataset.name} "
                f"gives {_sizes(ours)}"
            )


def _called(name: str, model: keras.Model, batch: Any, dataset: Dataset) -> Any:
    try:
        return model(batch, training=False)
    except Exception as error:  # whatever its own call raises
        lines = [line for line in str(error).splitlines() if line.strip()]
        reason = lines[0].strip() if lines else type(error).__name__
        raise ValueError(f"{name} cannot read {dataset.name}: {reason}") from error


def _check_logits(name: str, model: keras.Model, output: Any) -> None:
    """Raises a ``ValueError`` where the outputs are probabilities."""
    last = _activation_of(model)
    if last is None and not isinstance(output, keras.KerasTensor):
        values = np.asarray(keras.ops.convert_to_numpy(output), "float64")
        total = values.sum(axis=-1)
        if (
            values.shape[-1] > 1
            and (values >= 0).all()
            and np.allclose(total, 1, atol=1e-3)
        ):
            last = "softmax"
    if last is not None:
        raise ValueError(
            f"{name} ends in {last}; kzoo trains on logits, and applies it itself: "
            "leave that activation out"
        )


def _activation_of(model: Any) -> str | None:
    """``softmax`` or ``sigmoid``, if the graph of layers ends in one."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return None
    last = outputs[0]._keras_history.operation
    if isinstance(last, keras.Model):
        return _activation_of(last)
    names = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
    activation = getattr(last, "activation", None)
    told = getattr(activation, "__name__", "")
    return names.get(type(last).__name__) or (told if told in names.values() else None)


def _sizes(shape: tuple[int | None, ...]) -> str:
    """A shape without its batch: ``28x28x1``, ``any x 3``."""
    sizes = [str(size) if size is not None else "any" for size in shape[1:]]
    return " x ".join(sizes) or "one number"
