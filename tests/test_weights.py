"""Model folders: what goes in comes out, and nothing else gets in or lost."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import kzoo
from kzoo import registry, weights
from kzoo.preprocessing import Preprocessing
from kzoo.weights.fit import difference

FAMILIES = {family.name: family for family in registry.FAMILIES}
# A file is numpy's on every backend: elsewhere a few kinds of weights are enough.
FEW = ("cnn", "lstm", "bert", "transformer_seq2seq")
each_family = pytest.mark.parametrize(
    "family",
    [
        name
        if keras.backend.backend() == "tensorflow" or name in FEW
        else pytest.param(name, marks=pytest.mark.exhaustive)
        for name in FAMILIES
    ],
)


def model(**values: Any) -> keras.Model:
    changed: dict[str, Any] = {"num_features": 4, "units": (5,), "num_classes": 3}
    return kzoo.build_model("mlp", **changed | values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    preprocessing = Preprocessing(input_mean=(1.0,), input_scale=(2.0,))
    facts = {"task": "tabular-classification"}
    return kzoo.save(model(), tmp_path / "m", preprocessing=preprocessing, facts=facts)


def same(one: keras.Model, two: keras.Model) -> bool:
    left, right = weights.weights_by_path(one), weights.weights_by_path(two)
    return list(left) == list(right) and all(
        left[path].dtype == right[path].dtype
        and left[path].tobytes() == right[path].tobytes()
        for path in left
    )


@pytest.mark.contract
@each_family
def test_every_family_comes_back_bit_by_bit(family: str, tmp_path: Path) -> None:
    smallest = FAMILIES[family].smallest.to_json()
    name = next(iter(FAMILIES[family].variants))
    made = kzoo.build_model(name, **smallest)
    rng = np.random.default_rng(0)
    for weight in made.weights:
        if "seed" not in weight.path:
            weight.assign(rng.normal(size=weight.shape))
    back = kzoo.load(kzoo.save(made, tmp_path / "m"))
    assert same(made, back)
    assert back.kzoo == made.kzoo


@pytest.mark.contract
def test_same_weights_same_bytes(tmp_path: Path) -> None:
    made = model()
    files = [kzoo.save(made, tmp_path / n) / weights.WEIGHTS for n in ("a", "b")]
    back = kzoo.load(tmp_path / "a")
    files.append(kzoo.save(back, tmp_path / "c") / weights.WEIGHTS)
    assert len({file.read_bytes() for file in files}) == 1
    changed = made.weights[0]
    changed.assign(changed + 1)
    other = kzoo.save(made, tmp_path / "d") / weights.WEIGHTS
    assert other.read_bytes() != files[0].read_bytes()


def test_folder_says_what_the_model_is(folder: Path) -> None:
    names = {"config.json", "model.safetensors", "preprocessing.json"}
    assert {path.name for path in folder.iterdir()} == names
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == "tabular-classification"
    assert config["model"]["name"] == "mlp"
    assert config["model"]["hparams"]["units"] == [5]
    assert set(load_file(folder / "model.safetensors")) == {
        "block_0/kernel",
        "block_0/bias",
        "logits/kernel",
        "logits/bias",
    }
    found = weights.load_preprocessing(folder)
    assert found == Preprocessing(input_mean=(1.0,), input_scale=(2.0,))


@pytest.mark.contract
def test_weights_of_another_precision_keep_their_values(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("bfloat16")
    try:
        half = model()
    finally:
        keras.config.set_dtype_policy("float32")
    file = kzoo.save(half, tmp_path / "m") / weights.WEIGHTS
    stored = load_file(file)
    assert stored["block_0/kernel"].dtype.name == "bfloat16"
    back = weights.weights_by_path(kzoo.load(tmp_path / "m"))
    for path, array in stored.items():
        np.testing.assert_array_equal(back[path], array.astype("float32"))


# --- what is not there, or not right ----------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        kzoo.load(folder)


def test_missing_preprocessing_is_named(folder: Path) -> None:
    (folder / "preprocessing.json").unlink()
    kzoo.load(folder)
    with pytest.raises(FileNotFoundError, match=r"preprocessing\.json is missing"):
        weights.load_preprocessing(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none"):
        kzoo.load(tmp_path / "none")


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_weights_are_damaged(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: ") as error:
        kzoo.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "does not say which model this is"),
        ('{"model": "mlp"}', "does not say which model this is"),
        ('{"model": {"name": "mlp"}}', "does not say which model this is"),
        ('{"model": {"name": 3, "hparams": {}}}', "does not say which model this is"),
        ('{"model": {"name": "mlp", "hparams": []}}', "does not say which model"),
        ('{"model": {"name": "mlpp", "hparams": {}}}', "unknown model 'mlpp'. Did"),
        (
            '{"model": {"name": "mlp", "hparams": {"unit": 1}}}',
            "mlp has no hyper-parameter 'unit'. Did you mean 'units'?",
        ),
        (
            '{"model": {"name": "mlp", "hparams": {"units": [0]}}}',
            r"mlp: units=\[0\] is not ",
        ),
    ],
)
def test_wrong_config_is_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        kzoo.load(folder)
    assert "\n" not in str(error.value)


def test_arrays_that_do_not_fit_are_shown_from_both_sides(folder: Path) -> None:
    file = folder / "model.safetensors"
    arrays = load_file(file)
    arrays["block_0/kernel"] = np.ascontiguousarray(arrays["block_0/kernel"].T)
    arrays["dense/bias"] = arrays.pop("block_0/bias")
    save_file(arrays, file)
    with pytest.raises(ValueError) as error:
        kzoo.load(folder)
    assert str(error.value) == (
        f"{file} does not fit mlp: "
        "'block_0/bias' is missing in the file, (5,) in the model; "
        "'block_0/kernel' is (5, 4) in the file, (4, 5) in the model; "
        "'dense/bias' is (5,) in the file, missing in the model"
    )


def test_arrays_that_do_not_fit_change_nothing() -> None:
    made = model()
    before = {k: v.copy() for k, v in weights.weights_by_path(made).items()}
    wrong = {path: np.zeros_like(array) for path, array in before.items()}
    wrong["logits/kernel"] = np.zeros((3, 5), "float32")
    with pytest.raises(ValueError, match="the box does not fit mlp"):
        weights.assign(made, wrong, "the box")
    after = weights.weights_by_path(made)
    assert all((before[path] == after[path]).all() for path in before)


def test_long_differences_are_cut() -> None:
    told = difference({str(i): i for i in range(20)}, {})
    assert told.endswith("; and 12 more")
    assert difference({"a": 1}, {"a": 1}) == ""


# --- what is there already --------------------------------------------------------


def test_model_folder_is_replaced_as_a_whole(folder: Path) -> None:
    other = model(units=(7,))
    kzoo.save(other, folder)
    assert same(kzoo.load(folder), other)
    assert not (folder / "preprocessing.json").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["notes.txt", "history.csv", "src"])
def test_folder_with_anything_else_is_not_touched(folder: Path, name: str) -> None:
    """A config.json makes no model folder: runs and other programs have one too."""
    (folder / name).mkdir() if name == "src" else (folder / name).write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"such as {name}; not overwritten"):
        kzoo.save(model(), folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("mine")
    with pytest.raises(ValueError, match="m is a file"):
        kzoo.save(model(), tmp_path / "m")
    assert (tmp_path / "m").read_text() == "mine"


def test_empty_folder_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert same(kzoo.load(kzoo.save(model(), path)), kzoo.load(path))


def test_model_of_others_is_refused(tmp_path: Path) -> None:
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="has no kzoo identity"):
        kzoo.save(other, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_aside_when_a_save_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kzoo.load(folder)

    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        kzoo.save(model(), folder)
    monkeypatch.undo()
    assert [path.name for path in folder.parent.iterdir()] == ["m"]
    assert same(kzoo.load(folder), before)


def test_write_json_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    weights.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        weights.write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_run_folder_is_opened_by_the_model_inside(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.move(folder, run / "model")
    assert weights.model_folder(run) == run / "model"
    assert weights.model_folder(run / "model") == run / "model"
    assert kzoo.load(run).kzoo.name == "mlp"
