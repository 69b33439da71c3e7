"""What the trainers of a student share: labels, and something else to learn from."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kzoo.losses.task import known_labels


class StudentTrainer(keras.Model):
    """Trains ``.student``, which alone predicts and is evaluated.

    In training, ``call`` gives a dict with the student's ``"logits"`` in it; otherwise
    the student's logits. Labels below 0 are unknown: such examples count neither in the
    labels' loss nor in the metrics.

    Attributes:
        student: the network that is kept.
        label_weight: what the labels' loss counts, beside the rest.
        trackers: means of the rest's parts, which training reports and evaluation,
            where there is none, does not.
    """

    student: keras.Model
    label_weight: float = 1.0
    trackers: list[keras.metrics.Mean]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The labels' loss, the regularisers' and, in training, the rest."""
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, "float32")
        labels, weights = known_labels(y, sample_weight)
        if weights is None:
            weights = ones(y_pred["logits"])
        # The labels' weight goes through the examples', so that the regularisers, which
        # Keras adds here, keep theirs. First of all, since a teacher may be made of the
        # student's own layers, whose losses another call would replace.
        asked = self.asked(labels, y_pred, self.label_weight * weights)
        total = super().compute_loss(x, *asked, training)
        return total + self.taught(x, y, y_pred, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The student's metrics, on the examples whose labels are known."""
        labels, weights = known_labels(y, sample_weight)
        if isinstance(y_pred, dict):
            return super().compute_metrics(x, labels, y_pred["logits"], weights)
        found = super().compute_metrics(x, labels, y_pred, weights)
        apart = {tracker.name for tracker in self.trackers}
        return {name: value for name, value in found.items() if name not in apart}

    def asked(
        self, labels: Any, answers: Mapping[str, Any], weights: Any
    ) -> tuple[Any, Any, Any]:
        """Labels, logits and weights of the labels' loss."""
        return labels, answers["logits"], weights

    def taught(self, x: Any, y: Any, answers: Mapping[str, Any], weights: Any) -> Any:
        """The loss of what else the student learns from, a number.

        Args:
            x: the batch's inputs.
            y: its labels, where they are known.
            answers: what ``call`` gave.
            weights: (batch,), of the examples; None where all count alike.
        """
        raise NotImplementedError


def ones(logits: Any) -> Any:
    """1 for each example, (batch,)."""
    return ops.ones((ops.shape(logits)[0],), "float32")
