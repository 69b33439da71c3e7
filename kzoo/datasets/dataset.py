"""What a dataset is: splits, a spec, a preprocessing, and batches from a seed.

Everything random is drawn by numpy from the seed and the position, for the whole
global batch, before a worker takes its rows: every backend and every number of workers
sees the same batches, and a position in training is one integer, the step.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.datasets.augmentation import augment, find_augmentation
from kzoo.datasets.mixing import mixed, soft_labels
from kzoo.hparams import nearest
from kzoo.preprocessing import Preprocessing

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Split:
    """The raw examples of one split: inputs (examples, ...) and labels (examples,)."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Spec:
    """What a model must know of a dataset.

    Attributes:
        task: one of ``kzoo.tasks.TASKS``.
        inputs: ``images``, ``tokens``, ``features`` or ``vectors``.
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
    """

    name: str
    options: Mapping[str, Any]
    splits: Mapping[str, Split]
    spec: Spec
    preprocessing: Preprocessing
    augmentation: tuple[str, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0

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
        raw = self.splits["train"].inputs[:1]
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
        labels = self.splits["train"].labels
        if mixup and (raw.dtype.kind not in "iuf" or self.spec.inputs == "tokens"):
            raise ValueError(f"mixup has no mean of {self.spec.inputs}")
        if (mixup or cutmix) and labels.ndim != 1:
            raise ValueError("mixup and cutmix need one label an example")
        if (mixup or cutmix) and self.spec.classes and labels.min() < 0:
            raise ValueError("mixup and cutmix need all labels to be known")

    def steps_per_epoch(self, batch_size: int) -> int:
        """ceil(training examples / batch_size)."""
        return -(-len(self.splits["train"]) // batch_size)

    def train_batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> "TrainBatches":
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
    ) -> "EvalBatches":
        """One pass in order; the last batch is filled up with weight 0.

        Raises:
            ValueError: an unknown split, or workers that do not divide the batch.
        """
        self.split(split)
        return EvalBatches(self, split, batch_size, shard)

    def split(self, name: str) -> Split:
        """The split of this name, or a ``ValueError`` with the nearest."""
        if name not in self.splits:
            raise ValueError(f"unknown split {name!r}{nearest(name, self.splits)}")
        return self.splits[name]


class TrainBatches:
    """The endless stream of :meth:`Dataset.train_batches`.

    ``batches[i]`` is the i-th from the start step, a dict of ``inputs, labels,
    weights, index``; iteration gives them in turn.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        start_step: int,
        shard: tuple[int, int],
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.shard = _checked_shard(batch_size, shard)
        self._orders: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[Batch]:
        step = 0
        while True:
            yield self[step]
            step += 1

    def __getitem__(self, i: int) -> Batch:
        step = self.start_step + i
        index = self.indices(step)  # of the global batch
        examples = self.dataset.splits["train"]
        preprocessing = self.dataset.preprocessing
        inputs = examples.inputs[index]
        # Drawn for the whole batch, whichever rows are this worker's.
        rng = philox(self.seed, "augmentation", step)
        inputs = augment(self.dataset.augmentation, inputs, rng)
        labels = preprocessing.labels(examples.labels[index])
        if self.dataset.mixup or self.dataset.cutmix:
            soft = soft_labels(labels, self.dataset.spec.hparams["num_classes"])
            alphas = self.dataset.mixup, self.dataset.cutmix
            inputs, labels = mixed(inputs, soft, rng, *alphas)
        rank, workers = self.shard
        rows = self.batch_size // workers
        mine = slice(rank * rows, (rank + 1) * rows)
        return {
            "inputs": preprocessing.inputs(inputs[mine]),
            "labels": labels[mine],
            "weights": np.ones(rows, "float32"),
            "index": index[mine],
        }

    def indices(self, step: int) -> np.ndarray:
        """Which examples the global batch of a step holds (batch_size,)."""
        examples = len(self.dataset.splits["train"])
        position = step * self.batch_size + np.arange(self.batch_size)
        passes, within = np.divmod(position, examples)
        index = np.empty(self.batch_size, "int64")
        for one in np.unique(passes):
            chosen = passes == one
            index[chosen] = self._order(int(one))[within[chosen]]
        return index

    def _order(self, number: int) -> np.ndarray:
        """The permutation of one pass over the training examples."""
        if number not in self._orders:
            # A batch touches neighbouring passes; the older ones are over.
            self._orders = {k: v for k, v in self._orders.items() if k >= number - 1}
            rng = philox(self.seed, "order", number)
            self._orders[number] = rng.permutation(len(self.dataset.splits["train"]))
        return self._orders[number]


class EvalBatches:
    """The pass of :meth:`Dataset.eval_batches`: ``batches[i]``, ``len(batches)``.

    Dicts of ``inputs, labels, weights, index``; filled-up rows have index -1.
    """

    def __init__(
        self, dataset: Dataset, split: str, batch_size: int, shard: tuple[int, int]
    ) -> None:
        self.dataset = dataset
        self.examples = dataset.splits[split]
        self.batch_size = batch_size
        self.shard = _checked_shard(batch_size, shard)

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Batch:
        rank, workers = self.shard
        rows = self.batch_size // workers
        mine = i * self.batch_size + rank * rows + np.arange(rows)
        real = mine < len(self.examples)
        picked = np.where(real, mine, 0)
        preprocessing = self.dataset.preprocessing
        return {
            "inputs": preprocessing.inputs(self.examples.inputs[picked]),
            "labels": preprocessing.labels(self.examples.labels[picked]),
            "weights": real.astype("float32"),
            "index": np.where(real, mine, -1),
        }


def philox(seed: int, purpose: str, position: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{position}".encode()).digest()
    key = np.frombuffer(digest[:16], "uint64")
    return np.random.Generator(np.random.Philox(key=key))


def fingerprint(splits: Mapping[str, Split]) -> str:
    """sha256 of the names, shapes, types and bytes of all splits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for array in (splits[name].inputs, splits[name].labels):
            digest.update(f"{name} {array.shape} {array.dtype.str} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _checked_shard(batch_size: int, shard: tuple[int, int]) -> tuple[int, int]:
    rank, workers = shard
    if batch_size % workers:
        near = max(1, round(batch_size / workers)) * workers
        raise ValueError(
            f"batch_size={batch_size} is not a multiple of the {workers} workers; "
            f"the nearest is {near}"
        )
    return rank, workers
