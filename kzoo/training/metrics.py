"""Scores of a split from its outputs: pure functions in numpy, float64."""

from typing import Any

import numpy as np

from kzoo.tasks import Task


def scores(task: Task, labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """The task's loss and metrics.

    Args:
        task: says which.
        labels: classes (examples,), or raw targets of a regression.
        outputs: logits (examples, classes), or predictions (examples, 1) in the units
            of the targets. For a task with an answer a step, one more axis each.

    Returns:
        ``loss`` and each of ``task.metrics``.
    """
    outputs = outputs.astype("float64")
    if task.loss == "squared_error":
        return regression_scores(labels.astype("float64"), outputs[..., 0])
    return {
        "loss": float(cross_entropy(labels, outputs).mean()),
        "accuracy": float((predicted_classes(outputs) == labels).mean()),
    }


def regression_scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """R², mean squared and mean absolute error; the loss is the squared error."""
    error = float(np.square(targets - predicted).mean())
    spread = float(targets.var())
    return {
        "loss": error,
        "r2": 1.0 - error / spread if spread > 0 else float("nan"),
        "mse": error,
        "mae": float(np.abs(targets - predicted).mean()),
    }


def cross_entropy(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """-log p(label) of each example, in nats."""
    if logits.shape[-1] == 1:
        x = logits[..., 0]
        return np.logaddexp(0.0, x) - labels * x
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    picked = np.take_along_axis(logits, labels[..., None].astype("int64"), axis=-1)
    return log_sum - picked[..., 0]


def predicted_classes(logits: np.ndarray) -> np.ndarray:
    """The likeliest class of each example."""
    if logits.shape[-1] == 1:
        return (logits[..., 0] > 0).astype("int64")
    return logits.argmax(axis=-1)


def class_scores(
    labels: np.ndarray, logits: np.ndarray, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of examples of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels,
        predicted_classes(logits),
        labels=np.arange(len(classes)),
        zero_division=0.0,
    )
    return [
        {
            "class": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "examples": int(count),
        }
        for name, precision, recall, f1, count in zip(classes, *columns, strict=True)
    ]
