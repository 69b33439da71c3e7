"""What arrays are by their type and shape: images, tokens, features, vectors, texts."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from kzoo.datasets.class_labels import Meaning
from kzoo.tasks import get_task

log = logging.getLogger(__name__)

# Inputs that may have a label each step.
STEPS = ("tokens", "features")


def understood(
    inputs: Mapping[str, Any], task: str | None = None, vocab_size: int | None = None
) -> tuple[str, dict[str, Any]]:
    """The kind of the inputs, and the inputs as that kind has them.

    Args:
        inputs: of each split: an array, or a dict of texts ``first`` and ``second``.
        task: that the user asked for.
        vocab_size: that the user gave: integers are tokens.

    Returns:
        images, features, vectors, tokens, texts or pairs; and the arrays by split.

    Raises:
        ValueError: they are none of these.

    Example:
        >>> kind, arrays = understood({"all": np.zeros((60, 28, 28), "uint8")})
        >>> kind, arrays["all"].shape
        ('images', (60, 28, 28, 1))
    """
    given = dict(inputs)
    first = next(iter(given.values()))
    types = {name: getattr(one, "dtype", dict) for name, one in given.items()}
    odd = [name for name, one in types.items() if one != next(iter(types.values()))]
    if odd:
        raise ValueError(
            f"train has inputs of {types['train']}, {odd[0]} has {types[odd[0]]}"
        )
    if isinstance(first, dict):
        return "pairs", given
    shape, kind = first.shape, first.dtype.kind.replace("u", "i")
    if kind == "b":
        given = {name: one.astype("float32") for name, one in given.items()}
        kind = "f"
    in_sequence = task in ("sequence-classification", "sequence-labeling")
    if len(shape) == 3 and first.dtype == np.uint8 and not in_sequence:
        log.info("inputs of 8 bits and shape %s are grey images", shape)
        return "images", {name: one[..., None] for name, one in given.items()}
    if len(shape) == 3 and kind == "i":
        log.info("integers of shape %s are features (examples, time, features)", shape)
        return "features", {name: one.astype("float32") for name, one in given.items()}
    if len(shape) == 4 and kind in "if":
        _tell_unscaled(given)
        return "images", given
    if (len(shape), kind) == (2, "i"):
        return _of_integers(given, task, vocab_size)
    if len(shape) == 1 and kind == "O":
        return "texts", given
    if len(shape) in (2, 3) and kind == "f":
        return ("vectors" if len(shape) == 2 else "features"), given
    alone = ", one column of numbers as (examples, 1)" if len(shape) == 1 else ""
    raise ValueError(
        f"inputs of {first.dtype} and shape {shape} are none of: images (examples, "
        "height, width, channels), float features (examples, time, features), float "
        "vectors (examples, features), int tokens (examples, time), texts (examples,)"
        + alone
    )


def _of_integers(
    inputs: dict[str, np.ndarray], task: str | None, vocab_size: int | None
) -> tuple[str, dict[str, np.ndarray]]:
    """Integers (examples, any): tokens, or vectors where they cannot be."""
    lowest = min(int(one.min(initial=0)) for one in inputs.values())
    negative = lowest < 0 and not vocab_size
    if task != "tabular-classification" and not negative:
        log.info(
            "integers (examples, time) are tokens; a table of numbers has a floating "
            "type, or task='tabular-classification'"
        )
        return "tokens", inputs
    if negative:
        log.info("integers below 0, as %s, are a table of numbers, no tokens", lowest)
    return "vectors", {name: one.astype("float64") for name, one in inputs.items()}


def _tell_unscaled(images: Mapping[str, np.ndarray]) -> None:
    """Warns of images that a model is not made for."""
    first = next(iter(images.values()))
    if first.dtype == np.uint8:
        return
    highest = max(float(one.max(initial=0)) for one in images.values())
    if highest > 16:
        log.warning(
            "images of %s with values up to %g are taken as they are; as uint8 they "
            "are scaled to [0, 1]",
            first.dtype,
            highest,
        )


def task_of(kind: str, meant: Meaning, asked: str | None) -> str:
    """The task that these inputs and labels are for.

    Raises:
        ValueError: they do not go with the one that was asked for.
    """
    able = {
        "images": "image-classification",
        "features": "sequence-classification",
        "tokens": "text-classification",
        "texts": "text-classification",
        "pairs": "text-classification",
        "vectors": "tabular-classification",
    }[kind]
    if not meant.classes:
        able = "regression"
    elif meant.per_step:
        able = "sequence-labeling"
    task = asked or able
    per_step = get_task(task).per_step
    if per_step != meant.per_step or (task == "regression") != (able == "regression"):
        labels = next(iter(meant.arrays.values()))
        raise ValueError(
            f"task {task!r} does not go with labels of shape {labels.shape} and type "
            f"{labels.dtype}, of {kind}: integers are classes, floating numbers are "
            "targets"
        )
    return task
