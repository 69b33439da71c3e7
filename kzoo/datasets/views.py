"""Batches without labels: two views of an example, or a spoilt one and the clean one.

Spoilt is noise, numbers that are dropped, or patches that are hidden.

Each is a transform of a :class:`Dataset`, drawn like augmentation from the seed and
the step; labels are 0 throughout.
"""

import dataclasses
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


def of_itself(dataset: Dataset, noise: float = 0.0, dropped: float = 0.0) -> Dataset:
    """The dataset for a model that gives back what it is shown.

    Args:
        dataset: of images or vectors; another is returned as it is.
        noise: of training examples, see :class:`Corrupted`.
        dropped: of them, too.
    """
    if dataset.spec.inputs not in ("images", "vectors"):
        return dataset
    fixed = {k: v for k, v in dataset.spec.hparams.items() if k != "num_classes"}
    spec = dataclasses.replace(
        dataset.spec, task="reconstruction", hparams=fixed, classes=()
    )
    spoilt = Corrupted(noise, dropped)
    return dataclasses.replace(dataset, spec=spec, transform=spoilt)


@dataclass(frozen=True)
class MaskedPatches:
    """Images of which most patches are hidden.

    He et al., "Masked autoencoders are scalable vision learners", 2021 (2111.06377):
    as many patches of each image, drawn evenly and without replacement. A hidden one
    is 0 in ``inputs``, so that no convolution can carry it over its edge.

    Attributes:
        patch_size: height and width of a patch in pixels.
        rate: share of the patches; one at least is hidden, and one is shown.
    """

    patch_size: int
    rate: float = 0.75

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform: inputs are ``inputs``, ``targets``, ``visible``, ``masked``.

        The last two number the patches row by row, (batch, some) in rising order.
        """
        images = raw["inputs"]
        if training:
            images = augment(dataset.augmentation, images, rng)
        clean = dataset.preprocessing.inputs(images)
        batch, height, width, channels = clean.shape
        rows, columns = height // self.patch_size, width // self.patch_size
        count = min(max(1, round(rows * columns * self.rate)), rows * columns - 1)
        order = rng.random((batch, rows * columns)).argsort(axis=1).astype("int32")
        masked, visible = (np.sort(part) for part in np.split(order, [count], axis=1))
        shown = np.zeros(order.shape, clean.dtype)
        np.put_along_axis(shown, visible, 1, axis=1)
        cut = (batch, rows, self.patch_size, columns, self.patch_size, channels)
        spoilt = clean.reshape(cut) * shown.reshape(batch, rows, 1, columns, 1, 1)
        inputs = {"inputs": spoilt.reshape(clean.shape), "targets": clean}
        return unlabelled(raw, inputs | {"visible": visible, "masked": masked})
