"""Batches as people have them, read into arrays: ``tf.data``, ``PyDataset``, loaders.

They are recognised by what they can do, so that nothing here imports TensorFlow,
PyTorch or Keras.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from kzoo.datasets.examples import Inputs, array_bytes
from kzoo.datasets.in_memory import as_array, is_frame
from kzoo.hparams import HParams, hp

log = logging.getLogger(__name__)

MIB = 2**20
CHANNELS = (1, 3, 4)
Pair = tuple[Inputs, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class SourceOptions(HParams):
    """Options of reading batches; they leave no trace in the dataset."""

    noun: ClassVar[str] = "option"

    memory: int = hp(4096, "MiB in which the examples of all splits must fit", min=1)


def is_source(value: Any) -> bool:
    """Whether this gives batches, rather than being arrays.

    Example:
        >>> batch = (np.zeros((2, 4)), np.array([0, 1]))
        >>> is_source([batch, batch]), is_source(batch)
        (True, False)
    """
    if hasattr(value, "dtype") or is_frame(value):
        return False
    if isinstance(value, list):
        return bool(value) and all(_is_batch(one) for one in value)
    if isinstance(value, str | bytes | tuple | Mapping):
        return False
    return hasattr(value, "__iter__") or hasattr(type(value), "__getitem__")


def _is_batch(value: Any) -> bool:
    """Whether this is a tuple of arrays (examples, ...) of equal length."""
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        return False
    inputs, labels = value[:2]
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    shapes: list[Any] = [getattr(one, "shape", ()) for one in [*parts, labels]]
    return all(shapes) and len({int(shape[0]) for shape in shapes}) == 1


def as_arrays(source: Any, options: SourceOptions, ordered: bool = False) -> Any:
    """The source with arrays in place of all that gives batches.

    Each source is read twice. If its order changed, as that of a shuffling loader
    does, the examples are put into an order by a hash of what they hold, so that the
    dataset is the same in each process. If its examples changed, it is refused.

    Args:
        source: batches, or a dict by split of batches or pairs of arrays.
        options: how much memory to take.
        ordered: an order that changes is refused.

    Where Keras left the names of classes (:func:`class_names`), floating labels that
    are whole numbers are their indices.

    Raises:
        ValueError: the source has no end, does not fit into memory, is not in batches,
            or gives other examples each time.
    """
    if not isinstance(source, Mapping):
        if not is_source(source):
            return source
        return _read(source, "the data", options.memory * MIB, options, ordered)
    free, arrays = options.memory * MIB, {}
    for name, one in source.items():
        arrays[name] = one
        if is_source(one):
            arrays[name] = _read(one, str(name), free, options, ordered)
            free -= size_of(arrays[name])
    return arrays


def class_names(source: Any) -> tuple[str, ...]:
    """The names that Keras's ``image_dataset_from_directory`` leaves on its result."""
    train = source.get("train") if isinstance(source, Mapping) else source
    names = getattr(train, "class_names", None)
    return tuple(map(str, names)) if is_source(train) and names else ()


def _read(
    source: Any, name: str, free: int, options: SourceOptions, ordered: bool
) -> Pair:
    """All examples of a source, in an order that every process finds again."""
    count = _num_batches(source, name)
    read: list[Pair] = []
    keys: list[bytes] = []
    size = 0
    for pair in _batches(source, count, name):
        read.append(pair)
        keys += _keys(pair)
        size += size_of(pair)
        if max(size, size_of(read[0]) * (count - 1)) > free:
            raise ValueError(
                f"{name}: {count} batches of {size_of(read[0]) / MIB:.1f} MiB do not "
                f"fit into memory={options.memory} (MiB): take fewer, or raise memory"
            )
    if not keys:
        raise ValueError(f"{name}: {type(source).__name__} has no examples")
    again = [key for pair in _batches(source, count, name) for key in _keys(pair)]
    inputs, labels = joined(read)
    if class_names(source) and labels.size == len(labels):  # of label_mode="binary"
        labels = _whole(labels)
    log.info("%s: %s examples read from %s", name, len(keys), type(source).__name__)
    if again == keys:
        return inputs, labels
    _check_same(keys, again, name, type(source).__name__)
    if ordered:
        raise ValueError(
            f"{name}: {type(source).__name__} is shuffled each time it is read, so "
            "groups cannot go with its examples: pass it without the shuffle"
        )
    log.info(
        "%s: the order changes from one reading to the next: the examples are put into "
        "an order by what they hold; kzoo shuffles the training batches itself",
        name,
    )
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__))
    if isinstance(inputs, dict):
        return {key: one[order] for key, one in inputs.items()}, labels[order]
    return inputs[order], labels[order]


def _check_same(keys: list[bytes], again: list[bytes], name: str, kind: str) -> None:
    if sorted(keys) != sorted(again):
        raise ValueError(
            f"{name}: {kind} gives other examples each time it is read, so no run on "
            "it could be resumed: leave out random augmentation (augmentation= has "
            "kzoo's own), random sampling and the dropping of a shuffled remainder"
        )


