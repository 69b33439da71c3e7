"""The registry: building, registering, replacing the head, and what errors say."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import index, registry
from kzoo.models import mlp
from kzoo.models.family import Family


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_by_name", dict(registry._by_name))
    monkeypatch.setattr(index, "_added", dict(index._added))
    yield


def family(**changes: Any) -> Family:
    smallest = mlp.FAMILY.smallest
    own = Family(
        mlp.build,
        {"mlp_own": smallest, "mlp_second": smallest},
        smallest=smallest,
        tasks=("regression",),
        paper={"mlp_own": "one", "mlp_second": "two"},
        name="own",
    )
    return dataclasses.replace(own, **changes)


def arrays_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {w.path: keras.ops.convert_to_numpy(w).copy() for w in model.weights}


def test_built_model_knows_what_it_is() -> None:
    model = kzoo.build_model("mlp", units=(3, 4), num_features=2)
    assert model.name == model.kzoo.name == "mlp"
    assert model.kzoo.hparams["units"] == [3, 4]  # plain JSON types
    assert model.kzoo.hparams["num_classes"] == 10  # those not given too
    assert model.kzoo.parts == {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.kzoo.name = "cnn"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "transfomer",
            {},
            "unknown model 'transfomer'. Did you mean 'transformer'?",
        ),
        (
            "transformer",
            {"num_layer": 2},
            "transformer has no hyper-parameter 'num_layer'. "
            "Did you mean 'num_layers'?",
        ),
        (
            "transformer",
            {"num_layers": 0},
            "transformer: num_layers=0 is not an int from 1 to 200",
        ),
        (
            "cnn_tiny",
            {"pooling": "avg"},
            "cnn_tiny: pooling='avg' is not one of 'max', 'average'",
        ),
    ],
)
def test_bad_name_or_value_gets_one_line(
    name: str, values: dict[str, Any], message: str
) -> None:
    for call in (kzoo.build_model, kzoo.describe):
        with pytest.raises(ValueError) as error:
            call(name, **values)
        assert str(error.value) == message


def test_name_far_from_all_gets_the_list() -> None:
    with pytest.raises(ValueError) as error:
        kzoo.build_model("xyzzy")
    text = str(error.value)
    assert text.startswith("unknown model 'xyzzy'. There are: alexnet, autoencoder, ")
    assert len(text) < 200


@pytest.mark.usefixtures("zoo")
def test_registered_family_is_built_listed_and_described() -> None:
    own = family()
    assert kzoo.register(own) is own
    assert kzoo.build_model("mlp_own").output_shape == (None, 3)
    assert kzoo.list_models("mlp_[osx]*") == ["mlp_own", "mlp_second", "mlp_xor"]
    assert "mlp_own" in kzoo.list_models(task="regression")
    entry = kzoo.describe("mlp_second")
    assert (entry["family"], entry["paper"]) == ("own", "two")
    assert entry["trainable_parameters"] == 4 * 8 + 8 + 8 * 3 + 3


@pytest.mark.usefixtures("zoo")
def test_taken_name_is_refused_and_nothing_registered() -> None:
    taken = family(variants={"mlp_own": mlp.MLPHParams(), "cnn": mlp.MLPHParams()})
    with pytest.raises(ValueError) as error:
        kzoo.register(taken)
    assert str(error.value) == "there is a model 'cnn' already"
    assert "mlp_own" not in kzoo.list_models()


@pytest.mark.usefixtures("zoo")
def test_family_that_does_not_build_is_not_registered() -> None:
    def build(hparams: Any) -> keras.Model:
        raise ValueError("not today")

    with pytest.raises(ValueError, match="mlp_own: not today"):
        kzoo.register(family(build=build))
    with pytest.raises(ValueError, match="unknown model 'mlp_own'"):
        kzoo.build_model("mlp_own")
    kzoo.register(family())  # its names are still free


@pytest.mark.contract
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mlp", {"num_features": 3, "units": (4,)}),
        ("cnn", {"filters": (3,), "dense_units": 4}),
        ("lstm", {"units": 4, "vocab_size": 7, "bidirectional": True}),
        ("transformer", {"hidden_dim": 8, "mlp_dim": 8, "padding_mask": True}),
    ],
)
def test_new_head_keeps_every_other_weight(name: str, values: dict[str, Any]) -> None:
    model = kzoo.build_model(name, **values)
    before = arrays_of(model)
    changed = kzoo.replace_head(model, 3)
    assert changed.output_shape == (None, 3)
    assert changed.kzoo.hparams == {**model.kzoo.hparams, "num_classes": 3}
    after = arrays_of(changed)
    assert after.keys() == before.keys()
    for path, value in after.items():
        if path.startswith("logits/"):
            assert value.shape[-1] == 3
        else:
            np.testing.assert_array_equal(value, before[path])
    for weight in changed.weights:
        weight.assign(np.zeros(weight.shape))
    for path, value in arrays_of(model).items():  # the given model is as it was
        np.testing.assert_array_equal(value, before[path])


def test_head_can_go_and_come_back() -> None:
    model = kzoo.build_model("mlp", num_features=3, units=(4,))
    pooled = kzoo.replace_head(model, 0)
    assert pooled.output_shape == (None, 4)
    again = kzoo.replace_head(pooled, 2)
    assert again.output_shape == (None, 2)
    np.testing.assert_array_equal(
        arrays_of(again)["block_0/kernel"], arrays_of(model)["block_0/kernel"]
    )


def test_foreign_model_has_no_head_to_replace() -> None:
    stranger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="own")
    with pytest.raises(ValueError, match="model 'own' has no kzoo identity"):
        kzoo.replace_head(stranger, 3)


def test_public_function_is_not_hidden_by_the_module_of_its_name() -> None:
    import kzoo.features
    import kzoo.macs

    assert kzoo.macs(kzoo.build_model("mlp_xor")) == 12
    assert callable(kzoo.features)
    assert set(kzoo.__all__) <= set(dir(kzoo))
    with pytest.raises(AttributeError, match="has no attribute 'build'"):
        _ = kzoo.build


def test_asking_what_there_is_imports_no_keras() -> None:
    script = """
import sys
import kzoo
heavy = {"keras", "numpy", "tensorflow", "jax", "torch", "sklearn", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
kzoo.list_models("*", task="regression")
kzoo.describe("cnn")
try:
    kzoo.describe("transfomer")
except ValueError:
    pass
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
