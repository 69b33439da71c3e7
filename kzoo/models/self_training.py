"""A model learns from what it is sure of, beside the few labels that are known.

Pseudo-labels: its likeliest class is an example's label, where it is likely enough
(Lee, "Pseudo-label: the simple and efficient semi-supervised learning method", 2013).
FixMatch asks for that class on a strongly augmented view of the example (Sohn et al.
2020, 2001.07685). A trainer: ``.student`` is what is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.losses.pseudo import pseudo_label
from kzoo.losses.task import TaskLoss, own_losses
from kzoo.models.family import Family
from kzoo.models.student_trainer import StudentTrainer


@dataclass(frozen=True, kw_only=True)
class SelfTrainingHParams(HParams):
    """What pseudo-labels count."""

    noun = "option"

    confidence: float = hp(
        0.95, "least probability of a pseudo-label", min=0.0, max=1.0
    )
    unlabelled_weight: float = hp(1.0, "of their loss beside the labels'", min=0.0)


@keras.saving.register_keras_serializable("kzoo")
class SelfTraining(StudentTrainer):
    """``labelled, weak`` and maybe ``strong`` inputs -> logits of the labelled ones.

    Each (batch, ...). The student's classes of ``weak``, without dropout, are the
    labels of ``strong``; of ``weak`` itself where there is no other.
    """

    def __init__(self, hparams: SelfTrainingHParams, student: keras.Model) -> None:
        super().__init__(name="self_training")
        self.hparams = hparams
        self.student = student
        self.trackers = [keras.metrics.Mean(name="confident")]
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Logits; in training a dict of them, the teaching ones and those taught."""
        if not training:
            return self.student(inputs["labelled"], training=False)
        teaching = ops.stop_gradient(self.student(inputs["weak"], training=False))
        taught = inputs.get("strong", inputs["weak"])
        return {
            "logits": self.student(inputs["labelled"], training=True),
            "teaching": teaching,
            "taught": self.student(taught, training=True),
        }

    def taught(self, x: Any, y: Any, answers: Mapping[str, Any], weights: Any) -> Any:
        """The pseudo-labels' loss; the labelled examples' weights are not theirs."""
        costs, sure = pseudo_label(
            answers["teaching"], answers["taught"], self.hparams.confidence
        )
        self.trackers[0].update_state(sure)
        return self.hparams.unlabelled_weight * TaskLoss(own_losses)(costs, costs)


def build(hparams: SelfTrainingHParams, student: keras.Model) -> keras.Model:
    """``{"labelled", "weak", "strong"}`` -> the student's logits."""
    return SelfTraining(hparams, student)


VARIANTS = {"self_training": SelfTrainingHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=SelfTrainingHParams(),
    tasks=(
        "image-classification",
        "sequence-classification",
        "text-classification",
        "tabular-classification",
    ),
    paper="2001.07685",
    parts=("student",),
)