def _num_batches(source: Any, name: str) -> int:
    """The number of batches, or a ``ValueError`` if it has no end."""
    kind = type(source).__name__
    if hasattr(source, "__next__"):
        raise ValueError(
            f"{name}: {kind} can be read only once, and a run must be able to go on "
            "after a stop: pass a list of its batches, as by "
            "list(itertools.islice(batches, 100))"
        )
    if getattr(getattr(source, "sampler", None), "num_replicas", 1) > 1:
        raise ValueError(
            f"{name}: {kind} gives each worker its own part; kzoo divides the batches "
            "itself: pass it without the DistributedSampler"
        )
    count: int | None
    if hasattr(source, "cardinality"):
        count = int(source.cardinality())
        if count == -2:
            raise ValueError(
                f"{name}: {kind} does not know its number of batches: state it, as by "
                ".apply(tf.data.experimental.assert_cardinality(n))"
            )
        count = None if count < 0 else count
    else:
        try:
            by_property = hasattr(type(source), "num_batches")
            count = source.num_batches if by_property else len(source)
        except (TypeError, NotImplementedError):
            raise ValueError(
                f"{name}: {kind} has no length (num_batches or __len__), and kzoo "
                "reads all examples before it trains: pass a list of batches, as by "
                "list(itertools.islice(batches, 100))"
            ) from None
    if count is None:
        raise ValueError(
            f"{name}: {kind} has no end, and kzoo reads all examples before it trains: "
            "end it, as by .take(100)"
        )
    return count


def _batches(source: Any, count: int, name: str) -> Iterator[Pair]:
    """One pass over the source, each batch checked against the first."""
    kind = type(source).__name__
    if hasattr(type(source), "num_batches"):  # as Keras's fit does
        source.on_epoch_begin()
    by_index = hasattr(type(source), "num_batches") or not hasattr(source, "__iter__")
    elements = (source[i] for i in range(count)) if by_index else iter(source)
    first: Pair | None = None
    number = 0
    for i, element in enumerate(islice(elements, count + 1)):
        pair = as_pair(element, name, i)
        first = first or pair
        check_alike(first, pair, name, i)
        number += 1
        yield pair
    if number != count:
        more = "more" if number > count else number
        raise ValueError(
            f"{name}: {kind} has {count} batches by its length, but {more}"
        )


def as_pair(element: Any, name: str, i: int) -> Pair:
    """The inputs and labels of one batch."""
    if isinstance(element, tuple | list) and len(element) == 3:
        if element[2] is not None:
            raise ValueError(
                f"{name}: batches have sample weights, which kzoo does not take; "
                "class_weights='balanced' weighs classes"
            )
        element = element[:2]
    if not isinstance(element, tuple | list) or len(element) != 2:
        got = type(element).__name__
        if isinstance(element, tuple | list):
            got += f" of {len(element)}"
        raise ValueError(f"{name}: expected batches (inputs, labels), got {got}")
    raw, raw_labels = element
    if is_frame(raw):
        raise ValueError(
            f"{name}: the batches are data frames: pass one, as by pandas.concat"
        )
    labels = as_array(raw_labels, f"{name}: labels of batch {i}")
    inputs: Any
    if isinstance(raw, Mapping):
        inputs = {k: as_array(v, f"{name}: {k} of batch {i}") for k, v in raw.items()}
    else:
        inputs = as_array(raw, f"{name}: inputs of batch {i}")
    parts = list(inputs.values()) if isinstance(raw, Mapping) else [inputs]
    if not labels.ndim or not all(part.ndim for part in parts):
        raise ValueError(
            f"{name}: the elements are single examples, not batches: batch them, as by "
            ".batch(32), or DataLoader(..., batch_size=32)"
        )
    for part in parts:
        if len(part) != len(labels):
            raise ValueError(
                f"{name}: batch {i} has {len(part)} inputs and {len(labels)} labels"
            )
    if hasattr(raw, "detach"):
        inputs = _channels_last(inputs)
    return inputs, labels


def _channels_last(inputs: np.ndarray) -> np.ndarray:
    """PyTorch's images (examples, channels, height, width) as Keras has them."""
    if inputs.ndim != 4 or inputs.shape[1] not in CHANNELS:
        return inputs
    return inputs if inputs.shape[3] in CHANNELS else np.moveaxis(inputs, 1, 3)


def _whole(labels: np.ndarray) -> np.ndarray:
    """Floating labels as integers, where nothing is lost."""
    whole = labels.dtype.kind == "f" and (labels == np.round(labels)).all()
    return labels.astype("int64") if whole else labels


def _arrays(pair: Pair) -> dict[str, np.ndarray]:
    """The arrays of a batch by name."""
    inputs, labels = pair
    named = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    return {**named, "labels": labels}


def check_alike(first: Pair, pair: Pair, name: str, i: int) -> None:
    """Raises a ``ValueError`` where a batch does not go with the first."""
    ours, theirs = _arrays(first), _arrays(pair)
    if set(ours) != set(theirs):
        raise ValueError(
            f"{name}: batch {i} has {', '.join(theirs)}, batch 0 has {', '.join(ours)}"
        )
    for key, one in ours.items():
        other = theirs[key]
        if one.shape[1:] != other.shape[1:]:
            raise ValueError(
                f"{name}: batch {i} has {key} of shape {other.shape}, batch 0 of "
                f"{one.shape}: all examples must have one shape: pad or cut them"
            )
        if one.dtype != other.dtype:
            raise ValueError(
                f"{name}: batch {i} has {key} of {other.dtype}, batch 0 of {one.dtype}"
            )


def joined(pairs: list[Pair]) -> Pair:
    """All batches as one."""
    named = [_arrays(pair) for pair in pairs]
    whole = {key: np.concatenate([one[key] for one in named]) for key in named[0]}
    labels = whole.pop("labels")
    return (whole if isinstance(pairs[0][0], dict) else whole["inputs"]), labels


def _keys(pair: Pair) -> list[bytes]:
    """A hash of each example's inputs and label."""
    arrays = list(_arrays(pair).values())
    keys = []
    for row in range(len(arrays[-1])):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array_bytes(array[row : row + 1]))
        keys.append(digest.digest())
    return keys


def size_of(pair: Pair) -> int:
    """Bytes of a batch in memory."""
    texts = [one for one in _arrays(pair).values() if one.dtype == object]
    letters = sum(len(text) for one in texts for text in one.ravel())
    return letters + sum(one.nbytes for one in _arrays(pair).values())
