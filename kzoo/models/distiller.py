"""Distillation: a student learns from labels and from what a teacher says of them.

Hinton et al., "Distilling the knowledge in a neural network", 2015 (1503.02531), and
what came after it; ``distiller_options.py`` has the table. The distiller is a trainer:
compile and fit it like any model, then take its ``.student``.

    student = kzoo.build_model("cnn_tiny", channels=1)
    distiller = kzoo.build_model("distiller", teacher=teacher, student=student)
    distiller.compile("adamw", loss=keras.losses.SparseCategoricalCrossentropy(True))
    distiller.fit(images, labels)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops

from kzoo.layers.projection import at_the_fewer
from kzoo.losses import distillation as losses
from kzoo.losses.distillation.schedules import schedule_factor
from kzoo.losses.task import TaskLoss, are_classes, own_losses
from kzoo.models.distiller_options import METHODS, DistillerHParams
from kzoo.models.distiller_pairs import (
    all_taps,
    num_heads,
    pairs_of,
    projections,
    taps_read,
)
from kzoo.models.family import Family
from kzoo.models.student_trainer import StudentTrainer, ones
from kzoo.models.tapped import tapped
from kzoo.models.teacher import Teacher, check_classes, check_inputs, teacher_inputs


@keras.saving.register_keras_serializable("kzoo")
class Distiller(StudentTrainer):
    """Trains ``.student``; ``.teacher`` is the caller's own, and left as it is.

    A training step runs the student once and the teacher once, logits and taps
    together. ``predict`` and ``evaluate`` run the student alone, and give its own loss.
    Labels below 0 are unknown: such examples learn from the teacher only.

    Attributes:
        gathered: of a replica's (batch, ...), those of all replicas, and the row that
            its own begin at.
    """

    gathered: Callable[[Any], tuple[Any, Any]]

    def __init__(
        self,
        hparams: DistillerHParams,
        teacher: keras.Model | Sequence[keras.Model],
        student: keras.Model,
    ) -> None:
        super().__init__(name="distiller")
        teachers = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
        check(hparams, teachers, student)
        self.hparams = hparams
        self.student = student
        self.gathered = lambda x: (x, 0)
        self.pairs = {
            name: pairs_of(name, hparams, teachers[0], student)
            for name in hparams.methods
        }
        theirs, ours = (all_taps(self.pairs, side) for side in (0, 1))
        # A plain object, so that Keras does not track teachers, nor layers twice.
        self.inner = _Untracked(
            tapped(student, ours),
            [
                Teacher(one, theirs, partial(self._copied, f"teacher_{i}"))
                for i, one in enumerate(teachers)
            ],
        )
        self.projections = projections(
            self.pairs,
            self.inner.teachers[0].tapped,
            self.inner.student,
            hparams.teacher_input_shape or None,
        )
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            name="step",
        )
        self.label_weight = hparams.weight_of_labels
        self.trackers = [
            keras.metrics.Mean(name=f"{name}_loss") for name in hparams.methods
        ]
        self.built = True

    @property
    def teacher(self) -> Any:
        """The teacher, or the list of teachers, that the distiller was made with."""
        models = [teacher.model for teacher in self.inner.teachers]
        return models[0] if len(models) == 1 else models

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The student's logits; in training a dict of them and of its taps."""
        if not training:
            return self.student(inputs, training=False)
        outputs = self.inner.student(inputs, training=True)
        return outputs if isinstance(outputs, dict) else {"logits": outputs}

    def taught(self, x: Any, y: Any, answers: Mapping[str, Any], weights: Any) -> Any:
        """The methods' losses of a training step."""
        hparams, step = self.hparams, self.step.value
        if hparams.teacher_ema:
            seen = ops.cast(step, "float32")  # a young average is a short one
            decay = ops.minimum(hparams.teacher_ema, (1 + seen) / (10 + seen))
            self.inner.teachers[0].follow(self.inner.student, decay)
        inputs = teacher_inputs(
            x,
            hparams.teacher_input_scale,
            hparams.teacher_input_offset,
            hparams.teacher_input_shape,
        )
        said = [teacher(inputs) for teacher in self.inner.teachers]
        share, heat = self._scheduled(step)
        total: Any = 0.0
        for name, weight, tracker in zip(
            hparams.methods, hparams.method_weights, self.trackers, strict=True
        ):
            if METHODS[name].taps == "logits":
                value = self._on_logits(name, said, answers, y, weights, heat)
            else:
                value = self._on_taps(name, said[0], answers, weights)
            # A relation within the batch counts for each of its examples.
            values = weight * share * value * ones(answers["logits"])
            counted = values if weights is None else values * weights
            tracker.update_state(ops.mean(counted))
            total = total + TaskLoss(own_losses)(values, values, weights)
        self.step.assign(step + 1)
        return total

    def _scheduled(self, step: Any) -> tuple[Any, Any]:
        """The factors of the weights and of the temperature at a step."""
        hparams = self.hparams
        kind = hparams.weight_schedule
        if kind == "auto":
            kind = "linear" if "dkd" in hparams.methods else "constant"
        rest = (step, hparams.total_steps, hparams.warmup_rate)
        return (
            schedule_factor(kind, *rest),
            schedule_factor(hparams.temperature_schedule, *rest),
        )

    def _on_logits(
        self, name: str, said: Any, outputs: Any, y: Any, weights: Any, heat: Any
    ) -> Any:
        hparams = self.hparams
        full: Any = hparams.temperature or METHODS[name].temperature or 1.0
        temperature = 1.0 + (full - 1.0) * heat
        x, mask = outputs["logits"], outputs.get("logits.mask")
        alone = [one["logits"] for one in said]
        if hparams.teacher_classes:
            alone = [ops.take(z, hparams.teacher_classes, axis=-1) for z in alone]
        z = alone[0]
        if len(alone) > 1:
            z = losses.ensemble_logits(alone, hparams.ensemble, temperature)
        if name == "dkd":
            terms = (hparams.dkd_alpha, hparams.dkd_beta)
            labels = y if are_classes(y) else None
            return losses.dkd(z, x, labels, temperature, *terms)
        if name == "dist":
            terms = (hparams.dist_beta, hparams.dist_gamma)
            z, x, weights = self._of_all(z, x, weights)
            return losses.dist(z, x, temperature, *terms, weights=weights)
        if name == "hard":
            return losses.hard(z, x, mask)
        if name == "kd_standardized":
            z, x = losses.standardized(z), losses.standardized(x)
        return losses.kd(z, x, temperature, mask)

    def _on_taps(self, name: str, said: Any, outputs: Any, weights: Any) -> Any:
        """The mean over the method's pairs of taps."""
        values = []
        for i, (theirs, ours) in enumerate(self.pairs[name]):
            mask = said.get(f"{theirs}.mask"), outputs.get(f"{ours}.mask")
            if name == "relations":
                values.append(self._on_attention(theirs, ours, said, outputs))
                continue
            t, s = said[theirs], outputs[ours]
            if METHODS[name].projected:
                values.append(self._on_the_same(name, i, t, s, mask[0]))
            elif name == "at":
                places = at_the_fewer(t, s)
                real = mask[0] if places[0] is t else mask[1]
                values.append(losses.at(*places, self.hparams.attention_power, real))
            else:
                t, s = _without_padding(t, mask[0]), _without_padding(s, mask[1])
                values.append(self._on_batch(name, t, s, weights))
        return sum(values) / len(values)

    def _on_attention(self, theirs: str, ours: str, said: Any, outputs: Any) -> Any:
        mask = outputs.get(f"{ours}_query.mask")
        t = tuple(said[tap] for tap in taps_read("relations", theirs))
        s = tuple(outputs[tap] for tap in taps_read("relations", ours))
        return losses.relations(t, s, num_heads(self.student, ours), mask)

    def _on_the_same(self, name: str, i: int, t: Any, s: Any, mask: Any) -> Any:
        projection = self.projections.get(f"{name}_{i}")
        if projection is not None:
            s = projection(s, t)
            if name == "vid":
                return losses.vid(t, s, projection.variance, mask)
        return getattr(losses, name)(t, s, mask)

    def _on_batch(self, name: str, t: Any, s: Any, weights: Any) -> Any:
        t, s, weights = self._of_all(t, s, weights)
        if name == "rkd":
            terms = (self.hparams.rkd_distance, self.hparams.rkd_angle)
            return losses.rkd(t, s, *terms, weights=weights)
        return getattr(losses, name)(t, s, weights=weights)

    def _of_all(self, *parts: Any) -> list[Any]:
        """The rows of all replicas, for what compares the examples of a batch."""
        return [None if x is None else self.gathered(x)[0] for x in parts]

    def _copied(self, teacher: str, name: str, weight: Any) -> Any:
        """A weight of the distiller's own with this value; it takes no gradient."""
        # A copy is one array, where the weight itself is one of each replica.
        value = ops.convert_to_numpy(ops.copy(weight.value))
        return self.add_weight(
            shape=value.shape,
            initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype=dtype),
            dtype=weight.dtype,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name=f"{teacher}_{name}",
        )


