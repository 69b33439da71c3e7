"""Loading off the critical path: batches made ahead, files read by threads.

Nothing here changes what a batch holds: batches are asked for by their index, so a
position stays one integer. Threads, since decoding images and numpy's work on whole
batches leave Python's lock, and since batches need not be copied between processes.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")
Made = TypeVar("Made", covariant=True)


class Batches(Protocol[Made]):
    """What can be asked for by an index from 0, such as ``TrainBatches``."""

    def __getitem__(self, i: int) -> Made: ...


class Prefetched(Generic[Result]):
    """Batches by index, made ahead of time by threads.

    ``batches[i]`` waits for batch i, and has the next ones begun. At most ``ahead``
    batches and the one that was asked for are in memory. An exception comes where its
    batch is asked for. Close it, or use it in a ``with``: then all threads have ended.

    Example:
        >>> with Prefetched([10, 11, 12]) as batches:
        ...     [batches[0], batches[1]], list(batches)
        ([10, 11], [10, 11, 12])
    """

    def __init__(self, batches: Batches[Result], ahead: int = 2) -> None:
        self.batches = batches
        self.ahead = ahead
        self._begun: dict[int, Future[Result]] = {}
        self._lock = Lock()
        self._closed = False
        self._pool = ThreadPoolExecutor(min(ahead, num_cores()), "kzoo-batches")

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]

    def __getitem__(self, i: int) -> Result:
        with self._lock:
            if self._closed:  # tf.data may ask for more while it is torn down
                return self.batches[i]
            wanted = range(i, i + self.ahead + 1)
            if hasattr(self.batches, "__len__"):
                wanted = range(i, min(wanted.stop, max(len(self), i + 1)))
            for j in [j for j in self._begun if j not in wanted]:
                self._begun.pop(j).cancel()
            for j in wanted:
                if j not in self._begun:
                    self._begun[j] = self._pool.submit(self.batches.__getitem__, j)
            asked = self._begun[i]
        return asked.result()

    def __iter__(self) -> Iterator[Result]:
        indices = range(len(self)) if hasattr(self.batches, "__len__") else count()
        return (self[i] for i in indices)

    def close(self) -> None:
        """Ends the threads; batches in the making are waited for and dropped."""
        with self._lock:
            self._closed = True
            self._begun.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Prefetched[Result]":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


class Readable(Protocol):
    """Examples whose inputs have to be read; see ``dataset.Examples``."""

    @property
    def labels(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray) -> np.ndarray: ...

    def contents(self) -> Iterator[bytes]: ...


class Kept:
    """Examples whose inputs stay in memory once they were read.

    Args:
        examples: of arrays of one shape.
        shape: of one example's inputs.
        dtype: of the inputs.
    """

    def __init__(
        self, examples: Readable, shape: tuple[int, ...], dtype: str = "uint8"
    ) -> None:
        self.examples = examples
        # Pages that nothing was written to yet take no memory.
        self._inputs = np.empty((len(examples), *shape), dtype)
        self._known = np.zeros(len(examples), bool)

    @property
    def labels(self) -> np.ndarray:
        return self.examples.labels

    def __len__(self) -> int:
        return len(self.examples)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The inputs of these examples; those that are new are read."""
        new = np.unique(index[~self._known[index]])
        if len(new):
            # Two threads may read the same rows: they write the same values.
            self._inputs[new] = self.examples.rows(new)
            self._known[new] = True
        return self._inputs[index]

    def contents(self) -> Iterator[bytes]:
        return self.examples.contents()


def kept_if_small(
    splits: dict[str, Any], shape: tuple[int, ...], most_mib: int
) -> dict[str, Any]:
    """The splits, :class:`Kept` if all their bytes together are at most so many MiB."""
    size = sum(len(split) for split in splits.values()) * int(np.prod(shape))
    if size > most_mib * 2**20:
        return splits
    return {name: Kept(split, shape) for name, split in splits.items()}


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> list[Result]:
    """The function's results, in order, by a few threads.

    The first exception is raised, and what had not begun is left.

    Example:
        >>> parallel_map(abs, [-1, 2, -3])
        [1, 2, 3]
    """
    share = max(1, len(items) // (8 * num_cores()))
    parts = [items[i : i + share] for i in range(0, len(items), share)]
    if len(parts) < 2:
        return [function(item) for item in items]
    pool = _readers(os.getpid())
    done = pool.map(lambda part: [function(item) for item in part], parts)
    return [result for part in done for result in part]


@functools.cache
def _readers(process: int) -> ThreadPoolExecutor:
    """This process's threads for reading: a fork's child has none of its parent's."""
    # Two a core: a disk has to be waited for.
    return ThreadPoolExecutor(2 * num_cores(), "kzoo-reading")


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
