"""Arrays as people have them: labels of all kinds, data frames, masks, groups."""

import json
import logging
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.preprocessing import LabelBinarizer, LabelEncoder

import kzoo
from kzoo.datasets import Dataset

SPLITS = ("train", "validation", "test")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.arange(60) % 3
ANIMALS = np.array(["emu", "cat", "yak"])[Y]


def labels_by_row(data: Dataset, inputs: np.ndarray = X) -> list[str]:
    """The name of each example's class, in the order of the inputs."""
    names = {}
    for split in data.splits.values():
        for row, label in zip(split.inputs, split.labels, strict=True):
            names[row.tobytes()] = data.spec.classes[label]
    return [names[row.tobytes()] for row in inputs]


# --- labels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        ANIMALS,
        ANIMALS.astype("S"),
        ANIMALS.astype(object),
        ANIMALS.tolist(),
        ANIMALS[:, None],
        pd.Series(ANIMALS),
        pd.Series(ANIMALS, dtype="category"),
        pd.Series(ANIMALS, dtype="string"),
        pd.DataFrame({"animal": ANIMALS}),
        [f" {name} " for name in ANIMALS],
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_texts_are_classes_as_scikit_learn_encodes_them(labels: Any) -> None:
    data = kzoo.load_dataset((X, labels))
    encoder = LabelEncoder().fit(ANIMALS)
    assert data.spec.classes == tuple(encoder.classes_) == ("cat", "emu", "yak")
    assert data.preprocessing.classes == data.spec.classes
    assert labels_by_row(data) == ANIMALS.tolist()
    as_numbers = kzoo.load_dataset((X, encoder.transform(ANIMALS).astype("int32")))
    assert data.spec.fingerprint == as_numbers.spec.fingerprint


def test_booleans_are_two_classes() -> None:
    data = kzoo.load_dataset((X, Y > 0))
    assert data.spec.classes == ("False", "True")
    assert labels_by_row(data) == [str(one) for one in (Y > 0).tolist()]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_one_hot_rows_are_classes(dtype: str, caplog: pytest.LogCaptureFixture) -> None:
    one_hot = LabelBinarizer().fit_transform(Y).astype(dtype)
    with caplog.at_level(logging.INFO, "kzoo"):
        data = kzoo.load_dataset((X, one_hot))
    assert "labels of shape (60, 3) are one-hot: 3 classes" in caplog.text
    assert labels_by_row(data) == [str(one) for one in Y]
    named = kzoo.load_dataset((X, pd.get_dummies(pd.Series(ANIMALS))))
    assert named.spec.classes == ("cat", "emu", "yak")
    assert labels_by_row(named) == ANIMALS.tolist()


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (Y + 1, ("1", "2", "3")),
        (np.array([0, 5, 1000])[Y], ("0", "5", "1000")),
        (np.array([-1, 1, 7])[Y], ("-1", "1", "7")),
        (np.array([0, 2**40, 2**62])[Y], ("0", str(2**40), str(2**62))),
        (np.array([0, 2**63, 1], "uint64")[Y], ("0", "1", str(2**63))),
    ],
    ids=["1 to n", "gaps", "below 0", "huge", "uint64"],
)
def test_numbers_with_gaps_are_classes_by_name(
    labels: np.ndarray, names: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    tracemalloc.start()
    with caplog.at_level(logging.INFO, "kzoo"):
        data = kzoo.load_dataset((X, labels))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6
    assert data.spec.classes == names
    assert data.spec.hparams["num_classes"] == len(names)
    assert labels_by_row(data) == [str(one) for one in labels.tolist()]
    assert f"the classes 0 to {len(names) - 1}" in caplog.text


def test_labels_from_0_on_are_taken_as_they_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "kzoo"):
        data = kzoo.load_dataset((X, Y.astype("uint8")))
    assert data.splits["train"].labels.dtype == np.uint8
    assert not caplog.messages


def test_names_that_the_user_gives_say_the_order() -> None:
    data = kzoo.load_dataset((X, ANIMALS), classes=("yak", "emu", "cat"))
    assert data.spec.classes == ("yak", "emu", "cat")
    assert labels_by_row(data) == ANIMALS.tolist()
    by_number = kzoo.load_dataset((X, Y), classes=("emu", "cat", "yak"))
    assert labels_by_row(by_number) == ANIMALS.tolist()
    more = kzoo.load_dataset((X, Y + 1), classes=("0", "1", "2", "3"))
    assert labels_by_row(more) == [str(one) for one in Y + 1]


