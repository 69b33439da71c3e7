"""Model folders that say something else than they hold: seen before memory is taken."""

import json
import logging
import random
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import kzoo
from kzoo import weights
from kzoo.cli.main import main
from kzoo.preprocessing import Preprocessing
from kzoo.training.run import open_run
from kzoo.weights.adapters import add_adapters, load_adapter
from kzoo.weights.fit import cast_exactly

SMALL: dict[str, Any] = {"num_features": 4, "units": (5,), "num_classes": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = add_adapters(kzoo.build_model("mlp", **SMALL), rank=2)
    scales = Preprocessing((1.0,) * 3, (2.0,) * 3, classes=("a", "b"))
    return kzoo.save(model, tmp_path / "m", preprocessing=scales)


def changed(file: Path, path: tuple[str, ...], value: Any) -> None:
    """Sets one entry of a JSON file."""
    content = json.loads(file.read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ([2], r"adapters=\[2\] is not an object of rank and layers"),
        ("lora", "adapters='lora' is not an object"),
        (True, "adapters=True is not an object"),
        (
            {"rank": 2, "layer": ["block_0"]},
            "adapters have no 'layer'. Did you mean 'layers'",
        ),
        ({"rank": "2", "layers": ["block_0"]}, "rank='2' of adapters is not an int"),
        ({"rank": True, "layers": ["block_0"]}, "rank=True of adapters is not an int"),
        ({"rank": 0, "layers": ["block_0"]}, "rank=0 of adapters is not an int of at"),
        ({"rank": 2}, "layers=None of adapters is not a list of names"),
        ({"rank": 2, "layers": "block_0"}, "layers='block_0' of adapters is not"),
        ({"rank": 2, "layers": [3]}, r"layers=\[3\] of adapters is not"),
        (
            {"rank": 2, "layers": ["blok_0"]},
            "no dense layer 'blok_0' to adapt. Did you",
        ),
        ({"rank": 10**9, "layers": ["block_0"]}, "rank=1000000000 of adapters is not"),
        ({"rank": 3, "layers": ["block_0"]}, r"lora_kernel_a' is \(4, 2\) in the file"),
    ],
)
def test_adapters_of_another_form(folder: Path, adapters: Any, message: str) -> None:
    changed(folder / "config.json", ("model", "adapters"), adapters)
    with pytest.raises(ValueError, match=message) as error:
        kzoo.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([1e12], r"\(4, 1000000000000\) in the model"),
        ([60000] * 8, r"\(60000, 60000\) in the model"),
    ],
)
def test_sizes_are_compared_before_memory_is_taken(
    folder: Path, units: Any, message: str, monkeypatch: Any
) -> None:
    """By a model of 100 GB; nothing may draw its weights."""
    changed(folder / "config.json", ("model", "hparams", "units"), units)
    drawn = []
    monkeypatch.setattr(
        keras.initializers.GlorotUniform, "__call__", lambda *a, **k: drawn.append(a)
    )
    with pytest.raises(ValueError, match=message) as error:
        kzoo.load(folder)
    assert "\n" not in str(error.value) and not drawn


def test_loading_draws_as_one_build_does(folder: Path) -> None:
    """What is drawn afterwards, such as a fresh head, does not depend on the check."""
    after = []
    for make in (lambda: kzoo.load(folder), lambda: _built()):
        keras.utils.set_random_seed(7)
        make()
        after.append(random.random())
    assert after[0] == after[1]


def _built() -> keras.Model:
    return add_adapters(kzoo.build_model("mlp", **SMALL), rank=2)


@pytest.mark.parametrize("kind", ["int32", "bool", "uint8", "int64"])
def test_integers_are_no_weights(folder: Path, kind: str) -> None:
    file = folder / "model.safetensors"
    arrays = load_file(file)
    arrays["logits/bias"] = np.ones(3, kind)
    save_file(arrays, file)
    with pytest.raises(ValueError, match=f"'logits/bias' is of type {kind}, the model"):
        kzoo.load(folder)


def test_integer_weights_keep_their_value() -> None:
    found = cast_exactly(np.array([3, 2**32 - 1], "int64"), "uint32", "'seed'")
    np.testing.assert_array_equal(found, np.array([3, 2**32 - 1], "uint32"))
    for wrong in (np.array([-1, 3]), np.array([2**40]), np.array([0.5, 1.0])):
        with pytest.raises(ValueError, match="'seed' "):
            cast_exactly(wrong, "uint32", "'seed'")


def test_a_weight_beyond_the_models_type_is_no_infinity() -> None:
    found = cast_exactly(np.array([1e-300, 0.1, np.inf]), "float32", "'kernel'")
    assert found.tolist() == [0.0, np.float32(0.1), np.inf]
    with pytest.raises(ValueError, match=r"'kernel' holds 1e\+300, beyond float32"):
        cast_exactly(np.array([1.0, 1e300]), "float32", "'kernel'")


