"""What frozen features are worth: a linear model and neighbours on top of them."""

import os
from typing import Any

import keras
import numpy as np

from kzoo import weights
from kzoo.datasets import load_dataset
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.few_labels import few_labels
from kzoo.features import features
from kzoo.hparams import identity
from kzoo.training.run import Run

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # of the linear model: 1 / L2
NEIGHBOURS = 5


def probe(
    model: keras.Model | Run | str | os.PathLike[str] | None,
    dataset: Any,
    *,
    labels_per_class: int = 0,
    seed: int = 0,
    split: str = "test",
    tap: str = "pooled",
) -> dict[str, float]:
    """Accuracy of a linear model and of nearest neighbours on a model's features.

    The linear model is scikit-learn's logistic regression on standardised features,
    its strength chosen on the validation split; neighbours are the five nearest by
    cosine (fewer where a class has fewer labels).

    Args:
        model: a model of kzoo's, a run, or a folder; None = the inputs themselves.
        dataset: of a classification; a name or a ``Dataset``.
        labels_per_class: known in training and validation; 0 = all.
        seed: of which labels are known.
        split: that is scored.
        tap: one of ``kzoo.list_features(model)``.

    Returns:
        ``{"linear": accuracy, "neighbours": accuracy}``.

    Raises:
        ValueError: a dataset without classes, or an unknown tap.

    Example:
        >>> import kzoo
        >>> kzoo.probe(None, "digits", labels_per_class=5)["linear"] > 0.7
        True
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_dataset(dataset)
    if not data.spec.classes:
        raise ValueError(f"{data.name} has no classes to probe for")
    if labels_per_class:
        data, _ = few_labels(data, labels_per_class, seed)
    if isinstance(model, Run):
        model = model.folder
    if isinstance(model, str | os.PathLike):
        model = weights.load(model)
    sides = {
        name: (features_of(model, data, name, tap), data.splits[name].labels)
        for name in ("train", "validation", split)
    }
    fewest = int(np.bincount(sides["train"][1]).min())

    def accuracy(made: Any, name: str) -> float:
        return float(made.score(*sides[name]))

    tried = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(
            *sides["train"]
        )
        for c in STRENGTHS
    ]
    linear = max(tried, key=lambda made: accuracy(made, "validation"))
    near = KNeighborsClassifier(max(1, min(NEIGHBOURS, fewest)), metric="cosine")
    near.fit(*sides["train"])
    return {
        "linear": accuracy(linear, split),
        "neighbours": accuracy(near, split),
    }


def features_of(
    model: keras.Model | None, dataset: Dataset, split: str, tap: str
) -> np.ndarray:
    """A split's features (examples, any); the preprocessed inputs of no model."""
    tapped = None if model is None else features(model, [tap])
    if model is not None:
        identity(model)
    found = []
    for batch in dataset.eval_batches(split, min(256, len(dataset.splits[split]))):
        x = batch["inputs"]
        if tapped is not None:
            x = tapped.predict_on_batch(x)[tap]
        found.append(np.asarray(x)[batch["index"] >= 0])
    joined = np.concatenate(found)
    return joined.reshape(len(joined), -1)