def test_whole_floats_are_targets_with_a_hint_or_classes_where_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "kzoo"):
        target = kzoo.load_dataset((X, (Y > 0).astype(float)))
    assert target.spec.task == "regression"
    assert "2 values 0, 1 are classes, pass integers" in caplog.text
    classes = kzoo.load_dataset((X, Y * 1.0), task="tabular-classification")
    assert labels_by_row(classes) == [str(one) for one in Y]
    whole = kzoo.load_dataset((X, Y), task="regression")
    assert (whole.spec.task, whole.spec.classes) == ("regression", ())
    assert whole.preprocessing.target_mean == pytest.approx(
        whole.splits["train"].labels.mean()
    )


def test_labels_of_the_tokens_shape_say_what_they_were_taken_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = RNG.integers(0, 9, (60, 4))
    with caplog.at_level(logging.INFO, "kzoo"):
        data = kzoo.load_dataset((tokens, RNG.integers(0, 2, (60, 4))))
    assert data.spec.task == "sequence-labeling"
    assert "a class for each step (sequence-labeling); several labels" in caplog.text
    caplog.clear()
    one_hot = np.eye(4, dtype=int)[np.arange(60) % 4]
    with caplog.at_level(logging.WARNING, "kzoo"):
        kzoo.load_dataset((tokens, one_hot))
    assert "one-hot, pass labels.argmax(1)" in caplog.text
    asked = kzoo.load_dataset((tokens, one_hot), task="text-classification")
    assert asked.spec.classes == ("0", "1", "2", "3")
    gaps = np.array([-1, 3, 3, 8])[RNG.integers(0, 4, (60, 4))]
    named = kzoo.load_dataset((tokens, gaps))
    assert named.spec.classes == ("3", "8")
    labels = np.concatenate([named.splits[name].labels for name in SPLITS])
    assert set(np.unique(labels)) == {-1, 0, 1}


