"""Batches without labels: two views of an example, or a spoilt one and the clean one.

Each is a transform of a :class:`Dataset`, drawn like augmentation from the seed and
the step; labels are 0 throughout.
"""

from dataclasses import dataclass

import numpy as np

from kzoo.datasets.augmentation import augment
from kzoo.datasets.batches import Batch
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import Inputs


def unlabelled(raw: Batch, inputs: Inputs) -> Batch:
    """The batch with these inputs and no labels."""
    labels = np.zeros(len(raw["weights"]), "float32")
    return {**raw, "inputs": inputs, "labels": labels}


def two_views(
    dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
) -> Batch:
    """Two augmented versions of each example.

    Inputs are a dict: ``views`` (batch, 2, ...), and ``real`` (batch,), which is 1, and
    0 in the rows that fill a batch up.
    """
    views = [
        dataset.preprocessing.inputs(augment(dataset.augmentation, raw["inputs"], rng))
        for _ in range(2)
    ]
    inputs = {"views": np.stack(views, axis=1), "real": raw["weights"]}
    return unlabelled(raw, inputs)


@dataclass(frozen=True)
class Corrupted:
    """Clean examples as ``targets``, and spoilt ones as ``inputs``.

    Attributes:
        noise: standard deviation of what is added, after the preprocessing.
        dropped: share of the numbers that become 0, as in Vincent et al. 2008.
    """

    noise: float = 0.0
    dropped: float = 0.0

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform of a dataset: inputs are a dict of arrays (batch, ...)."""
        inputs = raw["inputs"]
        if training:
            inputs = augment(dataset.augmentation, inputs, rng)
        clean = dataset.preprocessing.inputs(inputs)
        added = rng.standard_normal(clean.shape, "float32") * np.float32(self.noise)
        left = rng.random(clean.shape, "float32") >= self.dropped
        spoilt = (clean + added) * left
        return unlabelled(raw, {"inputs": spoilt, "targets": clean})
