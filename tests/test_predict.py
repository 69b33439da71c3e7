"""``kzoo.predict`` and ``kzoo predict``: answers on what users bring."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit, softmax

import kzoo
from kzoo.cli.main import main
from kzoo.preprocessing import Preprocessing
from kzoo.training import Run
from kzoo.training.metrics import probabilities
from kzoo.training.predict import predict

TEXTS = [f"{word} film {i}" for i in range(60) for word in ("good", "bad")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def digits(folder: Path) -> Run:
    return kzoo.train("mlp", "digits", out=folder / "digits", units=(32,), epochs=2)


@pytest.fixture(scope="module")
def moods(folder: Path) -> Run:
    """Trained on a CSV file of texts."""
    path = folder / "films.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "mood"])
        writer.writerows([text, text.split()[0]] for text in TEXTS)
    return kzoo.train(
        "text_cnn",
        f"csv:{path}",
        out=folder / "moods",
        data={"max_length": 8},
        epochs=6,
        filters=8,
        kernel_sizes=(1,),
        embedding_dim=8,
        learning_rate=0.05,
        batch_size=16,
    )


@pytest.fixture(scope="module")
def images(folder: Path) -> tuple[Path, np.ndarray]:
    """Ten test digits as files, and their rows."""
    place = folder / "images" / "some"
    place.mkdir(parents=True)
    raw = kzoo.load_dataset("digits").splits["test"].inputs[:10]
    for i, image in enumerate(raw):
        pixels = np.rint(image[..., 0] * (255 / 16)).astype("uint8")
        Image.fromarray(pixels).save(place / f"{i}.png")
    return place.parent, raw


def test_a_folder_of_images_is_answered_as_its_pixels_are(
    digits: Run, images: tuple[Path, np.ndarray]
) -> None:
    place, raw = images
    found = predict(digits, place, top=10)
    assert [Path(one.input).name for one in found] == [f"{i}.png" for i in range(10)]
    logits = digits.load().predict(raw / np.float32(16), verbose=0)
    expected = softmax(logits.astype("float64"), axis=-1)
    for one, row in zip(found, expected, strict=True):
        order = [int(name) for name in one.classes]
        np.testing.assert_allclose(one.probabilities, row[order], atol=2e-2)
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)
        assert sum(one.probabilities) == pytest.approx(1)
    # Arrays go in as the training data are.
    exact = predict(digits, raw, top=1, batch_size=3)
    assert [int(one.classes[0]) for one in exact] == list(logits.argmax(-1))
    np.testing.assert_allclose(
        [one.probabilities[0] for one in exact], expected.max(-1), rtol=1e-4
    )


def test_rows_that_are_reshaped_go_in_raw(tmp_path: Path) -> None:
    """Digits as sequences are images (8, 8, 1) until the preprocessing."""
    settings = {"units": 8, "num_layers": 1, "epochs": 1}
    run = kzoo.train(
        "simple_rnn",
        "digits",
        data={"as_sequence": True},
        out=tmp_path / "run",
        **settings,
    )
    raw = kzoo.load_dataset("digits").splits["test"].inputs[:3]
    sequences = raw[..., 0] / np.float32(16)
    expected = run.load().predict(sequences, verbose=0).argmax(axis=-1)
    found = [int(one.classes[0]) for one in predict(run, raw)]
    assert found == expected.tolist()


def test_an_image_of_another_size_is_brought_to_the_models(
    digits: Run, images: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    place, _ = images
    large = tmp_path / "large.png"
    small = Image.open(place / "some" / "3.png")
    small.convert("RGB").resize((64, 64), Image.Resampling.NEAREST).save(large)
    one, two = predict(digits, [place / "some" / "3.png", large], top=1)
    assert one.classes == two.classes
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=0.02)


def test_one_bad_image_of_a_folder_is_listed_and_the_others_are_answered(
    digits: Run,
    images: tuple[Path, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "photos"
    shutil.copytree(images[0] / "some", place)
    whole = (place / "3.png").read_bytes()
    (place / "3.png").write_bytes(whole[:-25])
    (place / "a.png").write_bytes(b"")
    found = predict(digits, place, top=1, batch_size=4)
    assert [Path(one.input).name for one in found] == [
        *(f"{i}.png" for i in range(10)),
        "a.png",
    ]
    failed = [one for one in found if one.error is not None]
    assert [Path(one.input).name for one in failed] == ["3.png", "a.png"]
    assert all(not one.classes for one in failed)
    expected = predict(digits, images[0], top=1)
    for number in (0, 2, 4, 9):
        assert found[number].classes == expected[number].classes
    out = tmp_path / "answers.csv"
    command = ["predict", str(digits.folder), str(place), "--top", "1"]
    assert main([*command, "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [f"error: {one.error}" for one in failed]
    assert "9 answers are in" in printed.out
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["input"]).name for row in rows] == [
        f"{i}.png" for i in range(10) if i != 3
    ]
    assert main([*command, "--json", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert [one["error"] is None for one in json.loads(printed.out)].count(False) == 2
    # Where none can be read, nothing is written.
    for number in (0, 1, 2, 4, 5, 6, 7, 8, 9):
        (place / f"{number}.png").write_text("no image")
    out.unlink()
    assert main([*command, "--out", str(out)]) == 2
    assert "nor can the other 10" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_is_read_as_in_training(
    digits: Run, images: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    """Hidden files at any depth are no images; a loop of links ends."""
    place = tmp_path / "photos"
    shutil.copytree(images[0] / "some", place)
    for left in (".ipynb_checkpoints/1-checkpoint.png", "._1.png", "__MACOSX/1.png"):
        (place / left).parent.mkdir(exist_ok=True)
        (place / left).write_bytes((place / "1.png").read_bytes())
    (place / "again").symlink_to(place)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (place / "1.png").rename(elsewhere / "1.png")
    (place / "more").symlink_to(elsewhere)
    found = predict(digits, place, top=1)
    assert [one.input for one in found] == [
        *(str(place / f"{i}.png") for i in (0, 2, 3, 4, 5, 6, 7, 8, 9)),
        str(place / "more" / "1.png"),
    ]
    photos = tmp_path / "phone"
    photos.mkdir()
    (photos / "a.HEIC").write_bytes(b"ftypheic")
    with pytest.raises(ValueError, match=r"there are no images in .*, but 1 \.heic"):
        predict(digits, photos)


def test_texts_and_tables_of_them(
    moods: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = predict(moods, ["good film", "bad film"], top=1)
    assert [one.classes for one in found] == [("good",), ("bad",)]
    assert found[0].input == "good film"
    table = tmp_path / "new.csv"
    table.write_text("id,review\n1,good film\n2,bad film\n", encoding="utf-8")
    found = predict(moods, table, top=2)  # by name
    assert [one.classes[0] for one in found] == ["good", "bad"]
    table.write_text("review\ngood film\nbad film\n", encoding="utf-8")
    found = predict(moods, table, top=2)
    assert [one.classes[0] for one in found] == ["good", "bad"]
    assert [one.input for one in found] == [f"{table}:2", f"{table}:3"]
    # A text of characters and words that training had not is answered, too.
    assert not caplog.records
    assert sum(predict(moods, "☃ film")[0].probabilities) == pytest.approx(1)
    assert "'☃ film': 1 of 2 tokens are unknown to the model" in caplog.text
    place = tmp_path / "texts"
    place.mkdir()
    (place / "a.txt").write_text("good")
    assert predict(moods, str(place), top=1)[0].classes == ("good",)


def test_numbers_are_answered_in_the_units_of_the_target(folder: Path) -> None:
    run = kzoo.train("mlp", "diabetes", out=folder / "diabetes", units=(8,), epochs=2)
    data = kzoo.load_dataset("diabetes")
    raw = data.splits["test"].inputs[:3]
    outputs = run.load().predict(data.preprocessing.inputs(raw), verbose=0)
    expected = data.preprocessing.predictions(outputs)[:, 0]
    named = predict(run, [",".join(map(str, row)) for row in raw])
    np.testing.assert_allclose([one.value for one in named], expected, rtol=1e-4)
    assert named[0].classes == ()


def test_probabilities_are_scipys() -> None:
    logits = np.random.default_rng(0).normal(0, 50, (6, 4))
    np.testing.assert_allclose(probabilities(logits), softmax(logits, -1), rtol=1e-12)
    one = probabilities(logits[:, :1])
    np.testing.assert_allclose(one[:, 1], expit(logits[:, 0]), rtol=1e-9)


@pytest.mark.parametrize(
    ("which", "inputs", "message"),
    [
        ("digits", "nothing.png", "there is no file nothing.png"),
        ("digits", "notes.png", "notes.png is no image that can be read"),
        ("digits", "empty", "there are no images in empty"),
        ("moods", "", "the text is empty"),
        ("moods", "nothing.csv", "there is no file nothing.csv"),
        ("moods", "latin.csv", "latin.csv, line 2, column 2: byte 0xe9 is not UTF-8"),
        ("moods", "blank.csv", "blank.csv, line 3: 'review' is empty"),
        ("moods", "ragged.csv", "ragged.csv, line 2: 2 fields, the header has 1"),
        ("moods", "word " * 9, "has 9 tokens, more than max_length=8"),
        ("moods", "empty", "there are no .txt files in empty"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    which: str,
    inputs: str,
    message: str,
    digits: Run,
    moods: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.png").write_text("no image")
    (tmp_path / "latin.csv").write_bytes(b"review\nt\xe9\n")
    (tmp_path / "blank.csv").write_text('review\na\n""\n')
    (tmp_path / "ragged.csv").write_text("review\na,b\n")
    run = {"digits": digits, "moods": moods}[which]
    before = sorted(tmp_path.iterdir())
    assert main(["predict", str(run.folder), inputs]) == 2
    told = capsys.readouterr()
    assert message in told.err and len(told.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before  # nothing half-written


def test_command_prints_a_table_and_writes_a_csv_file(
    digits: Run,
    moods: Run,
    images: tuple[Path, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(moods.folder), "good film", "--top", "1"]) == 0
    assert "good film │ good " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    place = str(images[0])
    assert main(["predict", str(digits.folder), place, "--top", "2"]) == 0
    assert "10 answers are in predictions.csv" in capsys.readouterr().out
    with open("predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "input",
        "class_1",
        "probability_1",
        "class_2",
        "probability_2",
    ]
    expected = predict(digits, place, top=2)
    assert [row["class_1"] for row in rows] == [one.classes[0] for one in expected]
    assert float(rows[3]["probability_2"]) == expected[3].probabilities[1]
    out = str(tmp_path / "one.csv")
    assert main(["predict", str(moods.folder), "bad", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["classes"][0] == "bad"
    assert Path(out).read_text().startswith("input,class_1,probability_1,")


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import kzoo
print(kzoo.predict(sys.argv[1], "a good one", top=1)[0].classes[0])
"""


