"""Arrays of the caller's own as a dataset."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo import hparams
from kzoo.datasets.array_kinds import STEPS, task_of, understood
from kzoo.datasets.class_labels import Meaning, meaning, tell_untrained
from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.in_memory import (
    FLOAT32_MAX,
    as_array,
    check_aligned,
    check_finite,
    frame_inputs,
    is_frame,
    position,
)
from kzoo.datasets.overlaps import overlapping_windows
from kzoo.datasets.splits import (
    SPLITS,
    fair_parts,
    grouped_parts,
    parted,
    rows_of,
    stratified_rows,
)
from kzoo.datasets.text import TextOptions, text_dataset
from kzoo.hparams import hp
from kzoo.preprocessing import Preprocessing, standardized

log = logging.getLogger(__name__)

MAX_VOCAB_SIZE = 10_000_000  # of a model's embeddings


@dataclass(frozen=True, kw_only=True)
class ArraysOptions(TextOptions):
    """Options of arrays; those of texts for arrays of str."""

    task: str | None = hp(None, "a task's name; none = by the arrays' types and shapes")
    num_classes: int | None = hp(
        None, "labels are 0 to this minus 1; none = those that there are", min=1
    )
    vocab_size: int | None = hp(None, "of tokens; none = the greatest + 1", min=1)
    classes: tuple[str, ...] = hp((), "names of the classes; none = the labels' own")
    columns: tuple[str, ...] = hp((), "names of the columns that vectors are made of")
    groups: bool = hp(False, "split by groups, which are given as an array (examples,)")


@dataclass(frozen=True)
class Given:
    """The arrays of one split, or of all examples.

    Attributes:
        inputs: an array, or a dict of arrays of texts.
        labels: as they came.
        columns: of a data frame of inputs; else none.
        named: the columns of a data frame of labels; else none.
    """

    inputs: Any
    labels: np.ndarray
    columns: tuple[str, ...] = ()
    named: tuple[str, ...] = ()


def from_arrays(source: Any, options: ArraysOptions, groups: Any = None) -> Dataset:
    """Makes a dataset of arrays, data frames, lists or tensors.

    Inputs are images (examples, height, width, channels), features (examples, time,
    features), vectors (examples, features) of a floating type, tokens (examples, time)
    of an integer type, or texts (examples,) of str; a dict of texts ``first`` and
    ``second`` holds pairs. Of a data frame, columns of numbers are vectors. Grey images
    of 8 bits may go without their last axis. 8-bit images are scaled to [0, 1]; other
    images and features are taken as they are; vectors and targets are standardised by
    the training split.

    Labels are what :func:`kzoo.datasets.class_labels.meaning` makes of them: integers,
    texts, booleans and one-hot rows are classes, floating numbers are targets, integers
    (examples, time) are a class each step, -1 where none counts.

    Args:
        source: a pair (inputs, labels), or a dict of pairs by split.
        options: how to understand them.
        groups: the group of each example (examples,): one group is in one split.

    Raises:
        ValueError: arrays that do not fit together, NaN, masks, or labels out of range.
    """
    given = _as_splits(source, options)
    options = _with_columns(given, options)
    kind, inputs = understood(
        {k: one.inputs for k, one in given.items()}, options.task, options.vocab_size
    )
    first = next(iter(inputs.values()))
    meant = meaning(
        {name: one.labels for name, one in given.items()},
        steps=first.shape[1:2] if kind in STEPS else None,
        task=options.task,
        num_classes=options.num_classes,
        classes=options.classes,
        columns=next(iter(given.values())).named,
    )
    task = task_of(kind, meant, options.task)
    whole = {name: Split(inputs[name], meant.arrays[name]) for name in given}
    splits = _split(whole, meant, kind, options, groups)
    if groups is not None:
        options = hparams.replace(options, "arrays", {"groups": True})
    if meant.classes:
        tell_untrained(splits["train"].labels, meant.classes)
    if kind in ("texts", "pairs"):
        made = text_dataset("arrays", options, splits, meant.classes)
        preprocessing = dataclasses.replace(made.preprocessing, columns=options.columns)
        return dataclasses.replace(made, preprocessing=preprocessing)
    fixed = _sizes(kind, splits, options)
    fixed["num_classes"] = len(meant.classes) or 1
    if meant.per_step:
        fixed["per_step"] = True
    return Dataset(
        name="arrays",
        options=options.to_json(),
        splits=splits,
        spec=Spec(task, kind, fixed, meant.classes, fingerprint(splits)),
        preprocessing=dataclasses.replace(
            _preprocessing(kind, splits["train"], meant.classes),
            columns=options.columns,
        ),
    )


def _as_splits(source: Any, options: ArraysOptions) -> dict[str, Given]:
    """The arrays of each split, or of "all", checked by themselves."""
    if isinstance(source, Mapping):
        check_splits(source)
        return {name: _pair(source[name], name, options) for name in SPLITS}
    return {"all": _pair(source, "", options)}


def check_splits(source: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` where a dict has other keys than the splits."""
    if set(source) != set(SPLITS):
        raise ValueError(
            f"a dict of arrays has the splits {', '.join(SPLITS)}; "
            f"got {', '.join(map(str, source)) or 'none'}"
        )


