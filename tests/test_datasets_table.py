"""CSV files, arrays of str, and what is wrong with the files that people have."""

import csv
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kzoo
import kzoo.datasets.splits
from kzoo.datasets.csv_file import read_table
from kzoo.datasets.table import TableOptions, from_csv

WORDS = ("good", "fine", "great"), ("bad", "poor", "awful")


def reviews(count: int = 120) -> list[tuple[str, str]]:
    draw = random.Random(0)
    rows = []
    for i in range(count):
        word = draw.choice(WORDS[i % 2])
        rows.append((f'a {word} film, says "{i}"\nand more', ("up", "down")[i % 2]))
    return rows


def written(path: Path, header: Any, rows: Any, **changes: Any) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **changes)
        writer.writerow(header)
        writer.writerows(rows)
    return str(path)


def load(path: str, **options: Any) -> Any:
    return from_csv(path, TableOptions(**options))


def test_texts_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "reviews.csv", ["text", "mood"], reviews())
    data = load(path)
    assert (data.spec.task, data.spec.inputs) == ("text-classification", "texts")
    assert data.spec.classes == ("down", "up")
    found = {
        text: data.spec.classes[label]
        for split in data.splits.values()
        for text, label in zip(split.inputs, split.labels, strict=True)
    }
    assert found == dict(reviews())
    assert load(path).spec == data.spec != load(path, seed=1).spec
    tabs = written(
        tmp_path / "reviews.tsv", ["text", "mood"], reviews(), delimiter="\t"
    )
    assert load(tabs).spec.fingerprint == data.spec.fingerprint


def test_the_same_text_is_in_one_split(tmp_path: Path) -> None:
    rows = [(f"text {i % 40}", str(i % 2)) for i in range(160)]
    data = load(written(tmp_path / "a.csv", ["text", "label"], rows))
    where = [set(split.inputs) for split in data.splits.values()]
    assert sum(map(len, where)) == 40


def test_numbers_are_columns_and_whole_labels_are_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(80, 3))
    rows = [[*row, (2, 10)[i % 2]] for i, row in enumerate(numbers)]
    path = written(tmp_path / "a.csv", ["height", "weight", "age", "group"], rows)
    data = load(path)
    assert data.spec.task == "tabular-classification"
    assert data.spec.classes == ("2", "10") == data.preprocessing.classes  # by value
    assert data.spec.hparams["num_features"] == 3
    together = np.concatenate([split.inputs for split in data.splits.values()])
    order = [np.argsort(array[:, 0]) for array in (together, numbers)]
    np.testing.assert_allclose(together[order[0]], numbers[order[1]], rtol=1e-6)
    fewer = load(path, inputs=("age", "height"))
    assert fewer.spec.hparams["num_features"] == 2
    target = load(path, label="weight", inputs=("height",))
    assert (target.spec.task, target.spec.classes) == ("regression", ())
    assert load(path, task="regression").spec.task == "regression"
    assert target.spec.hparams["num_classes"] == 1


def test_a_target_of_texts_is_a_regression_of_texts(tmp_path: Path) -> None:
    rows = [(f"number {i}", i / 7) for i in range(60)]
    data = load(written(tmp_path / "a.csv", ["text", "value"], rows))
    assert (data.spec.task, data.spec.inputs) == ("regression", "texts")
    batch = data.eval_batches("train", len(data.splits["train"]))[0]
    assert batch["labels"].std() == pytest.approx(1, abs=1e-5)