# --- inputs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs",
    [
        np.asfortranarray(X),
        X.astype(">f8"),
        X.tolist(),
        X.astype(object),
        list(X),
        np.ma.masked_array(X, mask=np.zeros_like(X, bool)),
        X.astype("longdouble"),
    ],
    ids=["Fortran", "big-endian", "lists", "objects", "rows", "unmasked", "longdouble"],
)
def test_the_same_numbers_are_the_same_data(inputs: Any) -> None:
    expected = kzoo.load_dataset((X, Y))
    found = kzoo.load_dataset((inputs, Y))
    assert found.spec == expected.spec
    one, two = (data.train_batches(16, seed=1)[3] for data in (found, expected))
    np.testing.assert_array_equal(one["inputs"], two["inputs"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_each_floating_type_is_standardised(dtype: str) -> None:
    data = kzoo.load_dataset((X.astype(dtype), Y))
    batch = data.eval_batches("train", len(data.splits["train"]))[0]
    assert batch["inputs"].dtype == np.float32
    np.testing.assert_allclose(batch["inputs"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch["inputs"].std(0), 1, atol=1e-5)


def test_ten_digits_of_a_column_are_kept() -> None:
    seconds = 1_700_000_000 + np.arange(600) % 60
    data = kzoo.load_dataset((seconds[:, None].astype(float), Y.repeat(10)))
    batch = data.eval_batches("train", len(data.splits["train"]))[0]
    assert len(np.unique(batch["inputs"])) == 60
    target = kzoo.load_dataset((RNG.normal(size=(600, 2)), 1e9 + np.arange(600.0)))
    train = target.splits["train"]
    labels = target.eval_batches("train", len(train))[0]["labels"]
    expected = (train.labels - train.labels.mean()) / train.labels.std()
    np.testing.assert_allclose(labels, expected, atol=1e-5)


def test_grey_images_may_go_without_their_last_axis(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = RNG.integers(0, 256, (60, 5, 6)).astype("uint8")
    with caplog.at_level(logging.INFO, "kzoo"):
        data = kzoo.load_dataset((pixels, Y))
    assert data.spec.hparams["channels"] == 1
    assert data.spec.fingerprint == (
        kzoo.load_dataset((pixels[..., None], Y)).spec.fingerprint
    )
    assert "grey images" in caplog.text
    rows = kzoo.load_dataset((pixels, Y), task="sequence-classification")
    assert rows.spec.inputs == "features"
    caplog.clear()
    kzoo.load_dataset((pixels[..., None].astype("float32"), Y))
    assert "as uint8 they are scaled" in caplog.text


def test_integers_below_0_are_a_table(caplog: pytest.LogCaptureFixture) -> None:
    table = RNG.integers(-9, 9, (60, 4))
    with caplog.at_level(logging.INFO, "kzoo"):
        assert kzoo.load_dataset((table, Y)).spec.inputs == "vectors"
        assert kzoo.load_dataset((abs(table), Y)).spec.inputs == "tokens"
    assert "no tokens" in caplog.text
    assert "task='tabular-classification'" in caplog.text
    asked = kzoo.load_dataset((abs(table), Y), task="tabular-classification")
    assert asked.spec.inputs == "vectors"


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ((np.ma.masked_greater(X, 2), Y), {}, "inputs are masked, first at row "),
        ((X, np.ma.masked_equal(Y, 2)), {}, "labels are masked, first at row 2: fill"),
        (([1.0, "a"] * 30, Y), {}, "inputs mix texts and numbers: 1.0 at row 0"),
        ((["a", float("nan")] * 30, Y), {}, "inputs are missing at row 1 (nan)"),
        ((X, [*ANIMALS[1:], None]), {}, "labels are missing at row 59 (None)"),
        ((X, ["", *ANIMALS[1:]]), {}, "the label in row 0 is empty"),
        (([[1.0], [1.0, 2.0]] * 30, Y), {}, "row 0 has 1 elements, row 1 has 2"),
        ((scipy.sparse.csr_matrix(X), Y), {}, "inputs are a sparse csr_matrix; pass"),
        ((X, np.eye(3)[Y] + np.eye(3)[0]), {}, "neither one-hot nor a class for"),
        ((X, np.minimum(np.eye(3)[Y] + np.eye(3)[0], 1)), {}, "row 1 has 2 ones"),
        ((X, np.eye(4)[Y][:, 1:]), {}, "row 0 has 0 ones"),
        ((X, Y), {"num_classes": 10**7}, "10000000 classes are more than 1000000"),
        ((np.full((60, 4), 2**40), Y), {}, "makes a vocabulary of over 10000000"),
        ((X * 1e39, Y), {}, "beyond the numbers of 32 bits"),
        ((X, X[:, 0] * 1e39), {}, "labels hold"),
        ((X, ANIMALS), {"classes": ("emu", "cat")}, "the label 'yak' is none of emu"),
        ((X, ANIMALS), {"num_classes": 4}, "num_classes=4, but the labels have 3"),
        ((X, pd.date_range("2020", periods=60)), {}, "labels must be numbers or texts"),
        ((X, Y), {"groups": np.arange(59)}, "groups of shape (59,) are not one for 60"),
        ((X, Y), {"groups": [1, 2] * 30}, "2 groups are too few to split by groups"),
        ((X, Y), {"groups": True}, "were split by groups, which no run folder holds"),
        (
            dict.fromkeys(SPLITS, (X, Y)),
            {"groups": np.arange(60)},
            "a dict of arrays says the splits already",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_one_line(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.load_dataset(source, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- data frames ------------------------------------------------------------------

FRAME = pd.DataFrame(X, columns=["height", "weight", "age", "pulse"])


def test_a_data_frame_keeps_the_names_of_its_columns() -> None:
    data = kzoo.load_dataset((FRAME, pd.Series(ANIMALS)))
    assert data.options["columns"] == list(FRAME.columns)
    assert data.preprocessing.columns == tuple(FRAME.columns)  # as of a CSV file
    assert data.spec == kzoo.load_dataset((X, ANIMALS)).spec
    turned = kzoo.load_dataset(
        (FRAME[["age", "pulse", "weight", "height"]].assign(id=1), ANIMALS),
        columns=tuple(FRAME.columns),
    )
    assert turned.spec == data.spec
    mixed = FRAME.astype({"age": "float32"}).assign(old=Y > 0, beds=Y)
    assert kzoo.load_dataset((mixed, Y)).spec.hparams["num_features"] == 6
    texts = pd.DataFrame({"review": [f"text {i}" for i in range(60)]})
    assert kzoo.load_dataset((texts, Y)).spec.inputs == "texts"
    two = texts.assign(other="more")
    assert kzoo.load_dataset((two, Y)).spec.inputs == "pairs of texts"
    nullable = pd.DataFrame({"n": pd.array(range(60), "Int64")})
    assert kzoo.load_dataset((nullable, Y)).spec.hparams["num_features"] == 1


@pytest.mark.parametrize(
    ("frame", "labels", "message"),
    [
        (FRAME.assign(town="x"), Y, "have columns of texts or categories beside other"),
        (FRAME.assign(day=pd.Timestamp("2020")), Y, "column 'day' holds datetime64"),
        (FRAME.assign(age=np.nan), Y, "NaN or infinity, first in row 0, column 'age'"),
        (
            FRAME.assign(n=pd.array([None, *range(59)], "Int64")),
            Y,
            "NaN or infinity, first in row 0, column 'n'",
        ),
        (FRAME, pd.Series(Y)[::-1], "have the same index in different orders"),
        (FRAME[["age", "age"]], Y, "inputs have two columns 'age'"),
    ],
    ids=["texts", "times", "NaN", "NA", "order", "twice"],
)
def test_what_is_wrong_with_a_data_frame_is_one_line(
    frame: Any, labels: Any, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.load_dataset((frame, labels))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_splits_with_other_columns_are_told() -> None:
    parts = dict.fromkeys(SPLITS, (FRAME, Y))
    parts["test"] = (FRAME.rename(columns={"age": "years"}), Y)
    with pytest.raises(ValueError, match="test has height, weight, years, pulse; '"):
        kzoo.load_dataset(parts)


def test_a_run_on_a_frame_is_evaluated_by_the_names(tmp_path: Path) -> None:
    run = kzoo.train("mlp", (FRAME, ANIMALS), out=tmp_path / "run", epochs=1)
    assert run.config["dataset"]["options"]["columns"] == list(FRAME.columns)
    turned = FRAME[list(FRAME.columns)[::-1]]
    scores = kzoo.evaluate(run, (turned, ANIMALS))
    assert scores["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-6)
    assert [one["class"] for one in scores["classes"]] == ["cat", "emu", "yak"]
    some = kzoo.evaluate(
        run, dict.fromkeys(SPLITS, (FRAME[Y > 0], ANIMALS[Y > 0])), split="test"
    )
    assert [one["examples"] for one in some["classes"]] == [20, 0, 20]
    with pytest.raises(ValueError, match=r"inputs have no column 'pulse'\."):
        kzoo.evaluate(run, (FRAME.drop(columns="pulse"), ANIMALS))


# --- groups and windows -----------------------------------------------------------


def windows(stride: int, count: int = 120) -> np.ndarray:
    series = np.sin(np.arange(stride * count + 20) / 3)[:, None] + np.zeros(2)
    return np.stack([series[i * stride : i * stride + 20] for i in range(count)])


@pytest.mark.parametrize(("stride", "leaks"), [(1, True), (7, True), (20, False)])
def test_overlapping_windows_are_warned_of(
    stride: int, leaks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cut = windows(stride)
    for inputs in (cut, cut[..., 0]):
        caplog.clear()
        kzoo.load_dataset((inputs, np.arange(120.0)))
        assert ("Say by groups=" in caplog.text) == leaks
        caplog.clear()
        kzoo.load_dataset((inputs, np.arange(120.0)), groups=np.arange(120) // 20)
        assert not caplog.messages


def test_a_run_by_groups_says_so_and_asks_for_them_again(tmp_path: Path) -> None:
    patients = pd.Series([f"p{i // 5}" for i in range(60)])
    run = kzoo.train(
        "mlp", (X, ANIMALS), out=tmp_path / "run", epochs=1, data={"groups": patients}
    )
    options = run.config["dataset"]["options"]
    assert options["groups"] is True
    assert "p1" not in json.dumps(run.config)
    assert "split by 12 groups" in (run.folder / "log.txt").read_text()
    data = kzoo.load_dataset((X, ANIMALS), groups=patients)
    assert data.spec.fingerprint == run.config["dataset"]["fingerprint"]
    rows = {row.tobytes(): who for row, who in zip(X, patients, strict=True)}
    owners = [{rows[row.tobytes()] for row in data.splits[n].inputs} for n in SPLITS]
    assert sum(map(len, owners)) == 12
    with pytest.raises(ValueError, match=re.escape("pass groups= again")):
        kzoo.evaluate(run, (X, ANIMALS))
    scores = kzoo.evaluate(run, (X, ANIMALS), data={"groups": patients})
    assert scores["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-6)
    unlike = kzoo.evaluate(run, dict.fromkeys(SPLITS, (X, ANIMALS)))
    assert unlike["loss"] > 0


# --- tensors ----------------------------------------------------------------------


@pytest.mark.peers
def test_tensors_of_torch_are_arrays() -> None:
    import torch

    inputs = torch.tensor(X, requires_grad=True)
    data = kzoo.load_dataset((inputs, torch.tensor(Y)))
    assert data.spec == kzoo.load_dataset((X, Y)).spec
    rows = kzoo.load_dataset((list(inputs), Y))
    assert rows.spec == data.spec
