"""A teacher: any Keras model, read as a pure function of a copy of its weights.

The distiller owns the copy, so that the caller's model is never frozen, moved or saved
with the student, and its BatchNorm statistics stay what they were.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kzoo.models.tapped import tapped


class Teacher:
    """The function and the copy.

    Args:
        model: any ``keras.Model`` with one output.
        taps: names of the layers whose outputs are wanted too.
        copied: makes the owner's copy of one weight.
    """

    def __init__(
        self,
        model: keras.Model,
        taps: Sequence[str],
        copied: Callable[[str, Any], Any],
    ) -> None:
        self.model = model
        self.tapped = tapped(model, taps)
        self.ends_in = output_activation(model)
        trainable = self.tapped.trainable_variables
        weights = [*trainable, *self.tapped.non_trainable_variables]
        # Named by number: names that Keras counts up would differ in a later process.
        copies = [copied(str(i), weight) for i, weight in enumerate(weights)]
        self.trainable = copies[: len(trainable)]
        self.fixed = copies[len(trainable) :]

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Logits and taps in inference mode, through which no gradient flows."""
        takes = inspect.signature(self.tapped.call).parameters
        options = {"training": False} if "training" in takes else {}
        outputs, _ = self.tapped.stateless_call(
            [weight.value for weight in self.trainable],
            [weight.value for weight in self.fixed],
            self._of_mine(inputs),
            **options,
        )
        if not isinstance(outputs, dict):
            outputs = {"logits": outputs}
        outputs = {name: ops.stop_gradient(x) for name, x in outputs.items()}
        return outputs | {"logits": logits_of(outputs["logits"], self.ends_in)}

    def follow(self, model: keras.Model, decay: Any) -> None:
        """Moves the copy a step of 1 - decay towards a model of the same weights."""
        pairs = zip(
            (*self.trainable, *self.fixed),
            (*model.trainable_variables, *model.non_trainable_variables),
            strict=True,
        )
        for mine, theirs in pairs:
            if "float" in mine.dtype:  # not the state of a random generator
                step = (1 - decay) * (ops.stop_gradient(theirs.value) - mine.value)
                mine.assign(mine.value + step)

    def _of_mine(self, inputs: Any) -> Any:
        """The inputs that this model takes, out of those that there are."""
        wanted = getattr(self.model, "input", None)
        if not isinstance(inputs, Mapping):
            return inputs
        if isinstance(wanted, Mapping):
            return {name: inputs[name] for name in wanted}
        return inputs[wanted.name] if wanted is not None else inputs


def output_activation(model: keras.Model) -> str:
    """``softmax``, ``sigmoid`` or ``""``: what the model's last layer ends in."""
    last = model.layers[-1] if model.layers else None
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    activation = getattr(last, "activation", None)
    for name in ("softmax", "sigmoid"):
        if activation is getattr(keras.activations, name):
            return name
    return ""


def logits_of(outputs: Any, ends_in: str) -> Any:
    """Logits in float32, from outputs that may be probabilities.

    log p is a softmax's input but for a constant, which no softmax sees.
    """
    outputs = ops.cast(outputs, "float32")
    tiny = 1e-30
    if ends_in == "softmax":
        return ops.log(ops.maximum(outputs, tiny))
    if ends_in == "sigmoid":
        other = ops.maximum(1 - outputs, tiny)
        return ops.log(ops.maximum(outputs, tiny)) - ops.log(other)
    return outputs


def teacher_inputs(
    inputs: Any, scale: Sequence[float], offset: Sequence[float], shape: Sequence[int]
) -> Any:
    """The student's inputs as the teacher takes them; empty = as they are."""
    if isinstance(inputs, Mapping) or not (scale or offset or shape):
        return inputs
    if shape:
        inputs = ops.reshape(inputs, (ops.shape(inputs)[0], *shape))
    if scale:
        inputs = inputs * ops.convert_to_tensor(tuple(scale), dtype=inputs.dtype)
    if offset:
        inputs = inputs + ops.convert_to_tensor(tuple(offset), dtype=inputs.dtype)
    return inputs


def check_inputs(
    teacher: keras.Model, student: keras.Model, shape: Sequence[int]
) -> None:
    """Raises a ``ValueError`` if the teacher cannot read what the student reads."""
    theirs, ours = getattr(teacher, "input", None), getattr(student, "input", None)
    if theirs is None or ours is None:
        return
    if isinstance(theirs, Mapping) or isinstance(ours, Mapping):
        names = set(ours) if isinstance(ours, Mapping) else {ours.name}
        wanted = set(theirs) if isinstance(theirs, Mapping) else {theirs.name}
        if not wanted <= names:
            raise ValueError(
                f"the teacher {teacher.name} takes {', '.join(sorted(wanted))}; the "
                f"student's inputs are {', '.join(sorted(names))}"
            )
        return
    given = tuple(shape) or tuple(ours.shape[1:])
    fits = len(given) == len(theirs.shape) - 1 and all(
        None in (a, b) or a == b for a, b in zip(given, theirs.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"the teacher {teacher.name} takes examples of {tuple(theirs.shape[1:])}, "
            f"the student's are {given}: say teacher_input_shape where the same "
            "numbers have another shape"
        )


def check_classes(
    teacher: keras.Model, student: keras.Model, picked: Sequence[int]
) -> None:
    """Raises a ``ValueError`` if their logits are not of the same classes."""

    def count(model: keras.Model) -> int | None:
        outputs = getattr(model, "outputs", None)
        classes = outputs[0].shape[-1] if outputs else None
        return 2 if classes == 1 else classes

    theirs, ours = count(teacher), count(student)
    if picked and theirs is not None and max(picked) >= theirs:
        raise ValueError(
            f"teacher_classes names logit {max(picked)} of the teacher "
            f"{teacher.name}, which has {theirs}"
        )
    theirs = len(picked) or theirs
    if None not in (theirs, ours) and theirs != ours:
        raise ValueError(
            f"the teacher {teacher.name} tells {theirs} classes, the student {ours}: "
            "give teacher_classes, the teacher's logit for each of the student's, or a "
            "method on features such as at or rkd"
        )