def test_the_file_may_say_the_splits(tmp_path: Path) -> None:
    names = ("train", "train", "validation", "test")
    rows = [(f"t{i}", i // 4 % 2, names[i % 4]) for i in range(40)]
    path = written(tmp_path / "a.csv", ["text", "label", "part"], rows)
    data = load(path, split="part", label="label")
    assert [len(data.splits[name]) for name in names[1:]] == [20, 10, 10]
    assert set(data.splits["test"].inputs) == {f"t{i}" for i in range(3, 40, 4)}


ROWS = "text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(40))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (ROWS, {"label": "lable"}, "a.csv has no column 'lable'. Did you mean 'label'"),
        (ROWS, {"inputs": ("txt",)}, "a.csv has no column 'txt'. Did you mean 'text'?"),
        (ROWS + "one,two,3\n", {}, "a.csv, line 42: 3 fields, the header has 2"),
        (ROWS + "alone\n", {}, "a.csv, line 42: 1 fields, the header has 2"),
        (ROWS + '"a\nb",1\n ,1\n', {}, "a.csv, line 44: 'text' is empty"),
        (ROWS + "a,\n", {}, "a.csv, line 42: 'label' is empty"),
        (ROWS + '"a,1\n', {}, "a.csv, line 42: unexpected end of data"),
        ("text,label\n", {}, "a.csv has no rows below its header"),
        ("", {}, "a.csv has no rows below its header"),
        ("a,a\n1,2\n", {}, "a.csv has two columns 'a'"),
        ("label\n1\n2\n", {}, "a.csv has no column beside 'label'"),
        ("text,label\na,1\nb,1\n", {}, "'label' holds the one class '1'"),
        (
            "text,label,part\n" + "a,1,train\nb,2,train\nc,9,test\nd,1,validation\n",
            {"split": "part", "label": "label"},
            "the class '9' has no training example (1 in",
        ),
        (
            "x,y,label\n1,2,0\n3,four,1\n",
            {},
            "a.csv, line 3: 'y' holds 'four', which is no finite number",
        ),
        (
            "x,label\n1,0\nnan,1\n3,x\n",
            {"label": "x", "task": "regression"},
            "line 3: ",
        ),
        (
            ROWS + "word " * 300 + ",1\n",
            {},
            "has 300 tokens, more than max_length=256;",
        ),
        (ROWS, {"tokenizer": "wrod"}, "tokenizer='wrod' is neither a folder or file"),
        (
            ROWS.replace("label", "label,split")
            .replace("1\n", "1,train\n")
            .replace("0\n", "0,tset\n"),
            {"split": "split", "label": "label"},
            "a.csv, line 2: 'split' holds 'tset', not one of train, validation, test",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    content: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load(str(tmp_path / "a.csv"), **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_large_numbers_keep_their_differences(tmp_path: Path) -> None:
    """Seconds since 1970, and targets of a billion and a little."""
    rows = [(1_700_000_000 + i % 60, i % 7, 1e9 + i % 60 / 8) for i in range(240)]
    path = written(tmp_path / "a.csv", ["time", "x", "y"], rows)
    data = load(path)
    batch = data.eval_batches("train", len(data.splits["train"]))[0]
    expected = data.splits["train"].inputs[:, 0] - 1_700_000_000
    time = batch["inputs"][:, 0]
    assert time.dtype == np.float32
    assert np.corrcoef(time, expected)[0, 1] > 0.999999
    assert np.corrcoef(batch["labels"], expected)[0, 1] > 0.999999
    targets = data.preprocessing.predictions(batch["labels"])
    np.testing.assert_allclose(targets, data.splits["train"].labels, rtol=1e-15)


def test_ordinary_numbers_stay_in_32_bits(tmp_path: Path) -> None:
    """So that the splits of a file are what they were: keys are the rows' bytes."""
    rng = np.random.default_rng(0)
    rows = np.round(rng.normal(100, 1, (50, 3)), 3)
    data = load(written(tmp_path / "a.csv", ["a", "b", "y"], rows))
    keys = [row.tobytes() for row in rows[:, :2].astype("float32")]
    names = [kzoo.datasets.splits.split_of(key, 0) for key in keys]
    assert {k: len(s) for k, s in data.splits.items()} == {
        k: names.count(k) for k in data.splits
    }
    assert data.splits["train"].inputs.dtype == np.float32


def test_spaces_around_labels_make_no_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(f"text {i}", ("pos", "pos ", " neg", "neg")[i % 4]) for i in range(60)]
    with caplog.at_level("INFO", "kzoo"):
        data = load(written(tmp_path / "a.csv", ["text", "label"], rows))
    assert data.spec.classes == ("neg", "pos")
    assert "spaces around classes" in caplog.text
    caplog.clear()
    rows = [(f"text {i}", ("Pos", "pos", "01", "1")[i % 4]) for i in range(60)]
    assert len(load(written(tmp_path / "b.csv", ["t", "y"], rows)).spec.classes) == 4
    assert "Pos and pos are classes of their own" in caplog.text
    assert "01 and 1 are classes of their own" in caplog.text


def test_a_column_of_texts_may_begin_with_a_number(tmp_path: Path) -> None:
    rows = [("1984" if i == 0 else f"book {i}", i % 2) for i in range(40)]
    data = load(written(tmp_path / "a.csv", ["title", "y"], rows))
    assert data.spec.inputs == "texts"
    pairs = [(*row[:1], f"more {i}", row[1]) for i, row in enumerate(rows)]
    data = load(written(tmp_path / "b.csv", ["title", "other", "y"], pairs))
    assert data.spec.inputs == "pairs of texts"


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("x,y", lambda i: (i, "n/a" if i == 7 else i / 8), "line 9: 'y' holds 'n/a'"),
        ("x,y", lambda i: ("?" if i == 7 else i / 8, i % 2), "line 9: 'x' holds '?'"),
        (
            "who,x,y",
            lambda i: (f"patient {i}", i / 8, i % 2),
            "the column 'who' holds texts, such as 'patient 0': name the columns that "
            "go in by inputs=",
        ),
        ("x,y", lambda i: (1e39 if i == 7 else i, i % 2), "line 9: 'x' holds '1e+39'"),
    ],
)
def test_what_is_no_number_is_named_by_line(
    header: str, row: Any, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.csv", header.split(","), map(row, range(40)))
    with pytest.raises(ValueError) as error:
        load(path)
    assert message in str(error.value)


def test_what_may_have_been_meant_otherwise_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prices = [(f"house {i}", 100 * i) for i in range(60)]
    with pytest.raises(ValueError, match="or task=regression predicts numbers"):
        load(written(tmp_path / "a.csv", ["text", "price"], prices))
    assert "60 different whole numbers" in caplog.text
    assert "task=regression" in caplog.text
    caplog.clear()
    floats = [(f"text {i}", float(i % 2)) for i in range(60)]
    data = load(written(tmp_path / "b.csv", ["text", "y"], floats))
    assert data.spec.task == "regression"
    assert "0.0, 1.0 alone" in caplog.text and "task=classification" in caplog.text
    caplog.clear()
    counted = [(i, i % 7 / 8, i % 2) for i in range(60)]
    load(written(tmp_path / "c.csv", ["patient", "x", "y"], counted))
    assert "the column 'patient' seems to number the rows" in caplog.text
    caplog.clear()
    load(tmp_path / "c.csv", inputs=("x",))
    assert not caplog.text


def test_an_index_without_a_name_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(i, i % 7 / 8, i % 5 / 8, i % 2) for i in range(60)]
    data = load(written(tmp_path / "a.csv", ["", "x", "z", "y"], rows))
    assert data.preprocessing.columns == ("x", "z")
    assert "has no name, as an index" in caplog.text


def test_the_label_is_not_among_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS)
    with pytest.raises(ValueError, match="'label' is the column to predict, and is"):
        load(str(tmp_path / "a.csv"), inputs=("text", "label"))
    (tmp_path / "b.csv").write_text("part\ntrain\ntest\n")
    (tmp_path / "c.csv").write_text('""\n1\n2\n')
    with pytest.raises(ValueError, match=r"c\.csv has no column, of a name"):
        load(str(tmp_path / "c.csv"))
    with pytest.raises(ValueError, match=r"b\.csv has no column beside 'part'"):
        load(str(tmp_path / "b.csv"), split="part")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*nothing\.csv"):
        load(str(tmp_path / "nothing.csv"))