def test_weights_that_are_not_finite_are_a_warning(folder: Path, caplog: Any) -> None:
    file = folder / "model.safetensors"
    arrays = load_file(file)
    arrays["logits/bias"] = np.array([0, np.nan, -np.inf], "float32")
    save_file(arrays, file)
    with caplog.at_level(logging.WARNING, "kzoo"):
        kzoo.load(folder)
    assert "2 of 3 values of 'logits/bias' are NaN or infinite" in caplog.text


@pytest.mark.parametrize("name", ["config.json", "preprocessing.json"])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_one_line(folder: Path, name: str, opening: str) -> None:
    (folder / name).write_text(opening * 100_000)
    with pytest.raises(ValueError, match=f"{name} is nested too deeply") as error:
        kzoo.load(folder)
        weights.load_preprocessing(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input_men", [1.0], "no 'input_men'. Did you mean 'input_mean'"),
        ("classes", "ab", "classes='ab' is not"),
        ("input_mean", 3, "input_mean=3 is not"),
        ("input_mean", ["1"], r"input_mean=\['1'\] is not"),
        ("image_size", [32], r"image_size=\[32\] is not"),
        ("image_size", [0, 32], r"image_size=\[0, 32\] is not"),
        ("input_scale", [0.0], r"input_scale=\[0.0\] is not"),
        ("input_scale", [1.0, 2.0], "input_mean has 3 numbers, input_scale 2"),
        ("interpolation", "cubic", "interpolation='cubic' is not one of"),
        ("lengths", [4, 2], r"lengths=\[4, 2\] is not"),
        ("pairs", "both", "pairs='both' is not one of"),
        ("crop_rate", 0.0, "crop_rate=0.0 is not"),
        ("truncate", 1, "truncate=1 is not true or false"),
        ("tokenizer", {}, "no 'tokenizer'"),
    ],
)
def test_preprocessing_of_another_form(
    folder: Path, key: str, value: Any, message: str, capsys: Any
) -> None:
    changed(folder / "preprocessing.json", (key,), value)
    with pytest.raises(ValueError, match=f"preprocessing.json: .*{message}"):
        weights.load_preprocessing(folder)
    assert main(["predict", str(folder), "1,2,3,4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_preprocessing_of_older_folders_loads(folder: Path) -> None:
    file = folder / "preprocessing.json"
    known = json.loads(file.read_text())
    file.write_text(json.dumps({"input_mean": [1.0], "input_scale": [2.0]}))
    found = weights.load_preprocessing(folder)
    assert found == Preprocessing(input_mean=(1.0,), input_scale=(2.0,))
    file.write_text(json.dumps(known))
    assert weights.load_preprocessing(folder).classes == ("a", "b")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("[" * 100_000, "its facts are not JSON"),
        ("[]", "holds no adapters"),
        ('{"name": 3}', "holds no adapters"),
        ({"adapters": {"rank": 10**9, "layers": ["block_0"]}}, "rank=1000000000 of"),
        ({"adapters": {"rank": 1, "layers": ["block_0"]}}, "does not fit mlp: .*lora"),
        ({"hparams": {**SMALL, "units": [60000]}}, "does not fit mlp"),
        ({"adapters": {"rank": 2, "layers": ["other"]}}, "no dense layer 'other'"),
    ],
)
def test_adapter_files_of_another_form(
    folder: Path, facts: Any, message: str, tmp_path: Path
) -> None:
    from safetensors import safe_open

    base = kzoo.merge_adapters(kzoo.load(folder))
    file = folder / "adapter.safetensors"
    with safe_open(file, framework="numpy") as stored:
        known = json.loads(stored.metadata()["kzoo"])
    # The adapters are zero, so that the merged model is their base.
    assert load_adapter(base, file).kzoo.adapters["rank"] == 2
    text = facts if isinstance(facts, str) else json.dumps({**known, **facts})
    save_file(load_file(file), file, metadata={"kzoo": text})
    with pytest.raises(ValueError, match=message) as error:
        load_adapter(base, file)
    assert "\n" not in str(error.value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from(sorted(Preprocessing.__dataclass_fields__)), PLAIN, max_size=3
    )
)
def test_any_preprocessing_is_read_or_refused_in_one_line(values: Any) -> None:
    try:
        found = Preprocessing.from_json(values)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert {key: found.to_json()[key] for key in values} == values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model",), "mlp", "model is not an object: 'mlp'"),
        (("model", "name"), 3, "model.name is not a text: 3"),
        (("dataset",), ["digits"], "dataset is not an object"),
        (("dataset", "options"), [], "dataset.options is not an object"),
        (("dataset", "name"), {}, "dataset.name is not a text"),
        (("recipe",), None, "recipe is not an object: None"),
        (("task",), [], "task is not a text"),
    ],
)
def test_a_run_of_another_form(
    folder: Path, path: tuple[str, ...], value: Any, message: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    folder.rename(run / "model")
    config = json.loads((run / "model" / "config.json").read_text())
    config |= {"dataset": {"name": "digits", "options": {}}, "recipe": {}}
    (run / "config.json").write_text(json.dumps(config))
    assert open_run(run).folder == run
    changed(run / "config.json", path, value)
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        open_run(run)
