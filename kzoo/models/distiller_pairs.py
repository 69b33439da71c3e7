"""Which layers of teacher and student a method compares, and what makes them alike."""

from collections.abc import Mapping, Sequence

import keras

from kzoo.layers.projection import Projection
from kzoo.models.distiller_options import METHODS, DistillerHParams
from kzoo.models.tapped import paired_taps, tap_shapes

# Method -> (teacher's, student's) taps.
Pairs = Mapping[str, Sequence[tuple[str, str]]]


def pairs_of(
    name: str, hparams: DistillerHParams, teacher: keras.Model, student: keras.Model
) -> list[tuple[str, str]]:
    """The (teacher's, student's) taps that a method compares."""
    rule = METHODS[name].taps
    if rule == "logits":
        return []
    if hparams.teacher_taps:
        return list(zip(hparams.teacher_taps, hparams.student_taps, strict=True))
    return paired_taps(rule, teacher, student)


def taps_read(name: str, tap: str) -> tuple[str, ...]:
    """The layers behind a pair's name: three of a block with attention."""
    if name == "relations":
        return (f"{tap}_query", f"{tap}_key", f"{tap}_value")
    return (tap,)


def all_taps(pairs: Pairs, side: int) -> list[str]:
    """Every layer that is read of the teacher (side 0) or the student (1), once."""
    found = (
        tap
        for name, compared in pairs.items()
        for pair in compared
        for tap in taps_read(name, pair[side])
    )
    return list(dict.fromkeys(found))


def num_heads(model: keras.Model, block: str) -> int:
    """Attention heads of a block."""
    heads: int = model.get_layer(f"{block}_attention").num_heads
    return heads


def projections(
    pairs: Pairs,
    teacher: keras.Model,
    student: keras.Model,
    example: Sequence[int] | None,
) -> dict[str, Projection]:
    """One for each pair of taps that differ in width or places: ``{method}_{i}``.

    Args:
        pairs: of the methods.
        teacher: as :func:`kzoo.models.tapped.tapped` makes it.
        student: the same.
        example: shape of one example of the teacher; None = as the model says.

    Raises:
        ValueError: no projection leads from one to the other.
    """
    wanted = [
        (name, i, pair)
        for name, compared in pairs.items()
        for i, pair in enumerate(compared)
        if METHODS[name].projected
    ]
    made: dict[str, Projection] = {}
    if not wanted:
        return made
    theirs, ours = tap_shapes(teacher, example), tap_shapes(student, None)
    for name, i, (teacher_tap, student_tap) in wanted:
        t, s = theirs[teacher_tap], ours[student_tap]
        if len(t) != len(s):
            raise ValueError(
                f"{name}: the teacher's {teacher_tap} is {t}, the student's "
                f"{student_tap} {s}; no projection leads from one to the other"
            )
        if t != s or name == "vid":
            layer = Projection(
                t[-1], name == "vid", name=f"{name}_projection_{i}_{student_tap}"
            )
            layer.build((None, *s), (None, *t))
            made[f"{name}_{i}"] = layer
    return made
