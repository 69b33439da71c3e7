"""A dataset of which few labels are known: what is there to learn from the rest?"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.datasets import Dataset
from kzoo.datasets.augmentation import augment
from kzoo.datasets.batches import Batch, philox
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.supervised import supervised

UNKNOWN = -1
# What makes FixMatch's strong view, where the user names nothing.
STRONG = {
    "images": ("rotation:20", "zoom:0.2", "shift", "erasing:1"),
    "texts": ("character_drop", "character_swap"),
}


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
            no label. For distillation, and for :func:`with_unlabelled`: another loss
            would take them for a class.

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


def with_unlabelled(
    partly: Dataset, method: str, strong: tuple[str, ...] = ()
) -> Dataset:
    """Training batches of labelled and of unlabelled examples side by side.

    Args:
        partly: of :func:`few_labels`; its augmentation makes the weak view.
        method: ``pseudo_labels``, or ``fixmatch``, which has a strong view too.
        strong: the augmentation of that one; empty = of ``STRONG``.

    Raises:
        ValueError: nothing augments such inputs, or not that augmentation.
    """
    if isinstance(partly.splits["train"].rows(np.arange(1)), dict):
        raise ValueError(f"{method} is for one input; {partly.name} has several")
    if method == "pseudo_labels":
        strong = ()
    else:
        raw = partly.splits["train"].rows(np.arange(1))
        strong = strong or STRONG.get(
            "images" if raw.ndim == 4 else partly.spec.inputs, ()
        )
        if not strong:
            raise ValueError(
                f"{method} needs strong_augmentation, and there is none for "
                f"{partly.spec.inputs}: pseudo_labels goes without"
            )
        partly.augmented(*strong)  # checks that they fit
    known = np.flatnonzero(partly.splits["train"].labels != UNKNOWN)
    return dataclasses.replace(
        partly, transform=SideBySide(tuple(known.tolist()), strong)
    )


@dataclass(frozen=True)
class SideBySide:
    """As many labelled examples in a batch as it has in all.

    Attributes:
        known: the training examples whose labels are known; each batch draws among
            them, while all examples take their turn as unlabelled ones.
        strong: the augmentation of the strong view; empty = there is none.
    """

    known: tuple[int, ...]
    strong: tuple[str, ...]

    def __call__(
        self, dataset: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        """A transform: in training, inputs are ``labelled, weak`` and ``strong``.

        Labels are those of ``labelled``; the views are of the batch's own examples.
        """
        if not training:
            return supervised(dataset, raw, rng, training)
        size, known = len(raw["index"]), np.array(self.known)
        # Whole rounds of the known ones and a part of another: as evenly as can be.
        rounds = [rng.permutation(known) for _ in range(-(-size // len(known)))]
        picked = np.concatenate(rounds)[:size]
        examples = dataset.splits["train"]
        of_known = {"inputs": examples.rows(picked), "labels": examples.labels[picked]}
        batch = supervised(dataset, {**raw, **of_known}, rng, training)

        def view(names: tuple[str, ...]) -> np.ndarray:
            made: np.ndarray = dataset.preprocessing.inputs(
                augment(names, raw["inputs"], rng)
            )
            return made

        inputs = {"labelled": batch["inputs"], "weak": view(dataset.augmentation)}
        if self.strong:
            inputs["strong"] = view(self.strong)
        return {**batch, "inputs": inputs}
