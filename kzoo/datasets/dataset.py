"""What a dataset is: splits, a spec, a preprocessing, and batches from a seed."""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.augmentation import find_augmentation
from kzoo.datasets.batches import Batch, EvalBatches, TrainBatches
from kzoo.datasets.examples import Examples
from kzoo.datasets.supervised import supervised
from kzoo.hparams import nearest
from kzoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class Spec:
    """What a model must know of a dataset.

    Attributes:
        task: one of ``kzoo.tasks.TASKS``.
        inputs: ``images``, ``tokens``, ``features``, ``vectors``, ``texts``, or what
            the dict of several inputs holds, such as ``pairs``.
        hparams: the model's hyper-parameters that these data fix.
        classes: names of the classes; empty for a regression.
        fingerprint: sha256 of the bytes of all splits.
    """

    task: str
    inputs: str
    hparams: Mapping[str, Any]
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class Dataset:
    """A dataset.

    Attributes:
        name: as ``load_dataset`` knows it.
        options: what it was loaded with, in plain JSON types.
        augmentation: what training batches go through, in order, by name; see
            ``kzoo.datasets.augmentation``.
        mixup: alpha of MixUp in training batches; 0 = off.
        cutmix: alpha of CutMix in training batches; 0 = off.
        class_weights: what an example of each class counts in training; empty = alike.
        transform: raw global batch -> the batch that the model takes. Two views, masks
            or corruption are another transform than :func:`supervised`. It gets the
            dataset, the raw batch, a generator that is the step's own, and whether it
            is for training.
    """

    name: str
    options: Mapping[str, Any]
    splits: Mapping[str, Examples]
    spec: Spec
    preprocessing: Preprocessing
    augmentation: tuple[str, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0
    class_weights: tuple[float, ...] = ()
    transform: Callable[["Dataset", Batch, np.random.Generator, bool], Batch] = (
        supervised
    )

    def augmented(
        self, *names: str, mixup: float = 0.0, cutmix: float = 0.0
    ) -> "Dataset":
        """The same data with another augmentation of the training batches.

        Args:
            *names: of ``kzoo.datasets.augmentation``, in order; ``name:strength``.
            mixup: alpha of MixUp; 0 = off.
            cutmix: alpha of CutMix; 0 = off.

        Raises:
            ValueError: an unknown augmentation, or one for other inputs or labels.
        """
        if names or mixup or cutmix:
            self._check_augmentation(names, mixup, cutmix)
        return dataclasses.replace(self, augmentation=names, mixup=mixup, cutmix=cutmix)

    def _check_augmentation(
        self, names: tuple[str, ...], mixup: float, cutmix: float
    ) -> None:
        raw = self.splits["train"].rows(np.arange(1))
        if isinstance(raw, dict):
            raise ValueError(f"{self.name} has several inputs, which none augments")
        images = raw.ndim == 4
        kind = "images" if images else self.spec.inputs
        for name in names:
            found, _ = find_augmentation(name)
            if found.inputs != kind:
                raise ValueError(
                    f"augmentation={name!r} is for {found.inputs}; {self.name} has "
                    f"{self.spec.inputs}"
                )
            if found.bytes_only and raw.dtype != np.uint8:
                raise ValueError(
                    f"augmentation={name!r} is for 8-bit images; {self.name} has "
                    f"{raw.dtype}"
                )
        if cutmix and not images:
            raise ValueError(
                f"cutmix is for images; {self.name} has {self.spec.inputs}"
            )
        if mixup and (raw.dtype.kind not in "iuf" or self.spec.inputs == "tokens"):
            raise ValueError(f"mixup has no mean of {self.spec.inputs}")
        if mixup or cutmix:
            labels = self.splits["train"].labels
            if labels.ndim != 1:
                raise ValueError("mixup and cutmix need one label an example")
            if self.spec.classes and labels.min() < 0:
                raise ValueError("mixup and cutmix need all labels to be known")

    @property
    def short_name(self) -> str:
        """The name as part of a file's: ``folder:data/my cats`` is folder_my_cats."""
        kind, colon, path = self.name.partition(":")
        parts = [kind, Path(path).stem] if colon else [kind]
        return re.sub(r"[^\w.-]+", "_", "_".join(parts))

    def weighted(self, class_weights: str) -> "Dataset":
        """The same data with examples that count by their class in training.

        Args:
            class_weights: ``none``, or ``balanced``: examples / (classes * examples of
                the class), so that each class counts as much as any other.

        Raises:
            ValueError: there are no classes, or some labels are unknown.
        """
        if class_weights == "none":
            return dataclasses.replace(self, class_weights=())
        labels = self.splits["train"].labels
        if not self.spec.classes or labels.dtype.kind not in "iu":
            raise ValueError(f"{self.name} has no classes to weigh")
        if labels.ndim == 1 and labels.min() < 0:
            raise ValueError("class weights need all labels to be known")
        counts = np.bincount(labels[labels >= 0], minlength=len(self.spec.classes))
        present = counts > 0
        shares = counts.sum() / (present.sum() * np.maximum(counts, 1))
        weights = np.where(present, shares, 1.0)
        return dataclasses.replace(self, class_weights=tuple(weights.tolist()))

    @property
    def varying_lengths(self) -> bool:
        """Whether batches of sequences differ in their number of steps."""
        return len(self.preprocessing.lengths) > 1

    def steps_per_epoch(self, batch_size: int) -> int:
        """ceil(training examples / batch_size)."""
        return -(-len(self.splits["train"]) // batch_size)

    def train_batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> TrainBatches:
        """Endless training batches: one permutation after another, all batches full.

        Args:
            batch_size: examples of the global batch.
            seed: of the order and of the augmentation.
            start_step: the step to begin with.
            shard: this worker's rank and the number of workers.

        Raises:
            ValueError: the workers do not divide the batch.
        """
        return TrainBatches(self, batch_size, seed, start_step, shard)

    def eval_batches(
        self, split: str, batch_size: int, shard: tuple[int, int] = (0, 1)
    ) -> EvalBatches:
        """One pass in order; the last batch is filled up with rows of weight 0.

        Raises:
            ValueError: an unknown split, or workers that do not divide the batch.
        """
        self.split(split)
        return EvalBatches(self, split, batch_size, shard)

    def split(self, name: str) -> Examples:
        """The split of this name, or a ``ValueError`` with the nearest."""
        check_split(name, self.splits)
        return self.splits[name]


def check_split(name: str, splits: Collection[str]) -> None:
    """Raises a ``ValueError`` with the nearest where none has this name."""
    if name not in splits:
        raise ValueError(f"unknown split {name!r}{nearest(name, splits)}")
