"""Streams of training batches: generators, endless loaders, functions."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from threading import Lock
from typing import Any

import numpy as np

from kzoo.datasets import arrays, sources
from kzoo.datasets.batches import Batch, TrainBatches, balanced, philox
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import fingerprint
from kzoo.datasets.in_memory import check_finite
from kzoo.hparams import hp, in_short, replace

log = logging.getLogger(__name__)

PEEKED = 1000  # examples that classes and standardisation are made from
KEPT = 16  # batches that may be asked for again
Pair = sources.Pair


@dataclass(frozen=True, kw_only=True)
class StreamOptions(arrays.ArraysOptions, sources.SourceOptions):
    """Options of a stream: those of arrays and of reading, and ``steps``."""

    steps: int | None = hp(None, "training steps of an epoch on a stream", min=1)


def is_stream(value: Any) -> bool:
    """Whether this gives training batches without saying how many.

    Example:
        >>> is_stream(iter([])), is_stream([(np.zeros((2, 4)), np.array([0, 1]))])
        (True, False)
    """
    if hasattr(value, "__next__"):
        return True
    if hasattr(value, "dtype"):
        return False
    if not sources.is_source(value):
        return callable(value)
    if hasattr(value, "cardinality"):
        return int(value.cardinality()) < 0
    try:
        if hasattr(type(value), "num_batches"):
            return value.num_batches is None
        len(value)
    except (TypeError, NotImplementedError):
        return True
    return False


class Reader:
    """The examples of a stream in order, in batches of any size."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.kind = getattr(source, "__name__", type(source).__name__)
        self.once = hasattr(source, "__next__")
        self.first: Pair | None = None
        self.examples = 0
        self._held: list[Pair] = []
        self._elements = self._begun()

    def _begun(self) -> Iterator[Any]:
        if self.once:
            return iter(self.source)
        if not sources.is_source(self.source):
            return iter(self.source())
        if hasattr(type(self.source), "num_batches"):
            self.source.on_epoch_begin()
            return (self.source[i] for i in count())
        return iter(self.source)

    def batch(self) -> Pair:
        """The next batch as the stream gives it; after the end, the first again."""
        try:
            element = next(self._elements)
        except StopIteration:
            if self.once:
                raise ValueError(
                    f"train: {self.kind} ended after {self.examples} examples, before "
                    "training did: pass a generator function, which is called again, "
                    "or fewer steps or epochs"
                ) from None
            self._elements = self._begun()
            element = next(self._elements, None)
            if element is None:
                raise ValueError(f"train: {self.kind} has no examples") from None
        pair = sources.as_pair(element, "train", 0)
        self.first = self.first or pair
        sources.check_alike(self.first, pair, "train", 1)
        self.examples += len(pair[1])
        return pair

    def peek(self, most_bytes: int) -> list[Pair]:
        """The first batches, of one pass at most."""
        batches: list[Pair] = []
        while sum(len(labels) for _, labels in batches) < PEEKED:
            if sum(map(sources.size_of, batches)) > most_bytes:
                break
            element = next(self._elements, None)
            if element is None:
                break
            self._elements = chain([element], self._elements)
            batches.append(self.batch())
        if not batches:
            raise ValueError(f"train: {self.kind} has no examples")
        return batches

    def back(self, batches: list[Pair]) -> None:
        """Puts batches before all that come."""
        self._elements = chain(batches, self._elements)
        self.examples -= sum(len(labels) for _, labels in batches)

    def take(self, size: int) -> Pair:
        """The next examples, exactly so many."""
        while sum(len(labels) for _, labels in self._held) < size:
            self._held.append(self.batch())
        inputs, labels = sources.joined(self._held)
        self._held = [(_rows(inputs, slice(size, None)), labels[size:])]
        return _rows(inputs, slice(size)), labels[:size]


def _rows(inputs: Any, rows: slice) -> Any:
    if isinstance(inputs, dict):
        return {name: array[rows] for name, array in inputs.items()}
    return inputs[rows]


