"""What batches with labels go through: augmentation, mixing, preprocessing, weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kzoo.datasets.augmentation import augment
from kzoo.datasets.batches import Batch
from kzoo.datasets.examples import Inputs
from kzoo.datasets.mixing import mixed, soft_labels
from kzoo.tasks import get_task

if TYPE_CHECKING:
    from kzoo.datasets.dataset import Dataset


def supervised(
    dataset: "Dataset", raw: Batch, rng: np.random.Generator, training: bool
) -> Batch:
    """The transform of a dataset with labels: augmented, mixed, preprocessed."""
    inputs, weights = raw["inputs"], raw["weights"]
    labels = dataset.preprocessing.labels(raw["labels"])
    if training:
        inputs = augment(dataset.augmentation, inputs, rng)
        if dataset.mixup or dataset.cutmix:
            soft = soft_labels(labels, dataset.spec.hparams["num_classes"])
            inputs, labels = mixed(inputs, soft, rng, dataset.mixup, dataset.cutmix)
    inputs = dataset.preprocessing.inputs(inputs)
    if get_task(dataset.spec.task).per_step:
        labels, weights = stepwise(labels, weights, num_steps(inputs))
    if training and dataset.class_weights:
        weights = weights * weights_of(labels, dataset.class_weights)
    return {**raw, "inputs": inputs, "labels": labels, "weights": weights}


def weights_of(labels: np.ndarray, class_weights: Sequence[float]) -> np.ndarray:
    """What labels count: classes, shares of classes (..., classes), or odds of one."""
    of_class = np.array(class_weights, "float32")
    if labels.dtype.kind in "iu":
        return of_class[labels]
    if labels.ndim == 1:
        return np.interp(labels, (0, 1), of_class).astype("float32")
    return labels @ of_class


def num_steps(inputs: Inputs) -> int:
    """How many steps a batch has that its labels belong to."""
    if isinstance(inputs, dict):
        answered = "decoder_tokens" if "decoder_tokens" in inputs else "tokens"
        inputs = inputs[answered]
    return int(inputs.shape[1])


def stepwise(
    labels: np.ndarray, weights: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of so many steps, and their weights: 0 where a label is -1.

    Args:
        labels: (batch, any), -1 where nothing counts.
        weights: (batch,) of the examples.
        steps: of the inputs.

    Returns:
        labels (batch, steps), 0 where nothing counts, and weights of that shape.

    Example:
        >>> labels, weights = stepwise(np.array([[2, 1, -1]]), np.ones(1, "float32"), 4)
        >>> labels.tolist(), weights.tolist()
        ([[2, 1, 0, 0]], [[1.0, 1.0, 0.0, 0.0]])
    """
    missing = max(0, steps - labels.shape[1])
    labels = np.pad(labels[:, :steps], ((0, 0), (0, missing)), constant_values=-1)
    known = labels >= 0
    return np.where(known, labels, 0), known * weights[:, None].astype("float32")
