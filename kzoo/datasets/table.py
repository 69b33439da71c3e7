"""CSV files: ``csv:PATH``, a row an example.

The first line names the columns. One column of texts or of image files goes in, or
some of numbers; one column is the label, a number to predict, or a text to write.
"""

import dataclasses
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.arrays import ArraysOptions, from_arrays
from kzoo.datasets.csv_file import Table, are_numbers, is_number, read_table
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import Split
from kzoo.datasets.image_files import SUFFIXES, similar_names
from kzoo.datasets.images import ImageFiles, ImageOptions, images_dataset, reading
from kzoo.datasets.labeling import labelled_words
from kzoo.datasets.pairs import chosen_pairs
from kzoo.datasets.splits import SPLITS, fair_parts, grouped_parts, parted, rows_of
from kzoo.datasets.text import TextOptions, text_dataset
from kzoo.hparams import hp, in_short

log = logging.getLogger(__name__)

WRITTEN = ("translation", "summarization")


@dataclass(frozen=True, kw_only=True)
class TableOptions(TextOptions, ImageOptions):
    """Options of CSV files; those of texts and images for columns of such."""

    inputs: tuple[str, ...] = hp((), "columns that go in; none = all but the label")
    label: str | None = hp(None, "the column to predict; none = the last one")
    split: str | None = hp(
        None, "a column of train, validation and test; none = split by a hash"
    )
    groups: str | None = hp(
        None, "a column of groups, such as patients: the rows of one are in one split"
    )
    task: str | None = hp(
        None,
        "none = regression where labels are numbers with a fraction; sequence-labeling "
        "= a class each word, both with spaces between them; translation or "
        "summarization = a text to write",
        choices=(None, "classification", "regression", "sequence-labeling", *WRITTEN),
    )


def from_csv(path: str, options: TableOptions) -> Dataset:
    """Makes a dataset of a CSV file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or its columns are not as they should be.
    """
    table = read_table(path)
    label, columns = chosen_columns(table, options)
    made = _dataset(f"csv:{path}", table, columns, label, options)
    preprocessing = dataclasses.replace(made.preprocessing, columns=columns)
    return dataclasses.replace(made, preprocessing=preprocessing)


def chosen_columns(table: Table, options: TableOptions) -> tuple[str, tuple[str, ...]]:
    """The column to predict, and those that go in.

    Raises:
        ValueError: a column is missing, none is left to go in, or the label goes in.
    """
    apart = [name for name in (options.split, options.groups) if name is not None]
    for name in apart:
        table.column(name)  # is there one?
    rest = [name for name in table.header if name not in apart]
    named = [name for name in rest if name]
    label = options.label or (named[-1] if named else None)
    if options.inputs:
        if label in options.inputs:
            raise ValueError(
                f"{table.path}: {label!r} is the column to predict, and is among "
                f"inputs={','.join(options.inputs)}"
            )
        columns = options.inputs
    else:
        columns = tuple(name for name in named if name != label)
        if len(named) < len(rest) and columns:
            log.warning(
                "a column of %s has no name, as an index that was saved with the "
                "table: it is left out",
                table.path,
            )
    if not columns or not label:
        beside = f" beside {label or apart[0]!r}" if label or apart else ", of a name"
        raise ValueError(f"{table.path} has no column{beside}")
    return label, columns


def _dataset(
    name: str,
    table: Table,
    columns: tuple[str, ...],
    label: str,
    options: TableOptions,
) -> Dataset:
    if options.task == "sequence-labeling":
        return _labelled_words(table, columns, label, options)
    if options.task in WRITTEN:
        return _written(table, columns, label, options)
    labels, classes = _labels(table, label, options.task)
    inputs = raw_inputs(table, columns)
    splits = _splits(table, inputs, labels, options, classes)
    if isinstance(inputs, dict):
        return text_dataset(name, options, splits, classes)
    if inputs.dtype == object and isinstance(inputs[0], Path):
        return _images(name, options, splits, classes)
    if inputs.dtype == object:
        return text_dataset(name, options, splits, classes)
    if not options.inputs:
        _warn_of_row_numbers(table, columns, inputs)
    pairs = {key: (split.inputs, split.labels) for key, split in splits.items()}
    made = from_arrays(
        pairs,
        ArraysOptions(
            seed=options.seed, num_classes=len(classes) or None, classes=classes
        ),
    )
    return dataclasses.replace(made, name=name, options=options.to_json())


