"""Reading CSV files: encodings, delimiters, columns by name, numbers."""

import codecs
import csv
import gzip
import io
import logging
import re
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.hparams import in_short, nearest

log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
# Tables of other kinds, and what reads them.
OTHERS = {
    ".parquet": "pandas.read_parquet",
    ".feather": "pandas.read_feather",
    ".xlsx": "pandas.read_excel",
    ".xls": "pandas.read_excel",
    ".ods": "pandas.read_excel",
    ".jsonl": "pandas.read_json",
}
# The first bytes of a file -> its encoding; UTF-32's begin with those of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
DELIMITERS = ";\t|"  # beside the comma
# How missing numbers are written, in lower case.
MISSING = frozenset({"na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", "#n/a"})
FLOAT32_MAX = float(np.finfo("float32").max)


def is_table(path: str | Path) -> bool:
    """Whether a file of this name is a CSV file.

    >>> is_table("sales.CSV"), is_table("sales.csv.gz"), is_table("sales.txt")
    (True, True, False)
    """
    return str(path).lower().endswith(SUFFIXES)


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
            near = nearest(name, self.header)
            columns = "" if near else f"; it has {in_short(list(self.header))}"
            raise ValueError(f"{self.path} has no column {name!r}{near}{columns}")
        at = self.header.index(name)
        fields = [row[at] for row in self.rows]
        for field, line in zip(fields, self.lines, strict=True):
            if not field.strip():
                raise ValueError(f"{self.path}, line {line}: {name!r} is empty")
        return fields

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers in float64, all of which float32 can hold.

        Raises:
            ValueError: a field is no number, not finite, or beyond float32's range.
        """
        fields = self.column(name)
        for field, line in zip(fields, self.lines, strict=True):
            if not is_number(field):
                decimal = re.fullmatch(r"\s*[+-]?\d+,\d+\s*", field)
                hint = "; write decimal points instead of commas" if decimal else ""
                raise ValueError(
                    f"{self.path}, line {line}: {name!r} holds {field!r}, which is no "
                    f"finite number{hint}"
                )
            if abs(float(field)) > FLOAT32_MAX:
                raise ValueError(
                    f"{self.path}, line {line}: {name!r} holds {field!r}, beyond the "
                    f"numbers of 32 bits (up to {FLOAT32_MAX:.2g})"
                )
        return np.array([float(field) for field in fields])


def is_number(field: str) -> bool:
    """Whether a field is a finite number.

    >>> [is_number(field) for field in ("1e3", " -2 ", "nan", "1_000", "1,5")]
    [True, True, False, False, False]
    """
    if "_" in field:  # which Python's numbers may have
        return False
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def are_numbers(fields: Sequence[str]) -> bool:
    """Whether a column is one of numbers, given a few gaps; numbers() tells of them.

    Numbers are in nine of ten fields or more, and the others say that one is missing.
    """
    others = [field for field in fields if not is_number(field)]
    missing = all(field.strip().lower() in MISSING for field in others)
    return missing and len(others) <= len(fields) / 10


def existing_table(path: str | Path) -> Path:
    """The file; an error where there is none, or it is a table of another kind."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in OTHERS:
        raise ValueError(
            f"{path}: kzoo reads {', '.join(SUFFIXES)}; read {suffix} by "
            f"{OTHERS[suffix]}, and pass the data frame to kzoo or save it by .to_csv"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path


def read_table(path: str | Path) -> Table:
    """Reads a CSV file, which may be compressed by gzip.

    One that ends in .tsv is cut at tabs. Any other is cut at commas; or at semicolons,
    tabs or bars where its header has no comma and all rows are cut alike by them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8 (with line and column), has no rows, or rows of
            another length than the header.
    """
    path = existing_table(path)
    text = decoded(path)
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # texts are long
    header, lines = _cut(path, text, delimiter_of(path, text))
    if not lines:
        raise ValueError(f"{path} has no rows below its header")
    names = tuple(name.strip() for name in header)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} has two columns {twice!r}")
    if all(map(is_number, names)):
        log.warning(
            "the first line of %s holds numbers alone, %s, and was taken for the names "
            "of the columns: if it is an example, put a line of names above it",
            path,
            in_short(list(names)),
        )
    rows = [row for row, _ in lines]
    return Table(path, names, rows, [line for _, line in lines])


def _cut(
    path: Path, text: str, delimiter: str
) -> tuple[list[str], list[tuple[list[str], int]]]:
    """The header, and each row with the line of the file that it ends in."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[tuple[list[str], int]] = []
    try:
        for row in reader:
            if not row or (reader.line_num == 1 and _is_separator_line(row, delimiter)):
                continue
            if not header:
                header = row
                continue
            if len(row) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, the header "
                    f"has {len(header)}"
                )
            rows.append((row, reader.line_num))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return header, rows


def _is_separator_line(row: Sequence[str], delimiter: str) -> bool:
    """Whether this is the line ``sep=;`` by which Excel is told the delimiter."""
    return delimiter.join(row).strip().lower() == f"sep={delimiter}"


def delimiter_of(path: Path, text: str) -> str:
    """What the fields of a CSV file lie between."""
    if path.name.lower().endswith((".tsv", ".tsv.gz")):
        return "\t"
    first = text.lstrip("\r\n").partition("\n")[0].strip("\r")
    said = re.fullmatch(r"(?i)sep=(.)", first)
    if said:
        return said[1]
    if "," in first:
        return ","
    for delimiter in DELIMITERS:
        if delimiter in first:
            try:
                header, rows = _cut(path, text, delimiter)
            except ValueError:
                continue
            if rows and len(header) > 1:
                log.info("%s is cut at %r instead of commas", path, delimiter)
                return delimiter
    return ","


def decoded(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark.

    Raises:
        ValueError: it is none; names line and column.
    """
    content = _uncompressed(path)
    mark = next((mark for mark in MARKS if content.startswith(mark)), b"")
    content = content.removeprefix(mark)
    encoding = MARKS.get(mark, "utf-8")
    if not mark and _looks_like_utf_16(content):
        order = "be" if content[:1] == b"\0" else "le"
        raise ValueError(
            f"{path} is not UTF-8 but looks like UTF-16; convert the file, as by "
            f"iconv -f utf-16{order} -t utf-8"
        )
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}{_where(content, error, encoding)}") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}: a NUL character: not a text file")
    return text


def _uncompressed(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from None


def _looks_like_utf_16(content: bytes) -> bool:
    """Whether most of every second byte is zero, as in Latin letters."""
    start = content[:200]
    even, odd = start[::2].count(0), start[1::2].count(0)
    return min(even, odd) == 0 and max(even, odd) > len(start) / 4


def _where(content: bytes, error: UnicodeDecodeError, encoding: str) -> str:
    """Where a file cannot be decoded, and what to do."""
    if encoding != "utf-8":
        return f" begins as {encoding} but is not: {error.reason}; convert it to UTF-8"
    before = content[: error.start]
    line = before.count(b"\n") + 1
    start = before.rfind(b"\n") + 1
    column = len(before[start:].decode("utf-8", "replace")) + 1
    return (
        f", line {line}, column {column}: byte 0x{content[error.start]:02x} "
        "is not UTF-8; convert the file, as by iconv -f latin1 -t utf-8"
    )