@given(
    st.lists(st.text("aé日\t", max_size=4), max_size=4),
    st.text("aé日", max_size=4),
    st.booleans(),
)
def test_invalid_utf8_is_told_by_line_and_column(
    lines: list[str], before: str, mark: bool
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        start = "".join(line + "\n" for line in lines) + before
        content = (b"\xef\xbb\xbf" if mark else b"") + start.encode() + b"\xe9,1\n"
        path.write_bytes(content)
        with pytest.raises(ValueError) as error:
            read_table(path)
        where = f"line {len(lines) + 1}, column {len(before) + 1}: byte 0xe9 is not"
        assert where in str(error.value)


def test_a_mark_at_the_beginning_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ROWS, encoding="utf-8-sig")
    assert read_table(tmp_path / "a.csv").header == ("text", "label")


# --- arrays of str ----------------------------------------------------------------


def test_arrays_of_str_are_texts() -> None:
    texts = np.array([text for text, _ in reviews()])
    labels = np.array([mood == "up" for _, mood in reviews()]).astype("int32")
    data = kzoo.load_dataset((texts, labels), tokenizer="character", max_length=64)
    assert (data.spec.task, data.spec.inputs) == ("text-classification", "texts")
    assert data.spec.hparams["num_classes"] == 2
    assert data.spec.hparams["sequence_length"] == 64
    found = np.concatenate([split.inputs for split in data.splits.values()])
    assert sorted(found) == sorted(texts)
    as_objects = kzoo.load_dataset(
        (texts.astype(object), labels), tokenizer="character", max_length=64
    )
    assert as_objects.spec == data.spec
    target = kzoo.load_dataset((texts, labels * 0.5), max_length=64)
    assert target.spec.task == "regression"


