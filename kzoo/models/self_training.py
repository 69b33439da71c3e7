"""A model learns from what it is sure of, beside the few labels that are known.

Pseudo-labels: its likeliest class is an example's label, where it is likely enough
(Lee, "Pseudo-label: the simple and efficient semi-supervised learning method", 2013).
FixMatch asks for that class on a strongly augmented view of the example (Sohn et al.
2020, 2001.07685). A trainer: ``.student`` is what is kept.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.losses.pseudo import pseudo_label
from kzoo.losses.task import TaskLoss, own_losses
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class SelfTrainingHParams(HParams):
    """What pseudo-labels count."""

    noun = "option"

    confidence: float = hp(
        0.95, "least probability of a pseudo-label", min=0.0, max=1.0
    )
    unlabelled_weight: float = hp(1.0, "of their loss beside the labels'", min=0.0)


@keras.saving.register_keras_serializable("kzoo")
class SelfTraining(keras.Model):
    """``labelled, weak`` and maybe ``strong`` inputs -> logits of the labelled ones.

    Each (batch, ...). The student's classes of ``weak``, without dropout, are the
    labels of ``strong``; of ``weak`` itself where there is no other.
    """

    def __init__(self, hparams: SelfTrainingHParams, student: keras.Model) -> None:
        super().__init__(name="self_training")
        self.hparams = hparams
        self.student = student
        self.loss_of_unlabelled = TaskLoss(own_losses)
        self.sure = keras.metrics.Mean(name="confident")
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

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The labels' loss, the regularisers' and, in training, the pseudo-labels'."""
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        total = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        costs, sure = pseudo_label(
            y_pred["teaching"], y_pred["taught"], self.hparams.confidence
        )
        self.sure.update_state(sure)
        more = self.loss_of_unlabelled(ops.zeros_like(costs), costs)
        return total + self.hparams.unlabelled_weight * more

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The metrics of the labelled examples, and the share of sure ones."""
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, logits, sample_weight)


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
