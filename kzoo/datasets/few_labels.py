"""A dataset of which few labels are known: what is there to learn from the rest?"""

import dataclasses
from typing import Any

import numpy as np

from kzoo.datasets import Dataset
from kzoo.datasets.batches import philox
from kzoo.datasets.examples import Split, fingerprint

UNKNOWN = -1


def few_labels(
    dataset: Dataset, labels_per_class: int, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """The dataset with few labels in training and validation alike.

    Args:
        dataset: of a classification, one class an example.
        labels_per_class: that stay known in each of the two splits; a class that has
            fewer examples keeps them all. The validation split loses its other
            examples.
        seed: of which.

    Returns:
        labelled: training has the known examples alone.
        partly: training has all; unknown labels are -1, which a distiller takes as
            no label. For distillation only: another loss would take them for a class.

    Raises:
        ValueError: a dataset without classes.

    Example:
        >>> import kzoo
        >>> labelled, partly = few_labels(kzoo.load_dataset("digits"), 20)
        >>> len(labelled.splits["train"]), len(partly.splits["train"])
        (200, 1257)
    """
    if not dataset.spec.classes:
        raise ValueError(f"{dataset.name} has no classes to keep labels of")
    splits: dict[str, Any] = dict(dataset.splits)
    train, validation = splits["train"], splits["validation"]
    rows = _some(train.labels, labels_per_class, seed, "train")
    hidden = np.full_like(train.labels, UNKNOWN)
    hidden[rows] = train.labels[rows]
    kept = _some(validation.labels, labels_per_class, seed, "validation")
    splits["validation"] = Split(validation.rows(kept), validation.labels[kept])
    return (
        _with(dataset, splits | {"train": Split(train.rows(rows), hidden[rows])}),
        _with(dataset, splits | {"train": dataclasses.replace(train, labels=hidden)}),
    )


def _some(labels: np.ndarray, count: int, seed: int, split: str) -> np.ndarray:
    """Rows of up to so many examples of each class, sorted."""
    order = philox(seed, f"labels/{split}", 0).permutation(len(labels))
    picked = [order[labels[order] == one][:count] for one in np.unique(labels)]
    return np.sort(np.concatenate(picked))


def _with(dataset: Dataset, splits: dict[str, Any]) -> Dataset:
    spec = dataclasses.replace(dataset.spec, fingerprint=fingerprint(splits))
    return dataclasses.replace(dataset, splits=splits, spec=spec)
