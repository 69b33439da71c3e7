"""What ``model.save("t.keras")`` wrote, read again by another process."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.keras_files import without_identity
from kzoo.macs import shapes_only
from kzoo.models.family import Family
from kzoo.registry import FAMILIES, find_family
from kzoo.weights.plain import architecture

READ = """
import sys
from pathlib import Path
import kzoo.registry
import keras, numpy as np
for path in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = keras.saving.load_model(path)
    given = dict(np.load(path.with_suffix(".npz")))
    answer = given.pop("answer")
    found = model(given if len(given) > 1 else next(iter(given.values())))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), answer, atol=1e-5, rtol=1e-5
    )
    assert model.kzoo.name == path.stem, model.kzoo
    print(path.stem)
"""
NAMES_OF_KERAS = """
import kzoo.registry
import keras
given = keras.Input((1,))
print(given.name, keras.Model(given, given).name)
"""
WITHOUT_KZOO = """
import sys
import keras
model = keras.saving.load_model(sys.argv[1])
assert not any(name.startswith("kzoo") for name in sys.modules)
print(model.count_params())
"""
NAMES = ("bert_base", "gpt2", "lstm", "transformer", "vit_tiny_16")


def in_another_process(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", *arguments],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_familys_class_reads_its_identity_back(family: Family) -> None:
    name = next(iter(family.variants))
    with shapes_only():
        model = kzoo.build_model(name, **family.smallest.to_json())
        again = type(model).from_config(model.get_config())
        copy = keras.models.clone_model(model)
    found = keras.saving.deserialize_keras_object(
        {**keras.saving.serialize_keras_object(model)}
    )
    assert found.kzoo == model.kzoo
    assert type(again) is type(found) is type(model) is type(copy)


def test_a_model_read_back_takes_a_new_head_and_is_saved(tmp_path: Path) -> None:
    model = kzoo.build_model("cnn_tiny", channels=1, num_classes=3)
    model.save(tmp_path / "t.keras")
    read = keras.saving.load_model(tmp_path / "t.keras")
    assert read.kzoo == model.kzoo
    assert kzoo.replace_head(read, 5).output_shape == (None, 5)
    read.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert kzoo.load(kzoo.save(again, tmp_path / "kept")).kzoo == model.kzoo


def test_a_model_around_one_of_kzoos_is_plain(tmp_path: Path) -> None:
    inner = kzoo.build_model("mlp", image_size=8, channels=1, units=(4,))
    outer = keras.Sequential([keras.Input((8, 8, 1)), inner])
    outer.save(tmp_path / "t.keras")
    read = keras.saving.load_model(tmp_path / "t.keras")
    assert not hasattr(read, "kzoo")
    assert read.layers[-1].kzoo == inner.kzoo
    bare = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.Model.from_config(without_identity(inner.get_config())),
        ]
    )
    assert architecture(outer) == architecture(bare)


@pytest.mark.slow
def test_a_file_of_keras_layers_needs_no_kzoo(tmp_path: Path) -> None:
    model = kzoo.build_model("cnn_tiny", channels=1)
    model.save(tmp_path / "t.keras")
    read = in_another_process(WITHOUT_KZOO, str(tmp_path / "t.keras"))
    assert read == [str(model.count_params())]


@pytest.mark.slow
def test_files_need_kzoos_layers_and_nothing_else(tmp_path: Path) -> None:
    for name in NAMES:
        model = kzoo.build_model(name, **find_family(name).smallest.to_json())
        rng = np.random.default_rng(0)
        given = {
            tensor.name: rng.integers(
                1, 2, (2, *(size or 5 for size in tensor.shape[1:]))
            ).astype(tensor.dtype)
            for tensor in model.inputs
        }
        answer = model(given if len(given) > 1 else next(iter(given.values())))
        answer = keras.ops.convert_to_numpy(answer)
        np.savez(tmp_path / f"{name}.npz", answer=answer, **given)
        model.save(tmp_path / f"{name}.keras")
    assert in_another_process(READ, str(tmp_path)) == sorted(NAMES)


@pytest.mark.slow
def test_the_import_takes_no_name_that_keras_counts_up() -> None:
    given = NAMES_OF_KERAS.replace("import kzoo.registry", "")
    assert in_another_process(NAMES_OF_KERAS) == in_another_process(given)