def _pair(value: Any, name: str, options: ArraysOptions) -> Given:
    """Inputs and labels, of equal length and without gaps."""
    where = f"{name}: " if name else ""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(
            f"{name or 'the data'}: expected a pair (inputs, labels), got "
            f"{type(value).__name__}"
        )
    raw, labels = value
    check_aligned(raw, labels, where)
    named = tuple(map(str, labels.columns)) if is_frame(labels) else ()
    labels = as_array(labels.to_numpy() if named else labels, f"{where}labels")
    columns: tuple[str, ...] = ()
    if is_frame(raw):
        inputs, columns = frame_inputs(raw, f"{where}inputs", options.columns)
    elif isinstance(raw, Mapping):
        inputs = _texts_by_name(raw, name or "the data")
    else:
        inputs = as_array(raw, f"{where}inputs")
    count = len(inputs["first"]) if isinstance(inputs, dict) else _length(inputs)
    if count != _length(labels) or not count:
        raise ValueError(f"{where}{count} inputs and {_length(labels)} labels")
    _check_numbers(labels, f"{where}labels", named)
    if not isinstance(inputs, dict):
        _check_numbers(inputs, f"{where}inputs", columns)
    return Given(inputs, labels, columns, named)


def _length(array: np.ndarray) -> int:
    return len(array) if array.ndim else 0


def _check_numbers(array: np.ndarray, what: str, columns: tuple[str, ...]) -> None:
    check_finite(array, what, columns)
    if array.dtype == np.float64 and np.abs(array).max(initial=0) > FLOAT32_MAX:
        index = np.argwhere(np.abs(array) > FLOAT32_MAX)[0]
        raise ValueError(
            f"{what} hold {array[tuple(index)]:g} in {position(index)}, beyond the "
            f"numbers of 32 bits (up to {FLOAT32_MAX:g})"
        )