def _warn_of_row_numbers(
    table: Table, columns: Sequence[str], inputs: np.ndarray
) -> None:
    """Warns of a column that numbers the rows, and so tells their order alone."""
    counting = (np.diff(inputs, axis=0) == 1).all(axis=0) & (len(inputs) > 2)
    named = [name.lower() in ("id", "index", "row", "unnamed: 0") for name in columns]
    for name, suspect in zip(columns, counting | named, strict=True):
        if suspect:
            log.warning(
                "%s: the column %r seems to number the rows, and goes in beside the "
                "others; name those that should by inputs=",
                table.path,
                name,
            )


def _labelled_words(
    table: Table, columns: Sequence[str], label: str, options: TableOptions
) -> Dataset:
    """A column of words and one of their classes."""
    texts = _one_text(table, columns)
    words = [text.split() for text in texts]
    tags = [field.split() for field in table.column(label)]
    parts = _splits(table, texts, np.arange(len(texts)), options, ())
    splits = {
        name: ([words[i] for i in part.labels], [tags[i] for i in part.labels])
        for name, part in parts.items()
    }
    return labelled_words(f"csv:{table.path}", options, splits)


def _written(
    table: Table, columns: Sequence[str], label: str, options: TableOptions
) -> Dataset:
    """A column of texts to read and one of those to write."""
    sources, texts = _one_text(table, columns), table.column(label)
    parts = _splits(table, sources, np.arange(len(texts)), options, ())
    pairs = {
        name: [(str(sources[i]), texts[i]) for i in part.labels]
        for name, part in parts.items()
    }
    return chosen_pairs(f"csv:{table.path}", options, pairs, str(options.task))


def _one_text(table: Table, columns: Sequence[str]) -> np.ndarray:
    """The one column of texts."""
    if len(columns) > 1:
        raise ValueError(
            f"{table.path}: texts are in one column, of {', '.join(columns)}; name it "
            "by inputs="
        )
    return np.array(table.column(columns[0]), object)


def _images(
    name: str, options: TableOptions, splits: dict[str, Split], classes: tuple[str, ...]
) -> Dataset:
    """Images that are read when their batch is made, as those in folders."""
    if not classes:
        raise ValueError(f"{name}: images have classes, not numbers to predict")
    files = [file for split in splits.values() for file in split.inputs]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{name} names {missing}, which is no file")
    read = reading(files, options)
    lazy = {
        key: ImageFiles(
            list(split.inputs),
            split.labels,
            [read.key(str(file), file) for file in split.inputs],
            read,
        )
        for key, split in splits.items()
    }
    return images_dataset(name, options, lazy, classes, read.size, read.channels)


def raw_inputs(table: Table, columns: Sequence[str]) -> Any:
    """Numbers (rows, columns), or texts or paths of images (rows,).

    What a column holds is decided by all of it. Two columns of texts are pairs, a dict
    of ``first`` and ``second``.

    Raises:
        ValueError: several columns that are not all numbers.
    """
    fields = {name: table.column(name) for name in columns}
    texts = [name for name in columns if not are_numbers(fields[name])]
    if not texts:
        return narrowed(np.stack([table.numbers(name) for name in columns], 1))
    if len(columns) == len(texts) == 2:
        return texts_of(table, columns)
    if len(columns) > 1:
        name = texts[0]
        count = sum(map(is_number, fields[name]))
        if 2 * count >= len(fields[name]):
            table.numbers(name)  # names the field that is none
        raise ValueError(
            f"{table.path}: the column {name!r} holds texts, such as "
            f"{fields[name][0]!r}: name the columns that go in by inputs=, which are "
            "numbers, or one or two of texts"
        )
    if all(Path(field).suffix.lower() in SUFFIXES for field in fields[columns[0]]):
        return files_of(table, columns[0])
    return texts_of(table, columns)


def texts_of(table: Table, columns: Sequence[str]) -> Any:
    """Texts (rows,); of two columns, pairs of them."""
    arrays = [np.array(table.column(name), object) for name in columns]
    if len(arrays) == 1:
        return arrays[0]
    return dict(zip(("first", "second"), arrays, strict=True))


def files_of(table: Table, column: str) -> np.ndarray:
    """Paths (rows,), which a table names relative to itself."""
    fields = table.column(column)
    paths = np.empty(len(fields), object)
    paths[:] = [table.path.parent / field for field in fields]
    return paths


def narrowed(numbers: np.ndarray) -> np.ndarray:
    """Numbers (rows, ...) in float32, where that rounds away no difference.

    In float64 where rounding reaches a thousandth of a column's standard deviation: a
    time in seconds since 1970 keeps no minute in float32.

    Example:
        >>> seconds = 1_700_000_000.0 + np.arange(60)
        >>> narrowed(seconds).dtype, narrowed(seconds - 1_700_000_000).dtype
        (dtype('float64'), dtype('float32'))
    """
    short = numbers.astype("float32")
    rounding = np.abs(short - numbers).max(axis=0)
    return short if (rounding <= 1e-3 * numbers.std(axis=0)).all() else numbers


