"""CSV files: ``csv:PATH``, a row an example.

The first line names the columns. One column of texts or of image files goes in, or
some of numbers; one column is the label, a number to predict, or a text to write.
"""

import codecs
import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.arrays import ArraysOptions, from_arrays
from kzoo.datasets.dataset import Dataset
from kzoo.datasets.examples import Split
from kzoo.datasets.image_files import SUFFIXES
from kzoo.datasets.images import ImageFiles, ImageOptions, images_dataset, reading
from kzoo.datasets.labeling import labelled_words
from kzoo.datasets.pairs import chosen_pairs
from kzoo.datasets.splits import SPLITS, fair_parts, grouped_parts, parted, rows_of
from kzoo.datasets.text import TextOptions, text_dataset
from kzoo.hparams import hp, nearest

TABLES = (".csv", ".tsv")
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


@dataclass(frozen=True)
class Table:
    """A CSV file in memory.

    Attributes:
        path: of the file.
        header: the columns' names.
        rows: of fields, as many as the header has.
        lines: of the file that each row ends in, for errors.
    """

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The fields of a column, none of them empty.

        Raises:
            ValueError: there is no such column, or a field of it is empty.
        """
        if name not in self.header:
            raise ValueError(
                f"{self.path} has no column {name!r}{nearest(name, self.header)}"
            )
        at = self.header.index(name)
        fields = [row[at] for row in self.rows]
        for field, line in zip(fields, self.lines, strict=True):
            if not field.strip():
                raise ValueError(f"{self.path}, line {line}: {name!r} is empty")
        return fields

    def numbers(self, name: str) -> np.ndarray:
        """A column of finite numbers.

        Raises:
            ValueError: a field is none.
        """
        fields = self.column(name)
        for field, line in zip(fields, self.lines, strict=True):
            if not _is_number(field):
                raise ValueError(
                    f"{self.path}, line {line}: {name!r} holds {field!r}, which is no "
                    "finite number"
                )
        return np.array([float(field) for field in fields])


def read_table(path: str | Path) -> Table:
    """Reads a CSV file; one that ends in .tsv is cut at tabs.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8 (with line and column), has no rows, or rows of
            another length than the header.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    text = decoded(path)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # texts are long
    delimiter = "\t" if path.suffix == ".tsv" else ","
    lines_of_text = io.StringIO(text, newline="")
    reader = csv.reader(lines_of_text, delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if not row:  # a blank line
                continue
            if rows and len(row) != len(rows[0]):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, the header "
                    f"has {len(rows[0])}"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"{path} has no rows below its header")
    header = tuple(name.strip() for name in rows[0])
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path} has two columns {twice!r}")
    return Table(path, header, rows[1:], lines[1:])


def decoded(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        ValueError: it is not; names line and column.
    """
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        start = before.rfind(b"\n") + 1
        column = len(before[start:].decode("utf-8", "replace")) + 1
        raise ValueError(
            f"{path}, line {line}, column {column}: byte 0x{content[error.start]:02x} "
            "is not UTF-8; convert the file, as by iconv -f latin1 -t utf-8"
        ) from None


def from_csv(path: str, options: TableOptions) -> Dataset:
    """Makes a dataset of a CSV file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or its columns are not as they should be.
    """
    table = read_table(path)
    apart = [name for name in (options.split, options.groups) if name is not None]
    for name in apart:
        table.column(name)  # is there one?
    label = options.label or [c for c in table.header if c not in apart][-1]
    columns = options.inputs or tuple(
        name for name in table.header if name not in (label, *apart)
    )
    if not columns:
        raise ValueError(f"{table.path} has no column beside {label!r}")
    if options.task == "sequence-labeling":
        return _labelled_words(table, columns, label, options)
    if options.task in WRITTEN:
        return _written(table, columns, label, options)
    labels, classes = _labels(table, label, options.task)
    inputs = raw_inputs(table, columns)
    splits = _splits(table, inputs, labels, options, classes)
    name = f"csv:{path}"
    if isinstance(inputs, dict):
        return text_dataset(name, options, splits, classes)
    if inputs.dtype == object and isinstance(inputs[0], Path):
        return _images(name, options, splits, classes)
    if inputs.dtype == object:
        return text_dataset(name, options, splits, classes)
    pairs = {key: (split.inputs, split.labels) for key, split in splits.items()}
    made = from_arrays(pairs, ArraysOptions(seed=options.seed))
    return dataclasses.replace(
        made,
        name=name,
        options=options.to_json(),
        spec=dataclasses.replace(made.spec, classes=classes),
        preprocessing=dataclasses.replace(made.preprocessing, classes=classes),
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

    Two columns of texts are pairs, a dict of ``first`` and ``second``.

    Raises:
        ValueError: several columns that are not all numbers.
    """
    fields = [table.column(name) for name in columns]
    if len(columns) == 2 and not any(map(_is_number, (fields[0][0], fields[1][0]))):
        names = ("first", "second")
        return {
            key: np.array(one, object) for key, one in zip(names, fields, strict=True)
        }
    if len(columns) > 1 or all(map(_is_number, fields[0])):
        return np.stack([table.numbers(name) for name in columns], 1).astype("float32")
    found = np.empty(len(fields[0]), object)
    found[:] = fields[0]
    if all(Path(field).suffix.lower() in SUFFIXES for field in fields[0]):
        # Relative to the file that names them.
        found[:] = [table.path.parent / field for field in fields[0]]
    return found


def _labels(
    table: Table, column: str, task: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Classes (rows,) and their names, or targets (rows,) and no names."""
    fields = table.column(column)
    whole = all(field.strip().lstrip("+-").isdecimal() for field in fields)
    if task == "regression" or (task is None and not whole and _all_numbers(fields)):
        return table.numbers(column).astype("float32"), ()
    classes = sorted(set(fields), key=float if whole else None)
    if len(classes) < 2:
        raise ValueError(f"{table.path}: {column!r} holds the one class {classes[0]!r}")
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[field] for field in fields], "int32"), tuple(classes)


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
        whole = Split(inputs, labels)
        splits = {
            key: Split(whole.rows(np.flatnonzero(rows)), labels[rows])
            for key, rows in kept.items()
        }
    for name, split in splits.items():
        if not len(split):
            raise ValueError(f"{table.path}: no row is in the split {name!r}")
    for number, one in enumerate(classes):
        if number not in splits["train"].labels:
            count = int((labels == number).sum())
            raise ValueError(
                f"{table.path}: the class {one!r} has no training example ({count} "
                "in the file); give it more, or say the splits in a column"
            )
    return splits


def _is_number(field: str) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _all_numbers(fields: Sequence[str]) -> bool:
    return all(map(_is_number, fields))
