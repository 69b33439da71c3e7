"""``kzoo.predict`` on tables, rows in memory and texts as people have them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.training import Run
from kzoo.training.predict import predict
from kzoo.weights import load_preprocessing, weights_by_path

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict_tables")


@pytest.fixture(scope="module")
def table(folder: Path) -> Path:
    """The label says which of two columns is greater; one column says nothing."""
    path = folder / "trained.csv"
    numbers = RNG.normal(size=(200, 2)).round(3)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "winner", "note"])
        for i, (a, b) in enumerate(numbers):
            writer.writerow([a, b, "a" if a > b else "b", f"row {i}"])
    return path


@pytest.fixture(scope="module")
def run(folder: Path, table: Path) -> Run:
    return kzoo.train(
        "mlp",
        f"csv:{table}",
        data={"inputs": ("a", "b"), "label": "winner"},
        out=folder / "run",
        units=(16,),
        epochs=15,
        learning_rate=0.02,
        batch_size=20,
    )


def answers(run: Run, inputs: Any) -> list[str]:
    return [one.classes[0] for one in predict(run, inputs)]


EXPECTED = ["a", "b", "a"]
ROWS = [(3.0, -3.0), (-3.0, 3.0), (2.0, 1.0)]


def test_columns_are_taken_by_name(run: Run, tmp_path: Path) -> None:
    assert load_preprocessing(run.folder).columns == ("a", "b")
    path = tmp_path / "new.CSV"
    path.write_text("b,other,a\n" + "".join(f"{b},x,{a}\n" for a, b in ROWS))
    assert answers(run, path) == EXPECTED
    frame = pd.DataFrame({"b": [b for _, b in ROWS], "a": [a for a, _ in ROWS]})
    assert answers(run, frame) == EXPECTED
    # A model folder alone knows them, too.
    assert [one.classes[0] for one in predict(run.folder / "model", path)] == EXPECTED


def test_the_table_that_was_trained_on_is_answered_beside_its_columns(
    run: Run, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(run.folder), str(table), "--top", "1"]) == 0
    with open("predictions.csv", newline="") as file:
        rows = list(csv.reader(file))
    with open(table, newline="") as file:
        assert [row[:4] for row in rows] == list(csv.reader(file))
    assert rows[0][4:] == ["class_1", "probability_1"]
    right = [row[2] == row[4] for row in rows[1:]]
    assert np.mean(right) > 0.9


def test_answers_do_not_take_the_name_of_a_column(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("class_1,a,b\nold,1,2\n")
    out = tmp_path / "out.csv"
    assert main(["predict", str(run.folder), str(path), "--out", str(out)]) == 0
    header = out.read_text().splitlines()[0].split(",")
    assert header[:3] == ["class_1", "a", "b"]
    assert header[3] == "predicted_class_1"


@pytest.mark.parametrize(
    "inputs",
    [
        [list(row) for row in ROWS],
        [np.array(row) for row in ROWS],
        np.array(ROWS),
        np.array(ROWS, object),
        np.asfortranarray(ROWS),
        [f"{a},{b}" for a, b in ROWS],
    ],
    ids=["lists", "arrays", "array", "objects", "fortran", "texts"],
)
def test_rows_in_memory(run: Run, inputs: Any) -> None:
    assert answers(run, inputs) == EXPECTED


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (
            None,
            TypeError,
            "cannot predict on NoneType: expected a text, a path, a list",
        ),
        (b"1,2", TypeError, "cannot predict on bytes"),
        (["1,2", np.nan], TypeError, "inputs[1] is nan, a float, among texts or paths"),
        (np.ones(2), ValueError, "are one example, or lack an axis"),
        (np.ones((3, 1)), ValueError, "0: 1 features, but the model was trained on 2"),
        ("5", ValueError, "5: 1 features, but the model was trained on 2"),
        ("1,2,3", ValueError, "3 features, but the model was trained on 2"),
        ("1,nan", ValueError, "'1,nan' is neither finite numbers such as"),
        ([[1, 2], [1, np.nan]], ValueError, "1: NaN or infinity at 1, which the model"),
        ([[1, 2], [1]], ValueError, "row 0 has 2 elements, row 1 has 1"),
        (
            pd.DataFrame({"a": [1.0], "B": [2.0]}),
            ValueError,
            "no column 'b'. There are: B, a",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    run: Run, inputs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        predict(run, inputs)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "a,B\n1,2\n",
            "lacks the column b. There are: B, a; the model was trained on a, b",
        ),
        ("x,y\n1,2\n", "lacks the columns a, b; the model was trained on a, b"),
        ("a,b\n1,\n", "line 2: 'b' is empty"),
        ("a,b\n1,two\n", "line 2: 'b' holds 'two', which is no finite number"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(
    run: Run,
    content: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = tmp_path / "new.csv", tmp_path / "out.csv"
    path.write_text(content)
    assert main(["predict", str(run.folder), str(path), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_number_may_be_negative(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(run.folder), "-0.2,1", "--top", "1"]) == 0
    assert "-0.2,1" in capsys.readouterr().out


def test_no_file_is_lost(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("new.csv").write_text("a,b\n1,2\n")
    Path("predictions.csv").write_text("of another run")
    for words, message in (
        ([], "predictions.csv is there already: name another file by --out"),
        (["--out", "./new.csv"], "--out new.csv is an input, which would be lost"),
        (["--out", ""], "--out '' names no file"),
        (["--out", "nowhere/a.csv"], "there is no folder nowhere"),
    ):
        assert main(["predict", str(run.folder), "new.csv", *words]) == 2
        assert message in capsys.readouterr().err
    assert Path("new.csv").read_text() == "a,b\n1,2\n"
    assert Path("predictions.csv").read_text() == "of another run"
    assert (
        main(["predict", str(run.folder), "new.csv", "--out", "predictions.csv"]) == 0
    )


def test_weights_that_are_no_numbers_give_no_answer(run: Run, tmp_path: Path) -> None:
    model = run.load()
    weight = next(w for w in model.weights if w.path == "block_0/kernel")
    weight.assign(np.full(weight.shape, np.nan, "float32"))
    assert "block_0/kernel" in weights_by_path(model)
    kzoo.save(model, tmp_path / "model", preprocessing=load_preprocessing(run.folder))
    with pytest.raises(ValueError, match="the weights block_0/kernel hold NaN or inf"):
        predict(tmp_path / "model", np.array(ROWS))


# --- texts ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moods(folder: Path) -> Run:
    path = folder / "films.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mood", "review", "date"])
        for i in range(120):
            word = ("good", "bad")[i % 2]
            writer.writerow([word, f"{word} film {i // 2}", "2026"])
    return kzoo.train(
        "text_cnn",
        f"csv:{path}",
        out=folder / "moods",
        data={"max_length": 8, "inputs": ("review",), "label": "mood"},
        epochs=6,
        filters=8,
        kernel_sizes=(1,),
        embedding_dim=8,
        learning_rate=0.05,
        batch_size=16,
    )


def test_texts_are_taken_by_the_name_of_their_column(moods: Run, folder: Path) -> None:
    assert answers(moods, folder / "films.csv") == ["good", "bad"] * 60


def test_text_files_are_read_and_words_are_not_paths(
    moods: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("review.md", "R.TXT", "notes.log", "bad"):
        Path(name).write_text("good film")
    assert answers(moods, ["review.md", "R.TXT", "notes.log"]) == ["good"] * 3
    assert answers(moods, "bad") == ["bad"]  # a word, though a file is called so
    assert answers(moods, "好" * 120 + " good") == ["good"]
    assert answers(moods, "good \0 film") == ["good"]
    with pytest.raises(FileNotFoundError, match=r"there is no file missing\.md"):
        predict(moods, "missing.md")
    with pytest.raises(
        ValueError, match=r"holds half of a character \(U\+D800\), at 5"
    ):
        predict(moods, "good \ud800")
    with pytest.raises(TypeError, match=r"inputs\[1\] is nan, a float"):
        predict(moods, ["good", float("nan")])


def test_many_texts_with_unknown_words_are_summed_up(
    moods: Run, caplog: pytest.LogCaptureFixture
) -> None:
    predict(moods, [f"good thing-{i}" for i in range(8)])
    assert len(caplog.records) == 4
    assert "5 more of 8 texts hold tokens that are unknown" in caplog.text
