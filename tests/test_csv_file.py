"""Reading CSV files as people have them: encodings, delimiters, names, numbers."""

import csv
import gzip
import io
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kzoo.datasets.csv_file import Table, are_numbers, decoded, is_number, read_table

TEXT = 'name,größe\n"Ann, or 日",1\nBob,2\n'
FIELD_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0")
ROWS = [["Ann, or 日", "1"], ["Bob", "2"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_every_encoding_with_a_mark_is_read(
    encoding: str, line_end: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.CSV"
    path.write_bytes(TEXT.replace("\n", line_end).encode(encoding))
    table = read_table(path)
    assert (table.header, table.rows) == (("name", "größe"), ROWS)
    packed = tmp_path / "b.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_table(packed).rows == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_seen(
    delimiter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["text", "label"], ["one, two; three", "a"], ["x|\ty", "b"]])
    with caplog.at_level(logging.INFO, "kzoo"):
        table = read_table(path)
    assert table.rows == [["one, two; three", "a"], ["x|\ty", "b"]]
    assert ("instead of commas" in caplog.text) == (delimiter != ",")


def test_one_column_of_texts_is_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text;or not\na;b\nplain\n")
    assert read_table(path).header == ("text;or not",)
    assert read_table(path).rows == [["a;b"], ["plain"]]


def test_the_line_that_tells_excel_the_delimiter_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sep=;\nx;y\n1;2\n")
    table = read_table(path)
    assert (table.header, table.rows, table.lines) == (("x", "y"), [["1", "2"]], [3])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", TEXT.encode("utf-16-le"), "looks like UTF-16; convert the file, as"),
        ("a.csv", TEXT.encode("utf-16")[:-1], "begins as utf-16-le but is not"),
        ("a.csv", "naïve,x\n1,2\n".encode("latin-1"), "iconv -f latin1 -t utf-8"),
        ("a.csv", b"a,b\n1,\x00\n", "line 2: a NUL character"),
        ("a.csv.gz", gzip.compress(TEXT.encode())[:-9], "is a damaged gzip file"),
        ("a.csv.gz", b"\x1f\x8bnothing", "is a damaged gzip file"),
        ("a.parquet", b"PAR1", "kzoo reads .csv, .tsv, .csv.gz, .tsv.gz; read .parq"),
        ("a.XLSX", b"PK", "read .xlsx by pandas.read_excel"),
    ],
    ids=["unmarked", "cut", "latin-1", "nul", "short", "no gzip", "parquet", "excel"],
)
def test_what_is_no_csv_file_is_one_line(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_table(tmp_path / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_header_of_numbers_is_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text("5.1,3.5,0\n4.9,3.0,1\n")
    read_table(tmp_path / "a.csv")
    assert "first line of" in caplog.text and "5.1, 3.5, 0" in caplog.text


def test_a_number_that_is_none_is_named_by_line_and_column() -> None:
    def column(*fields: str) -> Table:
        rows = [[field] for field in fields]
        return Table(Path("a.csv"), ("x",), rows, [*range(2, 2 + len(rows))])

    assert column("1e3", " -2.5 ").numbers("x").tolist() == [1000.0, -2.5]
    for bad, message in (
        ("--5", "a.csv, line 3: 'x' holds '--5', which is no finite number"),
        ("1_000", "a.csv, line 3: 'x' holds '1_000', which is no finite number"),
        ("inf", "a.csv, line 3: 'x' holds 'inf', which is no finite number"),
        ("1,5", "a.csv, line 3: 'x' holds '1,5', which is no finite number; write dec"),
        ("1e39", "a.csv, line 3: 'x' holds '1e39', beyond the numbers of 32 bits"),
    ):
        with pytest.raises(ValueError) as error:
            column("1", bad).numbers("x")
        assert str(error.value).startswith(message)


def test_a_column_is_judged_as_a_whole() -> None:
    years = ["1984", "a novel", "another"]
    assert not are_numbers(years)
    assert are_numbers(["1", "2", "3"] * 4 + ["N/A"])  # a gap, which numbers() names
    assert not are_numbers(["1", "2", "n/a"])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_what_python_writes_as_a_number_is_one(value: float) -> None:
    assert is_number(repr(value))


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            min_size=2,
            max_size=2,
        ),
        min_size=2,
        max_size=5,
    )
)
def test_what_python_writes_is_read_as_it_was(rows: list[list[str]]) -> None:
    header = [f"first {rows[0][0]}".strip(), "second"]
    whole = io.StringIO()
    csv.writer(whole).writerows([header, *rows[1:]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(whole.getvalue().encode())
        table = read_table(path)
    assert [list(table.header), *table.rows] == [header, *rows[1:]]


@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".csv.gz"]))
def test_any_bytes_are_a_table_or_one_line(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        for data in (content, b"\x1f\x8b" + content, b"a,b\n" + content):
            path.write_bytes(data)
            try:
                table = read_table(path)
            except ValueError as error:
                assert "\n" not in str(error) and str(path) in str(error)
            else:
                assert {len(row) for row in table.rows} == {len(table.header)}
                assert "\0" not in decoded(path)
                assert np.all(np.diff(table.lines) > 0)
