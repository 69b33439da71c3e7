"""The losses of the tasks: cross-entropy, squared error, and a model's own."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from keras.src.backend.common.masking import get_keras_mask


def cross_entropy(labels: Any, logits: Any, label_smoothing: float = 0.0) -> Any:
    """Cross-entropy of logits, in nats.

    Args:
        labels: classes (...,), or probabilities (..., classes) as mixing makes them.
        logits: (..., classes); one logit is the log-odds of class 1.
        label_smoothing: share of the probability that goes to all classes alike
            (Szegedy et al. 2016, sec. 7).

    Returns:
        (...,) in float32.

    Example:
        >>> float(cross_entropy([0], [[0.0, 0.0]]))          # ln 2
        0.6931471824645996
    """
    logits = ops.cast(logits, "float32")
    target = soft_targets(labels, logits, label_smoothing)
    if logits.shape[-1] == 1:
        # log(1 + e^x) - t x, which neither overflows nor loses small values.
        return ops.squeeze(ops.softplus(logits) - target * logits, axis=-1)
    return -ops.sum(target * ops.log_softmax(logits, axis=-1), axis=-1)


def focal(
    labels: Any, logits: Any, gamma: float = 2.0, label_smoothing: float = 0.0
) -> Any:
    """Cross-entropy that counts what the model is sure of less.

    Lin et al., "Focal loss for dense object detection", 2017 (1708.02002): with targets
    t and probabilities p, the sum over the classes of -t (1 - p)^gamma log p. One logit
    stands for two classes. The paper's alpha is left to class weights.

    Args:
        labels: classes (...,), or probabilities (..., classes) as mixing makes them.
        logits: (..., classes); one logit is the log-odds of class 1.
        gamma: 0 is cross-entropy.
        label_smoothing: as in :func:`cross_entropy`.

    Returns:
        (...,) in float32.

    Example:
        >>> round(float(focal([0], [[0.0, 0.0]])), 6)          # ln 2 / 4
        0.173287
    """
    logits = ops.cast(logits, "float32")
    target = soft_targets(labels, logits, label_smoothing)
    if logits.shape[-1] == 1:
        log_p = ops.concatenate(
            [-ops.softplus(logits), -ops.softplus(-logits)], axis=-1
        )
        target = ops.concatenate([1 - target, target], axis=-1)
    else:
        log_p = ops.log_softmax(logits, axis=-1)
    # Not less than 1e-7, where the power's gradient would be infinite for gamma < 1.
    others = ops.maximum(-ops.expm1(log_p), 1e-7)
    return -ops.sum(target * ops.power(others, gamma) * log_p, axis=-1)


def soft_targets(labels: Any, logits: Any, label_smoothing: float) -> Any:
    """Probabilities shaped like the logits: those of class 1 for one logit."""
    if logits.shape[-1] == 1:
        target = ops.reshape(ops.cast(labels, "float32"), ops.shape(logits))
        return target * (1 - label_smoothing) + label_smoothing / 2
    target = ops.convert_to_tensor(labels)
    if len(target.shape) < len(logits.shape):
        target = ops.one_hot(ops.cast(target, "int32"), logits.shape[-1])
    target = ops.cast(target, "float32")
    return target * (1 - label_smoothing) + label_smoothing / logits.shape[-1]


def squared_error(targets: Any, outputs: Any) -> Any:
    """(target - output)^2: targets (...,), outputs (..., 1) -> (...,) in float32."""
    outputs = ops.squeeze(ops.cast(outputs, "float32"), axis=-1)
    # Targets (..., 1) against outputs (...,) would give a square of differences.
    targets = ops.reshape(ops.cast(targets, "float32"), ops.shape(outputs))
    return ops.square(targets - outputs)


def own_losses(labels: Any, losses: Any) -> Any:
    """What a model that says its own losses said: (batch,) in float32."""
    return ops.cast(losses, "float32")


def known_labels(y: Any, weights: Any) -> tuple[Any, Any]:
    """Labels and weights, in which an example of unknown class, below 0, counts not."""
    if not are_classes(y):
        return y, weights
    known = ops.cast(y >= 0, "float32")
    known = known if weights is None else known * ops.cast(weights, "float32")
    return ops.maximum(y, 0), known


def are_classes(y: Any) -> bool:
    """Whether labels are one integer an example."""
    return len(y.shape) == 1 and "int" in keras.backend.standardize_dtype(y.dtype)


class TaskLoss(keras.losses.Loss):
    """One of these functions as Keras wants it: weighted, reduced, distributed.

    Keras's own wrapper would give labels (batch,) a last axis to match the outputs.
    The weights alone say what counts: a mask that the outputs carry is dropped, or
    padding would be taken out of the mean twice.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(name=function.__name__)
        self.function = function
        self.options = options

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        if get_keras_mask(y_pred) is not None:
            y_pred = ops.copy(y_pred)
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred, **self.options)
