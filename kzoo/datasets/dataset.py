"""What a dataset is: splits, a spec, a preprocessing, and batches from a seed.

Everything random is drawn by numpy from the seed and the position, for the whole
global batch, before a worker takes its rows: every backend and every number of workers
sees the same batches, and a position in training is one integer, the step.

    rows of a split -> transform (augmentation, preprocessing) -> the worker's share
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kzoo.datasets.augmentation import augment, find_augmentation
from kzoo.datasets.mixing import mixed, soft_labels
from kzoo.hparams import nearest
from kzoo.preprocessing import Preprocessing
from kzoo.tasks import get_task

# An array, or a dict of arrays by the fixed names of a model's inputs: tokens,
# padding_mask, segment_ids, decoder_tokens, first, second. Texts are arrays of str,
# of dtype object.
Inputs = Any

# inputs, labels, weights, index
Batch = dict[str, Any]


class Examples(Protocol):
    """The raw examples of one split, wherever they lie."""

    @property
    def labels(self) -> np.ndarray:
        """One row an example: (examples,), or (examples, time) with -1 for padding."""

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray) -> Inputs:
        """The raw inputs of these examples, read now."""

    def contents(self) -> Iterator[bytes]:
        """Bytes that tell these examples from others, for the fingerprint."""


@dataclass(frozen=True)
class Split:
    """Examples in memory: inputs (examples, ...), or a dict of such, and labels."""

    inputs: Inputs
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: np.ndarray) -> Inputs:
        """The inputs of these examples."""
        if isinstance(self.inputs, dict):
            return {name: array[index] for name, array in self.inputs.items()}
        return self.inputs[index]

    def contents(self) -> Iterator[bytes]:
        """Shape, type and bytes of each array."""
        if isinstance(self.inputs, dict):
            for name in sorted(self.inputs):
                yield name.encode() + b" " + array_bytes(self.inputs[name])
        else:
            yield array_bytes(self.inputs)
        yield array_bytes(self.labels)


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
        """One pass in order; the last batch is filled up with rows of weight 0.

        Raises:
            ValueError: an unknown split, or workers that do not divide the batch.
        """
        self.split(split)
        return EvalBatches(self, split, batch_size, shard)

    def split(self, name: str) -> Examples:
        """The split of this name, or a ``ValueError`` with the nearest."""
        if name not in self.splits:
            raise ValueError(f"unknown split {name!r}{nearest(name, self.splits)}")
        return self.splits[name]


class TrainBatches:
    """The endless stream of :meth:`Dataset.train_batches`.

    ``batches[i]`` is the i-th from the start step, a dict of ``inputs, labels,
    weights, index``; iteration gives them in turn. Weights are (batch,), or (batch,
    time) where each step has a label: 0 at padding, 1 on the average.
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
        raw = {
            "inputs": examples.rows(index),
            "labels": examples.labels[index],
            "weights": np.ones(self.batch_size, "float32"),
            "index": index,
        }
        # Drawn for the whole batch, whichever rows are this worker's.
        rng = philox(self.seed, "augmentation", step)
        batch = self.dataset.transform(self.dataset, raw, rng, True)
        batch["weights"] = balanced(batch["weights"])
        return share(batch, self.shard)

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
        order = self._orders.get(number)
        if order is None:
            rng = philox(self.seed, "order", number)
            order = rng.permutation(len(self.dataset.splits["train"]))
            # A batch touches neighbouring passes; the older ones are over. Several
            # threads may be here at once: the dict is replaced, never changed.
            recent = {k: v for k, v in self._orders.items() if k >= number - 1}
            self._orders = recent | {number: order}
        return order


class EvalBatches:
    """The pass of :meth:`Dataset.eval_batches`: ``batches[i]``, ``len(batches)``.

    Dicts of ``inputs, labels, weights, index``; filled-up rows have index -1.
    """

    def __init__(
        self, dataset: Dataset, split: str, batch_size: int, shard: tuple[int, int]
    ) -> None:
        self.dataset = dataset
        self.split = split
        self.batch_size = batch_size
        self.shard = _checked_shard(batch_size, shard)

    def __len__(self) -> int:
        return -(-len(self.dataset.splits[self.split]) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Batch:
        examples = self.dataset.splits[self.split]
        first = i * self.batch_size
        index = np.arange(first, min(first + self.batch_size, len(examples)))
        raw = {
            "inputs": examples.rows(index),
            "labels": examples.labels[index],
            "weights": np.ones(len(index), "float32"),
            "index": index,
        }
        # Filled up afterwards: what is drawn depends on the real rows alone.
        rng = philox(0, f"evaluation/{self.split}", i)
        batch = self.dataset.transform(self.dataset, raw, rng, False)
        return share(filled_up(batch, self.batch_size), self.shard)


def filled_up(batch: Batch, size: int) -> Batch:
    """The batch with rows of zeros, whose index is -1, up to this size."""
    missing = size - len(batch["index"])
    if not missing:
        return batch

    def filled(array: np.ndarray, value: int = 0) -> np.ndarray:
        rows = np.full((missing, *array.shape[1:]), value, array.dtype)
        return np.concatenate([array, rows])

    def filled_input(value: Inputs) -> Inputs:
        if isinstance(value, dict):
            return {name: filled(array) for name, array in value.items()}
        return filled(value)

    filled_rows = {key: filled_input(value) for key, value in batch.items()}
    return {**filled_rows, "index": filled(batch["index"], -1)}


def balanced(weights: np.ndarray) -> np.ndarray:
    """Weights (batch, time), scaled to 1 on the average of the global batch.

    Keras divides a loss by the number of labels, padding and all. So scaled, it is the
    mean over those that count, however many workers and whatever their padding.
    """
    if weights.ndim == 1:
        return weights
    total = weights.sum(dtype="float64")
    return (weights * (weights.size / max(total, 1e-9))).astype("float32")


def share(batch: Batch, shard: tuple[int, int]) -> Batch:
    """A worker's rows of the global batch."""
    rank, workers = shard

    def rows(array: np.ndarray) -> np.ndarray:
        count = len(array) // workers
        return array[rank * count : (rank + 1) * count]

    return {
        key: {name: rows(array) for name, array in value.items()}
        if isinstance(value, dict)
        else rows(value)
        for key, value in batch.items()
    }


def philox(seed: int, purpose: str, position: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{position}".encode()).digest()
    key = np.frombuffer(digest[:16], "uint64")
    return np.random.Generator(np.random.Philox(key=key))


def fingerprint(splits: Mapping[str, Examples]) -> str:
    """sha256 of the names, shapes, types and bytes of all splits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for piece in splits[name].contents():
            digest.update(f"{name} ".encode())
            digest.update(piece)
    return digest.hexdigest()


def array_bytes(array: np.ndarray) -> bytes:
    """Shape, type and contents of an array; of an array of texts, their UTF-8."""
    head = f"{array.shape} {array.dtype.str} ".encode()
    if array.dtype == object:
        texts = [text.encode("utf-8", "surrogatepass") for text in array.ravel()]
        return head + b"".join(b"%d %s" % (len(text), text) for text in texts)
    return head + np.ascontiguousarray(array).tobytes()


def _checked_shard(batch_size: int, shard: tuple[int, int]) -> tuple[int, int]:
    rank, workers = shard
    if batch_size % workers:
        near = max(1, round(batch_size / workers)) * workers
        raise ValueError(
            f"batch_size={batch_size} is not a multiple of the {workers} workers; "
            f"the nearest is {near}"
        )
    return rank, workers