@dataclass(frozen=True)
class StreamDataset(Dataset):
    """A dataset whose training examples come from a stream.

    Attributes:
        steps: of an epoch.
        reader: makes a reader at the beginning of the stream, or of what is left.
        understood: raw inputs and labels as the splits have them.
        peeked: the examples at hand, which are the split ``train``.
    """

    steps: int = 1
    reader: Callable[[], Reader] | None = None
    understood: Callable[[Pair], Pair] | None = None
    peeked: Any = None

    def __post_init__(self) -> None:
        """Raises a ``ValueError`` where training examples were exchanged."""
        if self.splits["train"] is not self.peeked:
            raise ValueError(
                "train is a stream, whose examples cannot be chosen or relabelled "
                "(labels_per_class, unlabelled, a teacher's answers): pass arrays"
            )

    def steps_per_epoch(self, batch_size: int) -> int:
        """The option ``steps``, whatever the batch size."""
        return self.steps

    def train_batches(
        self,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> TrainBatches:
        """The batches of the stream in its own order.

        Raises:
            ValueError: there are several workers.
        """
        if shard[1] > 1:
            raise ValueError(
                f"train is a stream, which cannot be divided among {shard[1]} workers: "
                "train on one, or pass arrays"
            )
        if start_step:
            log.warning(
                "training goes on at step %s with the stream from its beginning: the "
                "run is not what it would have been without the stop",
                start_step,
            )
        return StreamBatches(self, batch_size, seed, start_step, shard)


class StreamBatches(TrainBatches):
    """The batches of :meth:`StreamDataset.train_batches`; the latest are kept."""

    def __init__(self, dataset: StreamDataset, *args: Any) -> None:
        super().__init__(dataset, *args)
        assert dataset.reader is not None and dataset.understood is not None
        self._reader, self._understood = dataset.reader(), dataset.understood
        self._latest: dict[int, Pair] = {}
        self._next = 0
        self._lock = Lock()

    def __getitem__(self, i: int) -> Batch:
        with self._lock:
            while self._next <= i:
                self._latest[self._next] = self._reader.take(self.batch_size)
                self._latest.pop(self._next - KEPT, None)
                self._next += 1
            if i not in self._latest:
                raise ValueError(f"batch {i} of the stream is gone")
            pair = self._latest[i]
        inputs, labels = self._understood(pair)
        step = self.start_step + i
        raw = {
            "inputs": inputs,
            "labels": labels,
            "weights": np.ones(self.batch_size, "float32"),
            "index": step * self.batch_size + np.arange(self.batch_size),
        }
        rng = philox(self.seed, "augmentation", step)
        batch = self.dataset.transform(self.dataset, raw, rng, True)
        batch["weights"] = balanced(batch["weights"])
        return batch


def from_stream(
    source: Mapping[str, Any], options: dict[str, Any], groups: Any = None
) -> Dataset:
    """A dataset of a stream ``train`` and finite ``validation`` and ``test``.

    Args:
        source: a dict by split.
        options: those of arrays, ``memory``, and ``steps``, of an epoch.
        groups: refused.

    Raises:
        ValueError: ``steps`` is missing, or the data do not fit together.
    """
    arrays.check_splits(source)
    if groups is not None:
        raise ValueError("groups= is for splits that are drawn; a stream has none")
    names = sources.class_names(source)
    options = {"classes": names, **options} if names else options
    chosen = replace(StreamOptions(), "a stream", options)
    reading = sources.SourceOptions(memory=chosen.memory)
    kept = [field.name for field in dataclasses.fields(arrays.ArraysOptions)]
    declared = arrays.ArraysOptions(**{name: getattr(chosen, name) for name in kept})
    if chosen.steps is None:
        raise ValueError(
            "train is a stream: say how many training steps make an epoch, as by "
            "data={'steps': 100}"
        )
    reader = Reader(source["train"])
    batches = reader.peek(reading.memory * sources.MIB // 4)
    peeked = sources.joined(batches)
    ready = sources.as_arrays({**source, "train": peeked}, reading)
    made = arrays.from_arrays(ready, declared)
    log.warning(
        "train is a stream, of which the first %s examples make classes and "
        "standardisation: resuming is not exact, the order is the stream's, workers "
        "cannot share it, and the fingerprint leaves out the training data",
        len(peeked[1]),
    )
    held_out = {name: made.splits[name] for name in ("validation", "test")}
    digest = fingerprint(held_out)
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    fields["options"] = {**made.options, "steps": chosen.steps}
    fields["spec"] = dataclasses.replace(made.spec, fingerprint=digest)
    if reader.once:
        reader.back(batches)
    return StreamDataset(
        **fields,
        steps=chosen.steps,
        reader=(lambda: reader) if reader.once else (lambda: Reader(source["train"])),
        understood=_understanding(ready, made),
        peeked=made.splits["train"],
    )


def _understanding(ready: Mapping[str, Any], made: Dataset) -> Callable[[Pair], Pair]:
    """What makes of a raw batch what ``made`` has in its splits."""
    train: Any = made.splits["train"]
    labels: dict[Any, int] = {}
    raw_labels = np.asarray(ready["train"][1])
    one_hot = raw_labels.ndim == 2 and train.labels.ndim == 1 < raw_labels.shape[1]
    if made.spec.classes and not one_hot:
        for name in made.splits:
            labels |= _numbers(ready[name][1], made.splits[name].labels)
        labels = _with_unseen(labels, made.spec.classes)
    vocab_size = made.spec.hparams.get("vocab_size") or 0

    def understood(pair: Pair) -> Pair:
        inputs, raw = pair
        if not isinstance(inputs, dict) and inputs.dtype != object:
            check_finite(inputs, "train: inputs")
            inputs = inputs.reshape(-1, *train.inputs.shape[1:])
            inputs = inputs.astype(train.inputs.dtype, copy=False)
            if made.spec.inputs == "tokens" and not (
                inputs.min() >= 0 and inputs.max() < vocab_size
            ):
                raise ValueError(
                    f"train: the stream has a token out of 0 to {vocab_size - 1}: pass "
                    "vocab_size="
                )
        if raw.dtype != object:
            check_finite(raw, "train: labels")
        if one_hot:
            return inputs, raw.argmax(1)
        raw = raw.reshape(-1, *train.labels.shape[1:])
        if not made.spec.classes:
            return inputs, raw.astype(train.labels.dtype, copy=False)
        flat = [_bare(one) for one in raw.ravel().tolist()]
        unknown = next((one for one in flat if one not in labels), None)
        if unknown is not None:
            raise ValueError(
                f"train: the stream has the label {unknown!r}, which is none of "
                f"{in_short(list(made.spec.classes))}: pass all as classes="
            )
        numbers = np.array([labels[one] for one in flat], train.labels.dtype)
        return inputs, numbers.reshape(raw.shape)

    return understood


def _bare(label: Any) -> Any:
    return label.strip() if isinstance(label, str) else label


def _numbers(raw: Any, numbers: np.ndarray) -> dict[Any, int]:
    """The class of each label that a split has."""
    if hasattr(raw, "to_numpy"):
        raw = raw.to_numpy()
    named = [_bare(one) for one in np.asarray(raw).ravel().tolist()]
    return dict(zip(named, numbers.ravel().tolist(), strict=True))


def _with_unseen(labels: dict[Any, int], classes: tuple[str, ...]) -> dict[Any, int]:
    """Classes that none of the examples at hand has, by name or by number."""
    if all(isinstance(label, str) for label in labels):
        return {name: i for i, name in enumerate(classes)} | labels
    if all(label == number for label, number in labels.items()):
        return {i: i for i in range(len(classes))} | labels
    numbers = {int(n): i for i, n in enumerate(classes) if n.lstrip("-").isdigit()}
    return numbers | labels
