"""Batches of a dataset, each a function of the seed and its position.

Everything random is drawn by numpy from the seed and the position, for the whole
global batch, before a worker takes its rows: every backend and every number of workers
sees the same batches, and a position in training is one integer, the step.

    rows of a split -> transform (augmentation, preprocessing) -> the worker's share
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from kzoo.datasets.examples import Inputs

if TYPE_CHECKING:
    from kzoo.datasets.dataset import Dataset

# inputs, labels, weights, index
Batch = dict[str, Any]


class TrainBatches:
    """The endless stream of :meth:`Dataset.train_batches`.

    ``batches[i]`` is the i-th from the start step, a dict of ``inputs, labels,
    weights, index``; iteration gives them in turn. Weights are (batch,), or (batch,
    time) where each step has a label: 0 at padding, 1 on the average.
    """

    def __init__(
        self,
        dataset: "Dataset",
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
        self, dataset: "Dataset", split: str, batch_size: int, shard: tuple[int, int]
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


def _checked_shard(batch_size: int, shard: tuple[int, int]) -> tuple[int, int]:
    rank, workers = shard
    if batch_size % workers:
        near = max(1, round(batch_size / workers)) * workers
        raise ValueError(
            f"batch_size={batch_size} is not a multiple of the {workers} workers; "
            f"the nearest is {near}"
        )
    return rank, workers
