"""Mutual learning: networks that learn together, each of labels and of the others.

Zhang et al., "Deep mutual learning", 2018 (1706.00384): no one teaches, and the loss of
network k of K is

    CE(labels, p_k) + 1/(K - 1) sum over the others l of KL(p_l || p_k)

where p_l takes no gradient. All take the same step, on the same batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kzoo.losses import distillation as losses
from kzoo.losses.task import TaskLoss, own_losses
from kzoo.models.distiller_options import METHODS, DistillerHParams
from kzoo.models.student_trainer import StudentTrainer
from kzoo.models.teacher import check_classes, check_inputs


class Mutual(StudentTrainer):
    """Trains all of ``.networks``; the first one is ``.student``, which is kept.

    ``predict`` and ``evaluate`` run the student alone. Labels below 0 are unknown: such
    examples learn from the other networks only.

    Args:
        hparams: ``temperature``, ``weights`` and ``label_weight`` count.
        networks: two or more that take the same inputs and tell the same classes, one
            answer an example.

    Raises:
        ValueError: fewer than two, or they do not fit together.
    """

    def __init__(
        self, hparams: DistillerHParams, networks: Sequence[keras.Model]
    ) -> None:
        super().__init__(name="mutual")
        if len(networks) < 2:
            raise ValueError("mutual: a network has no other to learn from")
        student, *others = networks
        if len(student.output_shape) != 2:
            raise ValueError("mutual compares one answer an example, not one a step")
        for other in others:
            check_inputs(other, student, ())
            check_classes(other, student, ())
        self.hparams = hparams
        self.networks = list(networks)
        self.label_weight = hparams.weight_of_labels
        self.trackers = [keras.metrics.Mean(name="mutual_loss")]
        self.built = True

    @property
    def student(self) -> keras.Model:
        """The network that is kept."""
        return self.networks[0]

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The student's logits; in training a dict of every network's."""
        if not training:
            return self.student(inputs, training=False)
        names = ["logits"] + [f"logits_{k}" for k in range(1, len(self.networks))]
        return {
            name: network(inputs, training=True)
            for name, network in zip(names, self.networks, strict=True)
        }

    def asked(
        self, labels: Any, answers: Mapping[str, Any], weights: Any
    ) -> tuple[Any, Any, Any]:
        """One batch of all networks' answers, whose mean is that of their losses."""
        count = len(answers)
        logits = [ops.cast(z, "float32") for z in answers.values()]
        return (
            ops.concatenate([labels] * count),
            ops.concatenate(logits),
            ops.concatenate([weights * count] * count),
        )

    def taught(self, x: Any, y: Any, answers: Mapping[str, Any], weights: Any) -> Any:
        """What the networks miss of each other."""
        logits = [ops.cast(z, "float32") for z in answers.values()]
        temperature = self.hparams.temperature or METHODS["mutual"].temperature or 1.0
        values = self.hparams.method_weights[0] * from_the_others(logits, temperature)
        counted = values if weights is None else values * weights
        self.trackers[0].update_state(ops.mean(counted))
        return TaskLoss(own_losses)(values, values, weights)


def from_the_others(logits: Sequence[Any], temperature: float = 1.0) -> Any:
    """What each network misses of the others, summed over the networks.

    Args:
        logits: of two or more networks, each (batch, classes).
        temperature: of the softmaxes; its square is a factor.

    Returns:
        (batch,).

    Example:
        >>> z = [keras.ops.array([[2.0, 0.0]]), keras.ops.array([[0.0, 2.0]])]
        >>> [round(float(value), 4) for value in from_the_others(z)]
        [3.0464]
    """
    total: Any = 0.0
    for k, own in enumerate(logits):
        others = [z for i, z in enumerate(logits) if i != k]
        said = [losses.kd(ops.stop_gradient(z), own, temperature) for z in others]
        total = total + sum(said) / len(said)
    return total
