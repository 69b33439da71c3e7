"""A model with its taps as outputs, and which taps of two models go together."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kzoo.features import list_features
from kzoo.hparams import Identity, nearest

# Sizes that a model leaves open are these where taps are measured.
OPEN_SIZE = 64


def tapped(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """A model on the same input that gives ``logits`` and taps by name, in a dict.

    Sequences come with their masks, as ``{tap}.mask``. It shares the layers of
    ``model``. A model without a graph gives its output alone.

    Raises:
        ValueError: an unknown layer, with the nearest; or a model without a graph that
            is asked for taps.
    """
    if getattr(model, "inputs", None) is None:
        if names:
            raise ValueError(
                f"{model.name} has no graph of layers to tap for {', '.join(names)}: "
                "only its logits can teach"
            )
        if not model.built:
            raise ValueError(f"{model.name} has no weights yet: call it on data first")
        return model
    if len(model.outputs) != 1:
        raise ValueError(
            f"{model.name} has {len(model.outputs)} outputs; distillation takes a "
            "model with one, its logits"
        )
    outputs = {"logits": model.outputs[0]}
    for name in names:
        layer = {layer.name: layer for layer in model.layers}.get(name)
        if layer is None:
            known = [layer.name for layer in model.layers]
            if isinstance(getattr(model, "kzoo", None), Identity):
                known = list_features(model)
            raise ValueError(f"{model.name} has no tap {name!r}{nearest(name, known)}")
        outputs[name] = layer.output
    for name, output in list(outputs.items()):
        mask = mask_of(model, name) if len(output.shape) == 3 else None
        if mask is not None:
            outputs[f"{name}.mask"] = mask
    return keras.Model(model.input, outputs, name=f"{model.name}_taps")


def mask_of(model: keras.Model, tap: str) -> Any:
    """The symbolic mask (batch, time) of a tapped sequence, or None."""
    layers = {layer.name: layer for layer in model.layers}
    stage = re.match(r"stage_(\d+)(_block)?", tap)
    if stage:  # halved at the end of each stage
        number = int(stage[1]) - (1 if stage[2] else 0)
        if f"stage_{number}_mask" in layers:
            return layers[f"stage_{number}_mask"].output
    if "mask" in layers:
        return layers["mask"].output
    inputs = model.input
    return inputs.get("padding_mask") if isinstance(inputs, Mapping) else None


def tap_shapes(
    model: keras.Model, example: Sequence[int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes of a tapped model's outputs without the batch.

    Sizes that the model leaves open are those of ``example``, or ``OPEN_SIZE``.
    """

    def fixed(tensor: Any) -> Any:
        given = tensor.shape[1:] if example is None else example
        sizes = [OPEN_SIZE if size is None else size for size in given]
        return keras.KerasTensor((2, *sizes), dtype=tensor.dtype)

    inputs = keras.tree.map_structure(fixed, model.input)
    outputs = model.compute_output_spec(inputs)
    return {name: tuple(x.shape[1:]) for name, x in outputs.items()}


def paired_taps(
    rule: str, teacher: keras.Model, student: keras.Model
) -> list[tuple[str, str]]:
    """Which of the teacher's taps teaches which of the student's.

    Args:
        rule: each of the ``stages`` of the student, with the teacher's at the same
            relative depth; the ``middle`` or the ``last`` of both; the ``pooled``
            vector; or the last block with ``attention``.
        teacher: a model of kzoo's.
        student: a model of kzoo's.

    Raises:
        ValueError: one of them has no such tap.
    """
    if rule == "pooled":
        for model in (teacher, student):
            _check_ours(model)
        return [("pooled", "pooled")]
    theirs, ours = (_by_depth(model, rule) for model in (teacher, student))
    if rule in ("last", "attention"):
        return [(theirs[-1], ours[-1])]
    if rule == "middle":
        return [(theirs[(len(theirs) - 1) // 2], ours[(len(ours) - 1) // 2])]
    share = len(theirs) / len(ours)
    picked = [max(1, round((i + 1) * share)) - 1 for i in range(len(ours))]
    return [(theirs[j], tap) for j, tap in zip(picked, ours, strict=True)]


def _check_ours(model: keras.Model) -> None:
    """Raises a ``ValueError`` if the model's taps have no names of kzoo's."""
    if not isinstance(getattr(model, "kzoo", None), Identity):
        raise ValueError(
            f"{model.name} is no model of kzoo's: name the layers to compare by "
            "teacher_taps and student_taps"
        )


def _by_depth(model: keras.Model, rule: str) -> list[str]:
    _check_ours(model)
    names = list_features(model)
    if rule == "attention":
        found = [name.removesuffix("_query") for name in names if "_query" in name]
    else:
        stages = [name for name in names if re.fullmatch(r"stage_\d+", name)]
        found = stages or [name for name in names if re.fullmatch(r"block_\d+", name)]
    if not found:
        what = "attention" if rule == "attention" else "stages or blocks"
        raise ValueError(f"{model.name} has no {what} to compare")
    return found