def test_a_tokenizer_may_be_taken_from_a_model(tmp_path: Path) -> None:
    texts = np.array([text for text, _ in reviews()], object)
    labels = np.arange(len(texts)) % 2
    first = kzoo.load_dataset((texts, labels))
    model = kzoo.build_model("gru", vocab_size=9, units=4, num_layers=1)
    kzoo.save(model, tmp_path / "model", preprocessing=first.preprocessing)
    upper = np.array([text.upper() for text in texts], object)
    for place in (tmp_path / "model", tmp_path, tmp_path / "model" / "tokenizer.json"):
        taken = kzoo.load_dataset((upper, labels), tokenizer=str(place))
        assert taken.preprocessing.tokenizer == first.preprocessing.tokenizer
    with pytest.raises(FileNotFoundError, match="has no tokeniser"):
        kzoo.load_dataset((texts, labels), tokenizer=str(Path(__file__).parent))


# --- images, and csv: by name -----------------------------------------------------


def test_a_column_of_image_files_is_read_lazily(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3)).astype("uint8")
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "files" / f"{i}.png")
    rows = [(f"files/{i}.png", ("cat", "dog")[i % 2]) for i in range(60)]
    path = written(tmp_path / "a.csv", ["file", "animal"], rows)
    data = kzoo.load_dataset(f"csv:{path}")
    assert (data.spec.task, data.spec.inputs) == ("image-classification", "images")
    assert data.spec.classes == ("cat", "dog")
    assert data.spec.hparams == {"image_size": (6, 5), "channels": 3, "num_classes": 2}
    found = {}
    for split in data.splits.values():
        images = split.rows(np.arange(len(split)))
        found |= {
            image.tobytes(): int(label)
            for image, label in zip(images, split.labels, strict=True)
        }
    assert found == {image.tobytes(): i % 2 for i, image in enumerate(pixels)}
    (tmp_path / "files" / "7.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.csv names .*7\.png, which is no"):
        kzoo.load_dataset(f"csv:{path}")


def test_a_file_is_trained_on_by_name_with_options_as_text(tmp_path: Path) -> None:
    path = written(
        tmp_path / "reviews.csv",
        ["mood", "text"],
        [(mood, text) for text, mood in reviews()],
    )
    options = kzoo.datasets.parse_options(
        f"csv:{path}", ["label=mood", "tokenizer=character", "max_length=64"]
    )
    data = kzoo.load_dataset(f"csv:{path}", **options)
    assert data.short_name == "csv_reviews"
    assert data.spec.classes == ("down", "up")
    with pytest.raises(ValueError, match=r"has no option 'lable'\. Did you mean"):
        kzoo.load_dataset(f"csv:{path}", lable="mood")