def test_predict_runs_without_tensorflow_on_a_folder_that_was_moved(
    moods: Run, tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    moved = shutil.copytree(moods.folder / "model", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(moved)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "good\n"


def test_models_of_other_things_are_told_apart(folder: Path, tmp_path: Path) -> None:
    def refused(run: Any, message: str) -> None:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            predict(run, "1")

    refused(tmp_path / "nowhere", "there is no folder")
    model = kzoo.build_model("gru", vocab_size=9, units=4, num_layers=1)
    kzoo.save(model, tmp_path / "bare")
    refused(tmp_path / "bare", r"preprocessing\.json is missing")
    kzoo.save(model, tmp_path / "tokens", preprocessing=Preprocessing())
    refused(tmp_path / "tokens", "reads tokens or features, which no file holds")
    tokens = np.array([[1, 2, 0], [3, 3, 3]])
    found = predict(tmp_path / "tokens", tokens, top=10)
    likely = softmax(model.predict(tokens, verbose=0), axis=-1)
    for one, row in zip(found, likely, strict=True):
        order = [int(name) for name in one.classes]
        np.testing.assert_allclose(one.probabilities, row[order], rtol=1e-4)
    kzoo.save(
        model,
        tmp_path / "steps",
        preprocessing=Preprocessing(),
        facts={"task": "language-modeling"},
    )
    refused(tmp_path / "steps", "is a model of language-modeling: kzoo generate")
    with pytest.raises(ValueError, match="top=0 and batch_size=256 must be at least 1"):
        predict(tmp_path / "tokens", "1", top=0)
