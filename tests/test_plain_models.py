"""Keras models that kzoo did not build: trained, resumed, scored and asked."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import snapshots
from kzoo.weights.plain import architecture, name_of

layers = keras.layers
SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 256,
    "snapshot_every": "2",
    "warmup_steps": 2,
    "ema": 0.5,
}


def functional(seed: int = 0, units: int = 10, activation: Any = None) -> keras.Model:
    """Two nested models whose layers have the same names; dropout; BatchNorm."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1))
    for _ in range(2):
        inner = keras.Input((8, 8, 1))
        y = layers.SeparableConv2D(2, 3, padding="same", name="conv")(inner)
        y = layers.Conv2D(1, 1, name="mix")(layers.BatchNormalization(name="bn")(y))
        x = keras.Model(inner, y)(x)
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(units, activation)(x))


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, units: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.flatten = layers.Flatten()
        self.dense = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.dense(self.flatten(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


class Crash(keras.callbacks.Callback):
    """Dies before the fourth step of the second epoch."""

    remembered = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (1, 3):
            raise MemoryError("killed")


def values(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def train(model: Any, out: Path, **changes: Any) -> kzoo.training.Run:
    return kzoo.train(model, "digits", out=out, **{**SETTINGS, **changes})


@pytest.mark.contract
def test_plain_model_is_trained_as_a_copy_and_scored_again(tmp_path: Path) -> None:
    model = functional()
    model.compile("sgd", "mse")
    before = [value.copy() for value in values(model)]
    run = train(model, tmp_path / "run")
    assert sorted(path.name for path in (run.folder / "model").iterdir()) == [
        "config.json",
        "model.keras",
        "preprocessing.json",
    ]
    for value, kept in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(value, kept)
    loaded = keras.saving.load_model(run.folder / "model" / "model.keras")
    for value, kept in zip(values(loaded), values(run.load()), strict=True):
        np.testing.assert_array_equal(value, kept)
    assert kzoo.evaluate(run)["loss"] == pytest.approx(run.metrics["test"]["loss"])
    (found,) = kzoo.predict(run, np.zeros((1, 8, 8, 1), "uint8"), top=10)
    assert sum(found.probabilities) == pytest.approx(1)
    assert train(functional(), tmp_path / "run").folder == run.folder  # it is finished
    again = train(run.folder, tmp_path / "again", epochs=1)
    assert again.config["start"]["from"] == str(run.folder)


def test_running_statistics_keep_their_momentum(tmp_path: Path) -> None:
    """In a run that is short for a momentum of 0.99, as the caller has it."""
    model = train(functional(), tmp_path / "run", epochs=1).load()
    norms = [layer for layer in model._flatten_layers() if layer.name == "bn"]
    assert [norm.momentum for norm in norms] == [0.99, 0.99]


def test_own_weights_start_the_run(tmp_path: Path) -> None:
    model = functional()
    run = train(model, tmp_path / "run", epochs=1, learning_rate=1e-30, ema=0.0)
    kernels = [w for w in model.weights if "moving" not in w.path]
    trained = [w for w in run.load().weights if "moving" not in w.path]
    for one, other in zip(kernels, trained, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


@pytest.mark.skipif(keras.config.backend() == "torch", reason="not bit-exact there")
@pytest.mark.contract
def test_a_crash_changes_nothing(tmp_path: Path) -> None:
    whole = train(functional(), tmp_path / "whole")
    with pytest.raises(MemoryError):
        train(functional(), tmp_path / "killed", callbacks=[Crash()])
    again = train(functional(), tmp_path / "killed")
    states = [
        snapshots.read(snapshots.listed(run.folder / "snapshots")[0]).arrays
        for run in (whole, again)
    ]
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)
    for one, other in zip(values(whole.load()), values(again.load()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_network_or_other_weights_are_another_run(tmp_path: Path) -> None:
    train(functional(), tmp_path / "run", epochs=1)
    wider = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    wider.add(layers.Dense(10))
    with pytest.raises(ValueError, match=r"holds another run: 'model.architecture' is"):
        train(wider, tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match=r"under keras.utils.set_random_seed to start"):
        train(functional(seed=1), tmp_path / "run", epochs=1)


def test_subclassed_model_without_weights_is_built(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        keras.utils.set_random_seed(0)
        runs.append(train(Subclassed(), tmp_path / name, epochs=1))
    assert runs[0].metrics["test"]["loss"] == runs[1].metrics["test"]["loss"]
    assert runs[0].config["model"]["name"] == "subclassed"
    assert kzoo.evaluate(runs[0])["loss"] == runs[0].metrics["test"]["loss"]


def sequential(*added: Any, shape: tuple[int, ...] = (8, 8, 1)) -> keras.Model:
    return keras.Sequential([keras.Input(shape), layers.Flatten(), *added], name="own")


def two_inputs() -> keras.Model:
    inputs = [keras.Input((3,), name=name) for name in ("left", "right")]
    return keras.Model(inputs, layers.Dense(10)(layers.Concatenate()(inputs)))


def two_outputs() -> keras.Model:
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs)
    return keras.Model(inputs, [layers.Dense(10)(x), layers.Dense(10)(x)])


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            sequential(layers.Dense(9)),
            {},
            "own gives 9 for an example; digits",
        ),
        (
            sequential(layers.Dense(10), shape=(7, 8, 1)),
            {},
            "own takes inputs of 7 x 8 x 1; digits gives 8 x 8 x 1",
        ),
        (
            sequential(layers.Dense(10, "softmax")),
            {},
            "own ends in softmax; kzoo",
        ),
        (sequential(layers.Dense(10), layers.Softmax()), {}, "own ends in softmax"),
        (two_inputs(), {}, "functional takes the inputs left, right; digits gives one"),
        (two_outputs(), {}, "functional gives 2 outputs; kzoo trains one"),
        (
            sequential(layers.Lambda(lambda x: 2 * x), layers.Dense(10)),
            {},
            "own cannot be loaded once it is saved: .*`Lambda` layer",
        ),
        (Subclassed(9), {}, "subclassed gives 9 for an example"),
        (sequential(layers.Dense(10)), {"units": 3}, "has no hyper-parameters"),
        (
            sequential(layers.Dense(10)),
            {"epoch": 3},
            "no field 'epoch'. Did you mean",
        ),
        (
            sequential(layers.Dense(10)),
            {"freeze": "stem"},
            "freeze='stem' needs a",
        ),
        (sequential(layers.Dense(10)), {"lora": 4}, "lora=4 needs a model that kzoo"),
        (
            sequential(layers.Dense(10)),
            {"precision": "mixed_bfloat16"},
            "precision='mixed_bfloat16' needs a model",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_before_training(
    model: keras.Model, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        train(model, tmp_path / "run", **settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_probabilities_of_a_model_without_a_graph_are_seen(tmp_path: Path) -> None:
    class Shares(Subclassed):
        def call(self, x: Any) -> Any:
            return keras.ops.softmax(super().call(x))

    with pytest.raises(ValueError, match="shares ends in softmax"):
        train(Shares(), tmp_path / "run")


@pytest.mark.parametrize("workflow", [kzoo.tune, kzoo.pretrain])
def test_workflows_that_need_hyper_parameters_say_so(workflow: Any) -> None:
    with pytest.raises(ValueError, match="own is a plain Keras model: kzoo"):
        workflow(sequential(layers.Dense(10)), "digits")
    with pytest.raises(ValueError, match="own is a plain Keras model"):
        kzoo.distill("mlp", sequential(layers.Dense(10)), "digits")


def test_numbered_names_are_no_part_of_a_model() -> None:
    first, second = functional(), functional()
    assert first.name != second.name
    assert architecture(first) == architecture(second)
    assert name_of(first) == name_of(second) == "functional"
    assert name_of(sequential()) == "own"


def test_class_that_is_not_here_is_named(tmp_path: Path) -> None:
    run = train(Subclassed(), tmp_path / "run", epochs=1)
    registered = keras.saving.get_custom_objects()
    kept = registered.pop("tests>Subclassed")
    config = json.loads((run.folder / "model" / "config.json").read_text())
    assert config["inputs"] == "images"
    try:
        with pytest.raises(ValueError, match=r"Keras cannot load .*name it by"):
            kzoo.evaluate(run)
    finally:
        registered["tests>Subclassed"] = kept