@dataclass(frozen=True)
class _Untracked:
    """The student with its taps, and the teachers."""

    student: keras.Model
    teachers: list[Teacher]


def check(
    hparams: DistillerHParams, teachers: Sequence[keras.Model], student: keras.Model
) -> None:
    """Raises a ``ValueError`` if these cannot teach and learn so."""
    on_taps = [name for name in hparams.methods if METHODS[name].taps != "logits"]
    if len(teachers) != 1 and on_taps:
        raise ValueError(
            f"{on_taps[0]} compares the features of one teacher, got {len(teachers)}"
        )
    if hparams.teacher_ema and (len(teachers) != 1 or teachers[0] is not student):
        raise ValueError(
            "teacher_ema is the average of the student: pass the student itself as the "
            "teacher"
        )
    if not teachers:
        raise ValueError("there is no teacher")
    if "sequence" in hparams.methods:
        raise ValueError(
            "method 'sequence' teaches by the data: kzoo.distill has the teacher write "
            "them, and the student trains as it would alone"
        )
    if "mutual" in hparams.methods:
        raise ValueError(
            "method 'mutual' has no teacher: kzoo.distill trains the peers together"
        )
    for teacher in teachers:
        check_inputs(teacher, student, hparams.teacher_input_shape)
        if len(on_taps) < len(hparams.methods):
            check_classes(teacher, student, hparams.teacher_classes)
    for name in on_taps:
        for pair in pairs_of(name, hparams, teachers[0], student):
            if name == "relations":
                heads = num_heads(teachers[0], pair[0]), num_heads(student, pair[1])
                if heads[0] != heads[1]:
                    raise ValueError(
                        f"relations needs as many heads: the teacher has {heads[0]}, "
                        f"the student {heads[1]}"
                    )


def _without_padding(x: Any, mask: Any) -> Any:
    if mask is None:
        return x
    return ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


def build(
    hparams: DistillerHParams, teacher: keras.Model, student: keras.Model
) -> keras.Model:
    """What the student takes -> the student's logits."""
    return Distiller(hparams, teacher, student)


VARIANTS = {"distiller": DistillerHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=DistillerHParams(),
    tasks=(
        "image-classification",
        "sequence-classification",
        "text-classification",
        "tabular-classification",
        "sequence-labeling",
        "regression",
    ),
    paper="1503.02531",
    parts=("teacher", "student"),
)
