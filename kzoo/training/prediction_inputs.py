"""From what users bring to predict on to raw examples: arrays, tables, texts, files."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.csv_file import Table, decoded, is_number
from kzoo.datasets.image_files import (
    SUFFIXES,
    find_images,
    is_ignored,
    kinds,
    log_left_out,
)
from kzoo.datasets.in_memory import as_array, frame_inputs, is_frame
from kzoo.datasets.table import files_of, texts_of
from kzoo.hparams import in_short, nearest
from kzoo.preprocessing.text import in_short as text_in_short

PAIRS = "pairs of texts"
# A word that ends so is a file's name, also to a model of texts.
FILES = (*SUFFIXES, ".txt", ".text", ".md", ".rst", ".html", ".pdf", ".doc", ".docx")
# Axes of one raw example, by what the model reads.
AXES = {
    "images": ("height", "width", "channels"),
    "features": ("time", "features"),
    "tokens": ("time",),
    "vectors": ("features",),
}


def as_sources(inputs: Any) -> list[Any] | None:
    """Texts and paths as a list; None where the inputs are numbers in memory.

    Raises:
        TypeError: neither, or texts and paths mixed with something else.
    """
    if isinstance(inputs, str | os.PathLike):
        return [inputs]
    if inputs is None or isinstance(inputs, bytes | bytearray | Mapping | bool):
        raise TypeError(
            f"cannot predict on {type(inputs).__name__}: expected a text, a path, a "
            "list of them, an array or a data frame"
        )
    if is_frame(inputs):
        return None
    listed = inputs
    if getattr(getattr(inputs, "dtype", None), "kind", "") in ("O", "U"):
        listed = np.asarray(inputs, object).tolist()
    if not isinstance(listed, list | tuple | Iterator):
        return None
    listed = list(listed)
    if not any(isinstance(one, str | os.PathLike) for one in listed):
        return None
    for i, one in enumerate(listed):
        if not isinstance(one, str | os.PathLike):
            raise TypeError(
                f"inputs[{i}] is {one!r}, a {type(one).__name__}, among texts or paths"
            )
    return listed


def rows_in_memory(inputs: Any, kind: str, columns: Sequence[str]) -> list[Any]:
    """Raw examples of an array, a list of rows or a data frame.

    Args:
        inputs: what :func:`as_sources` gave None for.
        kind: what the model reads.
        columns: those of a table that it was trained on; empty = all.

    Raises:
        ValueError: something is missing, or rows differ in length.
    """
    if is_frame(inputs):
        frame, _ = frame_inputs(inputs, "inputs", columns)
        if isinstance(frame, dict):
            return list(zip(frame["first"], frame["second"], strict=True))
        return list(frame)
    array = as_array(inputs, "inputs")
    axes = AXES.get(kind)
    if axes and array.ndim == len(axes):
        one = kind.removesuffix("s")
        raise ValueError(
            f"inputs of shape {array.shape} are one example, or lack an axis: expected "
            f"(examples, {', '.join(axes)}); one {one} alone is array[None]"
        )
    if not array.ndim:
        raise ValueError(f"inputs are the number {array}; expected (examples, ...)")
    return list(array)


def check_raw(row: np.ndarray, name: str, kind: str, known: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` for a raw example that would be broadcast or refused.

    Args:
        row: of one example.
        name: its own, for the error.
        kind: what the model reads.
        known: the model's hyper-parameters.
    """
    axes = AXES.get(kind)
    if axes is None:
        return
    if row.ndim != len(axes):
        raise ValueError(
            f"{name}: an example of shape {row.shape}; the model takes "
            f"({', '.join(axes)})"
        )
    last = {"images": "channels", "vectors": "num_features", "features": "num_features"}
    width = known.get(last.get(kind, ""))
    if width and row.shape[-1] != width:
        raise ValueError(
            f"{name}: {row.shape[-1]} {axes[-1]}, but the model was trained on {width}"
        )
    if row.dtype.kind == "f" and not np.isfinite(row).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(row))[0]]
        raise ValueError(
            f"{name}: NaN or infinity at {at[0] if len(at) == 1 else at}, which the "
            "model was not trained on"
        )


def table_rows(table: Table, kind: str, columns: Sequence[str]) -> Sequence[Any]:
    """Raw examples of a table, by the names of the columns that go in.

    Raises:
        ValueError: columns are missing, or hold something else.
    """
    missing = [name for name in columns if name not in table.header]
    if missing:
        near = nearest(missing[0], table.header) if len(missing) == 1 else ""
        raise ValueError(
            f"{table.path} lacks the column{'s' if len(missing) > 1 else ''} "
            f"{in_short(missing)}{near}; the model was trained on "
            f"{in_short(list(columns))}"
        )
    if kind == "vectors":
        return list(np.stack([table.numbers(name) for name in columns], 1))
    wanted = 2 if kind == PAIRS else 1
    if len(columns) != wanted:
        raise ValueError(
            f"{table.path} has the columns {in_short(list(columns))}; the model reads "
            f"{'two' if wanted == 2 else 'one'}, and its run does not say which"
        )
    if kind == "images":
        return list(files_of(table, columns[0]))
    if kind == PAIRS:
        pairs = texts_of(table, columns)
        return list(zip(pairs["first"], pairs["second"], strict=True))
    return table.column(columns[0])


def image_files(path: Path) -> Iterator[tuple[str, Path]]:
    """The images of a folder, or the file."""
    if path.is_dir():
        found = find_images(path)
        log_left_out(path, [found])
        if not found.images:
            others = f", but {kinds(found.others)}" if found.others else ""
            raise ValueError(f"there are no images in {path}{others}")
        yield from ((str(file), file) for file in found.images)
    elif path.is_file():
        yield str(path), path
    else:
        raise FileNotFoundError(f"there is no file {path}")


def texts(source: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """A text, or those of text files: each file is one.

    A file that is there is read if its name has a suffix; a word is a text even where a
    file is called so. Of a folder all .txt files are read.
    """
    path = Path(source)
    if is_folder(source):
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() == ".txt" and not is_ignored(file.name)
        )
        if not files:
            raise ValueError(f"there are no .txt files in {path}")
    elif not isinstance(source, str) or _names_a_file(source):
        files = [path]
    else:
        yield source, check_text(source, "the text")
        return
    for file in files:
        if not _is_file(file):
            raise FileNotFoundError(f"there is no file {file}")
        yield str(file), check_text(decoded(file), str(file))


def _names_a_file(source: str) -> bool:
    """Whether it is the name of a file that is there, or ends like one."""
    path = Path(source)
    called_so = path.suffix.lower() in FILES and " " not in source.strip()
    return called_so or bool(path.suffix and _is_file(path))


def is_folder(source: str | os.PathLike[str]) -> bool:
    """Whether there is a folder of this name; a long text has none."""
    try:
        return bool(str(source).strip()) and Path(source).is_dir()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def check_text(text: str, what: str) -> str:
    """The text; a ``ValueError`` where it is empty or cannot be encoded."""
    if not text.strip():
        raise ValueError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} {text_in_short(text)} holds half of a character "
            f"(U+{ord(text[error.start]):04X}), at {error.start}"
        ) from None
    return text


def numbers(source: str) -> np.ndarray:
    """The numbers of ``1,2.5,3``."""
    fields = source.split(",")
    if not all(map(is_number, fields)):
        raise ValueError(
            f"{source!r} is neither finite numbers such as 1,2.5,3 nor a .csv file"
        )
    return np.array([float(field) for field in fields])