def _labels(
    table: Table, column: str, task: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes (rows,) and their names, or targets (rows,) and no names."""
    raw = table.column(column)
    fields = [field.strip() for field in raw]
    whole = all(re.fullmatch(r"[+-]?\d+", field) for field in fields)
    if task == "regression" or (task is None and not whole and _are_targets(fields)):
        targets = table.numbers(column)
        few = len(set(targets.tolist())) <= 20 and (targets % 1 == 0).all()
        if task is None and few:
            log.warning(
                "%s: %r holds the numbers %s alone, which are taken for targets of a "
                "regression; if they are classes: task=classification",
                table.path,
                column,
                in_short(sorted(set(fields)), 3),
            )
        return narrowed(targets), ()
    classes = sorted(set(fields), key=lambda name: (float(name) if whole else 0, name))
    if len(classes) < 2:
        raise ValueError(f"{table.path}: {column!r} holds the one class {classes[0]!r}")
    _log_classes(table, column, raw, classes, whole and task is None)
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[field] for field in fields], "int32"), tuple(classes)


def _are_targets(fields: Sequence[str]) -> bool:
    """Whether labels are numbers to predict, given a few that cannot be read."""
    numbers = [field for field in fields if is_number(field)]
    fractions = any(not field.lstrip("+-").isdecimal() for field in numbers)
    return are_numbers(fields) or (fractions and len(numbers) >= 0.9 * len(fields))


def _log_classes(
    table: Table,
    column: str,
    raw: Sequence[str],
    classes: Sequence[str],
    maybe_numbers: bool,
) -> None:
    """Logs what was made of labels that people may have meant otherwise."""
    where = f"{table.path}: {column!r}"
    if len(set(raw)) > len(classes):
        spaced = next(field for field in raw if field != field.strip())
        log.info("%s: spaces around classes, as in %r, are left out", where, spaced)
    for group in similar_names(classes):
        log.warning("%s: %s are classes of their own", where, " and ".join(group))
    if maybe_numbers and len(classes) > max(20, len(raw) / 10):
        log.warning(
            "%s holds %s different whole numbers, each of which is a class; if they "
            "are numbers to predict: task=regression",
            where,
            len(classes),
        )


def _splits(
    table: Table,
    inputs: Any,
    labels: np.ndarray,
    options: TableOptions,
    classes: tuple[str, ...],
) -> dict[str, Split]:
    """By the column that says so, by groups, or by a hash of the inputs."""
    if options.split is not None and options.groups is not None:
        raise ValueError(
            f"{table.path}: split={options.split} says the splits already; "
            f"groups={options.groups} is for splits that are drawn"
        )
    known = labels if classes else None
    if options.groups is not None:
        groups = [field.strip() for field in table.column(options.groups)]
        try:
            parts = grouped_parts(groups, known, options.seed, names=classes)
        except ValueError as error:
            raise ValueError(f"{table.path}, {options.groups!r}: {error}") from None
        splits = parted(inputs, labels, rows_of(parts))
    elif options.split is None:
        rows = inputs
        if isinstance(inputs, dict):
            rows = [f"{a}\0{b}" for a, b in zip(*inputs.values(), strict=True)]
        keys = [
            one.tobytes() if isinstance(one, np.ndarray) else str(one).encode()
            for one in rows
        ]
        parts = fair_parts(keys, known, options.seed, names=classes)
        splits = parted(inputs, labels, rows_of(parts))
    else:
        where = [name.strip() for name in table.column(options.split)]
        for name, line in zip(where, table.lines, strict=True):
            if name not in SPLITS:
                raise ValueError(
                    f"{table.path}, line {line}: {options.split!r} holds {name!r}, not "
                    f"one of {', '.join(SPLITS)}"
                )
        kept = {name: np.array(where) == name for name in SPLITS}
        splits = parted(
            inputs, labels, {key: np.flatnonzero(rows) for key, rows in kept.items()}
        )
    whole = classes and all(map(is_number, classes))
    hint = "; or task=regression predicts numbers" if whole else ""
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{table.path}: no row is in the split {name!r}{hint}")
    for number, one in enumerate(classes):
        if number not in splits["train"].labels:
            count = int((labels == number).sum())
            raise ValueError(
                f"{table.path}: the class {one!r} has no training example ({count} "
                f"in the file); give it more, or say the splits in a column{hint}"
            )
    return splits