def _texts_by_name(value: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Arrays of texts ``first`` and ``second``, in this order."""
    if set(value) != {"first", "second"}:
        raise ValueError(
            f"{name}: a dict of inputs has the texts first and second; got "
            f"{', '.join(map(str, value)) or 'none'}"
        )
    texts = {key: as_array(value[key], f"{name}: {key}") for key in ("first", "second")}
    shapes = {one.shape for one in texts.values()}
    kinds = {one.dtype == object and one.ndim == 1 for one in texts.values()}
    if len(shapes) > 1 or kinds != {True}:
        raise ValueError(f"{name}: first and second must be as many texts (examples,)")
    return texts


def _with_columns(given: Mapping[str, Given], options: ArraysOptions) -> ArraysOptions:
    """The options with the names of a data frame's columns."""
    columns = {name: one.columns for name, one in given.items() if one.columns}
    if not columns or options.columns:
        return options
    first = next(iter(columns.values()))
    for name, theirs in columns.items():
        if theirs != first:
            odd = next(iter(set(first) ^ set(theirs)), None)
            raise ValueError(
                f"train has the columns {', '.join(first)}, {name} has "
                f"{', '.join(theirs)}"
                + (f"; {odd!r} is not in both" if odd else "; bring them in one order")
            )
    return hparams.replace(options, "arrays", {"columns": first})


def _split(
    whole: Mapping[str, Split],
    meant: Meaning,
    kind: str,
    options: ArraysOptions,
    groups: Any,
) -> dict[str, Split]:
    """The caller's own splits, or those by groups, or by strata."""
    if "all" not in whole:
        if groups is not None:
            raise ValueError(
                "a dict of arrays says the splits already; groups= is for splits that "
                "are drawn"
            )
        return dict(whole)
    inputs, labels = whole["all"].inputs, whole["all"].labels
    of_one = None if meant.per_step or not meant.classes else labels
    if groups is not None:
        names = _names_of(groups, len(labels))
        parts = grouped_parts(names, of_one, options.seed, names=meant.classes)
        log.info("split by %s groups", len(set(names)))
        return parted(inputs, labels, rows_of(parts))
    if options.groups:
        raise ValueError(
            "these arrays were split by groups, which no run folder holds: pass "
            "groups= again, or a dict of splits"
        )
    _tell_overlap(inputs, kind)
    if of_one is None or kind == "pairs":
        parts = fair_parts(_keys(inputs), of_one, options.seed, names=meant.classes)
        rows = rows_of(parts)
    else:
        rows = _stratified(_keys(inputs), labels, meant.classes, options.seed)
    splits = parted(inputs, labels, rows)
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{len(labels)} examples are too few: no {name} example")
    return splits


def _keys(inputs: Any) -> Iterable[bytes]:
    """What an example's split hangs on: all that goes in."""
    if isinstance(inputs, dict):
        return (f"{a}\0{b}".encode() for a, b in zip(*inputs.values(), strict=True))
    return (row.encode() if isinstance(row, str) else row.tobytes() for row in inputs)


def _names_of(groups: Any, count: int) -> list[str]:
    """The name of each example's group."""
    array = as_array(groups, "groups")
    if array.shape != (count,):
        raise ValueError(f"groups of shape {array.shape} are not one for {count} rows")
    check_finite(array, "groups")
    return [str(one) for one in array.tolist()]


def _tell_overlap(inputs: Any, kind: str) -> None:
    """Warns where windows of one series would be in several splits."""
    if kind not in ("features", "vectors") or not overlapping_windows(inputs):
        return
    log.warning(
        "each example repeats part of the one before it, as overlapping windows of one "
        "series do: split at random, the test examples are partly training examples. "
        "Say by groups= (examples,) which belong together, or pass a dict of splits"
    )


def _stratified(
    keys: Iterable[bytes], labels: np.ndarray, classes: tuple[str, ...], seed: int
) -> dict[str, np.ndarray]:
    """The examples of each split, each class in its share."""
    present, counts = np.unique(labels, return_counts=True)
    if counts.min() < 3:
        rarest = classes[present[counts.argmin()]]
        raise ValueError(
            f"{len(labels)} examples are too few to split: each class needs 3 at "
            f"least, and {rarest!r} has {counts.min()}; pass a dict of splits, or "
            "task='regression' if labels are numbers to predict"
        )
    if len(labels) < max(20, 10 * len(present)):  # too few for scikit-learn's
        return rows_of(fair_parts(keys, labels, seed, names=classes))
    rows = stratified_rows(labels, seed)
    parts = np.empty(len(labels), int)
    for i, name in enumerate(SPLITS):
        parts[rows[name]] = i
    mended = fair_parts(keys, labels, seed, parts=parts, names=classes)
    return rows if (mended == parts).all() else rows_of(mended)


def _sizes(
    kind: str, splits: Mapping[str, Split], options: ArraysOptions
) -> dict[str, Any]:
    shape = splits["train"].inputs.shape
    for name, split in splits.items():
        if split.inputs.shape[1:] != shape[1:]:
            raise ValueError(
                f"train has examples of shape {shape[1:]}, {name} of "
                f"{split.inputs.shape[1:]}"
            )
    if kind == "images":
        size = shape[1] if shape[1] == shape[2] else tuple(shape[1:3])
        return {"image_size": size, "channels": shape[3]}
    if kind == "vectors":
        if options.columns and len(options.columns) != shape[1]:
            raise ValueError(
                f"{len(options.columns)} names of columns for {shape[1]} columns"
            )
        return {"num_features": shape[1], "image_size": None}
    if kind == "features":
        return {"vocab_size": 0, "num_features": shape[2], "sequence_length": shape[1]}
    highest = max(int(split.inputs.max()) for split in splits.values())
    lowest = min(int(split.inputs.min()) for split in splits.values())
    vocab_size = options.vocab_size or highest + 1
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"token {wrong} is out of range: a vocabulary of {vocab_size} is 0 to "
            f"{vocab_size - 1}"
        )
    if vocab_size > MAX_VOCAB_SIZE:
        raise ValueError(
            f"token {highest} makes a vocabulary of over {MAX_VOCAB_SIZE}; a table of "
            "numbers has a floating type"
        )
    return {"vocab_size": vocab_size, "sequence_length": shape[1]}


def _preprocessing(kind: str, train: Split, classes: tuple[str, ...]) -> Preprocessing:
    mean: tuple[float, ...] | None = (0.0,)
    scale: tuple[float, ...] | None = (1.0,)
    if kind == "tokens":
        mean = scale = None
    elif kind == "vectors":
        mean, scale = standardized(train.inputs)
    elif kind == "images" and train.inputs.dtype == np.uint8:
        scale = (255.0,)
    target_mean = target_scale = None
    if not classes:
        means, scales = standardized(train.labels[:, None])
        target_mean, target_scale = means[0], scales[0]
    return Preprocessing(
        input_mean=mean,
        input_scale=scale,
        target_mean=target_mean,
        target_scale=target_scale,
        classes=classes,
    )
