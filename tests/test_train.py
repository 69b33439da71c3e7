"""``kzoo.train`` and ``kzoo.evaluate`` as users call them: what a run leaves, and why.

The models are tiny, and most tests look at the same few runs.
"""

import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import accuracy_score, log_loss, r2_score

import kzoo
from kzoo import weights
from kzoo.training import NonFiniteLossError, Run
from kzoo.training.compiling import right

TINY = {
    "units": (32,),
    "dropout_rate": 0.0,
    "batch_size": 128,
    "learning_rate": 1e-2,
}
RNG = np.random.default_rng(0)
# Three clouds of points, which a tiny model learns in a few steps.
CLASSES = np.arange(90) % 3
POINTS = RNG.normal(size=(90, 4)).astype("float32") + 2 * np.eye(4)[CLASSES]
CLOUDS = (POINTS.astype("float32"), CLASSES)


class Weights(keras.callbacks.Callback):
    """Keeps the weights after each step, and where the epochs end."""

    remembered = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[np.ndarray]] = []
        self.ends: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if keras.config.backend() == "jax":
            self.model.jax_state_sync()
        self.steps.append([w.copy() for w in self.model.get_weights()])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.ends.append(len(self.steps) - 1)


def digits_run(out: Path, **changes: Any) -> Run:
    return kzoo.train("mlp", "digits", out=out, **{**TINY, "epochs": 3, **changes})


def clouds_run(out: Path, **changes: Any) -> Run:
    settings = {"units": (8,), "batch_size": 16, "epochs": 2, "learning_rate": 1e-2}
    return kzoo.train("mlp", CLOUDS, out=out, **{**settings, **changes})


@pytest.fixture(scope="module")
def recorder() -> Weights:
    return Weights()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recorder: Weights) -> Run:
    return digits_run(tmp_path_factory.mktemp("digits") / "run", callbacks=[recorder])


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("diabetes") / "run"
    return kzoo.train("mlp", "diabetes", out=out, epochs=8, learning_rate=1e-2)


# --- the run folder ---------------------------------------------------------------


def test_folder_holds_what_a_run_is(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir() if path.name[0] != "."}
    assert {
        "config.json",
        "history.csv",
        "metrics.json",
        "model",
        "plots",
        "tensorboard",
        "log.txt",
    } <= names
    assert {path.name for path in (run.folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessing.json",
    }
    assert run.finished


def test_config_holds_every_resolved_value(run: Run) -> None:
    config = run.config
    assert config["model"]["name"] == "mlp"
    assert config["model"]["hparams"]["units"] == [32]
    assert config["model"]["hparams"]["num_classes"] == 10
    assert config["recipe_name"] == "mlp_digits"
    assert config["recipe"]["epochs"] == 3
    assert set(config["recipe"]) == set(kzoo.Recipe().to_json())
    assert config["dataset"]["name"] == "digits"
    assert config["dataset"]["options"] == {"as_sequence": False, "seed": 0}
    digits = kzoo.load_dataset("digits")
    assert config["dataset"]["fingerprint"] == digits.spec.fingerprint
    assert config["backend"] == keras.config.backend()
    assert set(config["versions"]) >= {"kzoo", "keras"}


def test_history_has_a_row_an_epoch(run: Run) -> None:
    rows = run.history
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["step"] for row in rows] == [10, 20, 30]  # 1257 digits by 128
    for row in rows:
        assert {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"} <= set(row)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert [row["learning_rate"] for row in rows] == sorted(
        (row["learning_rate"] for row in rows), reverse=True
    )


def test_log_says_what_was_done(run: Run) -> None:
    text = (run.folder / "log.txt").read_text()
    assert "recipe: mlp_digits" in text
    assert "mlp on digits, 10 steps an epoch" in text
    assert "test: {" in text


def test_log_level_and_handlers_come_back(tmp_path: Path) -> None:
    logger = logging.getLogger("kzoo")
    before = logger.level, list(logger.handlers)
    clouds_run(tmp_path / "run", epochs=1)
    assert (logger.level, logger.handlers) == before


def test_metrics_are_scikit_learns_on_the_models_own_answers(run: Run) -> None:
    model = run.load()
    digits = kzoo.load_dataset("digits")
    for split in ("test", "validation"):
        raw = digits.splits[split]
        logits = model.predict(raw.inputs / np.float32(16), verbose=0)
        p = keras.ops.convert_to_numpy(ops.softmax(ops.cast(logits, "float32")))
        found = run.metrics[split]
        assert found["accuracy"] == accuracy_score(raw.labels, logits.argmax(1))
        loss = log_loss(raw.labels, p / p.sum(1, keepdims=True), labels=range(10))
        assert found["loss"] == pytest.approx(loss, rel=1e-4)
        assert sum(row["examples"] for row in found["classes"]) == len(raw)


def test_metrics_are_those_of_evaluate(run: Run) -> None:
    for split in ("test", "validation"):
        found = kzoo.evaluate(run, split=split)
        assert found == run.metrics[split]
        assert (
            kzoo.evaluate(run.folder, split=split, batch_size=7)["accuracy"]
            == (found["accuracy"])
        )
    assert kzoo.evaluate(run, split="train")["accuracy"] > 0.5


def test_validation_of_the_last_epoch_is_in_the_history(run: Run) -> None:
    best = int(run.metrics["best_epoch"])
    row = run.history[best - 1]
    assert row["val_accuracy"] == run.metrics["validation"]["accuracy"]
    assert row["val_loss"] == pytest.approx(run.metrics["validation"]["loss"])


def test_kept_weights_are_those_of_the_best_epoch(run: Run, recorder: Weights) -> None:
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in run.history]
    best = run.metrics["best_epoch"]
    assert scores[best - 1] == max(scores)
    kept = run.load().get_weights()
    then = recorder.steps[recorder.ends[best - 1]]
    assert all((a == b).all() for a, b in zip(kept, then, strict=True))


def test_an_earlier_epoch_is_kept_when_later_ones_are_worse(tmp_path: Path) -> None:
    class Spoil(keras.callbacks.Callback):
        remembered = False

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 3:
                for weight in self.model.trainable_variables:
                    weight.assign(-weight.value)

    recorder = Weights()
    done = clouds_run(
        tmp_path / "run",
        epochs=4,
        callbacks=[Spoil(), recorder],
        schedule="step",
        decay_epochs=(3,),
        decay_rate=0.0,
    )
    best = done.metrics["best_epoch"]
    assert best < 4
    assert [row["best"] for row in done.history][3] == 0
    kept = done.load().get_weights()
    then = recorder.steps[recorder.ends[best - 1]]
    last = recorder.steps[-1]
    assert all((a == b).all() for a, b in zip(kept, then, strict=True))
    assert any((a != b).any() for a, b in zip(kept, last, strict=True))


def test_tensorboard_reads_the_events(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    names = tags["tensors"] or tags["scalars"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} <= set(
        names
    )
    read = events.Tensors if tags["tensors"] else events.Scalars
    found = read("loss")
    assert [event.step for event in found] == [10, 20, 30]
    values = [
        event.tensor_proto.float_val[0] if tags["tensors"] else event.value
        for event in found
    ]
    np.testing.assert_allclose(values, [row["loss"] for row in run.history], rtol=1e-6)


def test_plots_open_and_show_something(run: Run, regression: Run) -> None:
    found = {path.name for path in (run.folder / "plots").iterdir()}
    assert found == {"curves.png", "confusion.png"}
    theirs = {path.name for path in (regression.folder / "plots").iterdir()}
    assert theirs == {"curves.png", "predicted.png"}
    for folder in (run.folder, regression.folder):
        for path in (folder / "plots").iterdir():
            image = matplotlib.image.imread(path)[..., :3]
            assert min(image.shape[:2]) > 300
            shades = np.unique(image.reshape(-1, 3), axis=0)
            assert len(shades) > 20
            ink = (image.min(axis=-1) < 0.9).mean()
            assert 0.01 < ink < 0.8


# --- tasks and data ---------------------------------------------------------------


def test_regression_is_scored_in_the_units_of_its_targets(regression: Run) -> None:
    data = kzoo.load_dataset("diabetes")
    raw = data.splits["test"]
    scaled = data.preprocessing.inputs(raw.inputs)
    outputs = regression.load().predict(scaled, verbose=0)[:, 0]
    predicted = data.preprocessing.predictions(outputs)
    found = regression.metrics["test"]
    assert set(found) == {"loss", "r2", "mse", "mae"}
    assert found["r2"] == pytest.approx(r2_score(raw.labels, predicted), abs=1e-5)
    assert found["mae"] == pytest.approx(np.abs(raw.labels - predicted).mean(), 1e-5)
    assert found["r2"] > 0.2
    # Both losses of the record are squares of the same unit.
    last = regression.history[-1]
    assert 0.2 < last["loss"] / last["val_loss"] < 5


def test_arrays_are_trained_on_and_scored_on_the_same_split(tmp_path: Path) -> None:
    done = clouds_run(tmp_path / "run", seed=3, epochs=8, learning_rate=0.1)
    assert done.config["dataset"]["options"]["seed"] == 3
    assert done.metrics["test"]["accuracy"] > 0.6
    # With another seed, training examples would be in the test split.
    assert kzoo.evaluate(done, CLOUDS) == done.metrics["test"]
    with pytest.raises(ValueError, match="was trained on arrays, which it does not"):
        kzoo.evaluate(done)


def test_named_dataset_is_scored_on_the_runs_own_split(tmp_path: Path) -> None:
    done = digits_run(tmp_path / "run", seed=3, epochs=1)
    assert kzoo.evaluate(done, "digits") == done.metrics["test"]
    assert kzoo.evaluate(done) == done.metrics["test"]


def test_other_data_must_fit_the_run(run: Run) -> None:
    with pytest.raises(ValueError, match="was trained with num_features=8, the data"):
        kzoo.evaluate(run, "diabetes")
    with pytest.raises(ValueError, match=r"unknown split 'tets'\. Did you mean 'test'"):
        kzoo.evaluate(run, split="tets")
    fewer = kzoo.load_dataset("digits").splits["test"]
    some = fewer.labels < 8
    pair = (fewer.inputs[some], fewer.labels[some])
    found = kzoo.evaluate(run, dict.fromkeys(("train", "validation", "test"), pair))
    assert len(found["classes"]) == 10


def test_data_that_changed_are_noticed(run: Run, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(run.folder, tmp_path / "run"))
    config = run.config
    config["dataset"]["fingerprint"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="digits is no longer what"):
        kzoo.evaluate(copy)


def test_images_of_the_callers_own(tmp_path: Path) -> None:
    digits = kzoo.load_dataset("digits").splits["train"]
    pair = (digits.inputs[:120] * 15, digits.labels[:120])
    done = kzoo.train(
        "cnn_tiny", pair, out=tmp_path / "run", epochs=1, filters=(4,), dense_units=4
    )
    assert done.config["task"] == "image-classification"
    assert weights.load_preprocessing(done.folder).input_scale == (255.0,)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((POINTS * np.nan, CLASSES), "inputs hold NaN or infinity, first in row 0"),
        ((POINTS, CLASSES * 0), "labels hold one class alone; two are needed"),
        ((POINTS[:5], CLASSES), "5 inputs and 90 labels"),
        ("digts", "unknown dataset 'digts'. Did you mean 'digits'?"),
    ],
)
def test_bad_data_leave_nothing_behind(
    source: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.train("mlp", source, out=tmp_path / "run")
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"epoch": 3},
        {"units": (0,)},
        {"num_classes": 7},
        {"optimizer": "adm"},
        {"warmup_steps": 10**6},
        {"distribution": "mirrorred"},
        {"distribution": "parameter_server"},
        {"augmentation": ("shift",)},
    ],
    ids=str,
)
def test_bad_settings_leave_nothing_behind(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError):
        kzoo.train("mlp", CLOUDS, out=tmp_path / "run", **settings)
    assert list(tmp_path.iterdir()) == []


# --- what a recipe asks for -------------------------------------------------------


def test_mixed_examples_teach_too(tmp_path: Path) -> None:
    done = clouds_run(tmp_path / "run", mixup=0.4, epochs=8, learning_rate=0.1)
    assert done.metrics["test"]["accuracy"] > 0.8
    assert done.history[-1]["loss"] > done.metrics["test"]["loss"]  # soft labels


def test_mixed_labels_of_one_logit_are_scored_as_the_nearer_class() -> None:
    found = right(np.array([0.2, 0.8, 0.6]), np.array([[-1.0], [3.0], [-2.0]]))
    np.testing.assert_array_equal(np.asarray(found), [1.0, 1.0, 0.0])


@pytest.mark.contract
def test_early_stopping_ends_after_its_patience(tmp_path: Path) -> None:
    done = clouds_run(tmp_path / "run", epochs=30, early_stopping=2, learning_rate=0.0)
    assert done.metrics["best_epoch"] == 1  # nothing ever gets better
    assert [row["epoch"] for row in done.history] == [1, 2, 3]
    assert "stopping early" in (done.folder / "log.txt").read_text()


@pytest.mark.contract
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_kept_weights_are_the_averaged_ones(precision: str, tmp_path: Path) -> None:
    decay, recorder = 0.8, Weights()
    changes = {"ema": decay, "precision": precision, "learning_rate": 0.05}
    done = clouds_run(tmp_path / "run", **changes, callbacks=[recorder])
    averages = [recorder.steps[0]]
    for now in recorder.steps[1:]:
        pairs = zip(averages[-1], now, strict=True)
        averages.append([decay * a + (1 - decay) * w for a, w in pairs])
    end = recorder.ends[done.metrics["best_epoch"] - 1]
    kept = done.load().get_weights()
    for one, average, raw in zip(kept, averages[end], recorder.steps[end], strict=True):
        np.testing.assert_allclose(one, average, atol=1e-5)
        assert np.abs(one - raw).max() > 1e-4
    if precision != "float32":
        return
    # What was scored is what was kept, and averaging left the training alone.
    found = kzoo.evaluate(done, CLOUDS, split="validation")
    assert found == done.metrics["validation"]
    plain = Weights()
    clouds_run(tmp_path / "plain", **changes | {"ema": 0.0}, callbacks=[plain])
    for one, two in zip(recorder.steps[-1], plain.steps[-1], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.contract
def test_label_smoothing_is_in_the_training_loss_alone(tmp_path: Path) -> None:
    """At a rate of 0 the losses are those of the first weights."""
    still = {"learning_rate": 0.0, "epochs": 1, "batch_size": 63}  # all of them
    plain = clouds_run(tmp_path / "plain", **still)
    smooth = clouds_run(tmp_path / "smooth", **still, label_smoothing=0.3)
    one, two = plain.history[0], smooth.history[0]
    assert one["val_loss"] == two["val_loss"]
    data = kzoo.load_dataset(CLOUDS)
    batch = data.eval_batches("train", 63)[0]
    x = np.asarray(smooth.load().predict_on_batch(batch["inputs"]), "float64")
    log_p = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    target = 0.7 * np.eye(3)[batch["labels"]] + 0.1
    assert two["loss"] == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-4)


@pytest.mark.contract
@pytest.mark.parametrize(
    "precision",
    [pytest.param("mixed_bfloat16", marks=pytest.mark.bfloat16), "mixed_float16"],
)
def test_mixed_precision_keeps_weights_and_logits_in_float32(
    precision: str, tmp_path: Path
) -> None:
    class Look(keras.callbacks.Callback):
        remembered = False
        model_dtypes: tuple[str, ...] = ()

        def on_train_begin(self, logs: Any = None) -> None:
            hidden, head = (self.model.get_layer(n) for n in ("block_0", "logits"))
            self.model_dtypes = (
                hidden.compute_dtype,
                head.compute_dtype,
                hidden.kernel.dtype,
            )

    look = Look()
    done = clouds_run(tmp_path / "run", precision=precision, callbacks=[look])
    half = precision.removeprefix("mixed_")
    assert look.model_dtypes == (half, "float32", "float32")
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(done.metrics["test"]["loss"])
    assert done.load().get_layer("block_0").compute_dtype == "float32"


def test_clip_and_accumulation_reach_the_optimizer(tmp_path: Path) -> None:
    class Look(keras.callbacks.Callback):
        remembered = False
        found: dict[str, Any] = {}  # noqa: RUF012

        def on_train_begin(self, logs: Any = None) -> None:
            self.found = self.model.optimizer.get_config()

    look = Look()
    done = clouds_run(
        tmp_path / "run", clip=0.5, gradient_accumulation=2, callbacks=[look]
    )
    assert look.found["global_clipnorm"] == 0.5
    assert look.found["gradient_accumulation_steps"] == 2
    assert np.isfinite(done.metrics["test"]["loss"])


def test_steps_per_execution_changes_no_result(tmp_path: Path) -> None:
    one = clouds_run(tmp_path / "one", epochs=2)
    many = clouds_run(tmp_path / "many", epochs=2, steps_per_execution=2)
    pairs = zip(one.load().get_weights(), many.load().get_weights(), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.contract
def test_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError) as error:
        clouds_run(
            tmp_path / "run",
            optimizer="sgd",
            learning_rate=1000.0,
            activation="relu",
            units=(64, 64, 64),
            schedule="constant",
            epochs=20,
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "metrics.json").exists()
    with pytest.raises(FileNotFoundError, match="the run has not finished"):
        kzoo.evaluate(tmp_path / "run")


# --- starting from a run, seeds, bits ---------------------------------------------


def test_run_folder_starts_another_run(run: Run, tmp_path: Path) -> None:
    recorder = Weights()
    second = kzoo.train(
        run.folder,
        "digits",
        out=tmp_path / "second",
        epochs=1,
        learning_rate=0.0,
        callbacks=[recorder],
    )
    old, new = run.load().get_weights(), second.load().get_weights()
    assert all((a == b).all() for a, b in zip(old, new, strict=True))
    assert second.metrics["test"] == run.metrics["test"]
    assert second.config["start"] is not None
    assert second.config["model"] == {
        key: run.config["model"][key] for key in ("name", "hparams")
    }


def bits(run: Run) -> str:
    data = (run.folder / "model" / "model.safetensors").read_bytes()
    return hashlib.sha256(data).hexdigest()


SAME_BITS = """
import sys
from pathlib import Path
from tests.test_train import bits, digits_run
print(bits(digits_run(Path(sys.argv[1]), seed=int(sys.argv[2]), epochs=1,
                      dropout_rate=0.2)))
"""


@pytest.mark.contract
def test_same_seed_same_bits_in_two_processes(tmp_path: Path) -> None:
    changed = {"epochs": 1, "dropout_rate": 0.2}
    here = digits_run(tmp_path / "here", seed=4, **changed)
    other = digits_run(tmp_path / "other", seed=5, **changed)
    there = subprocess.run(
        [sys.executable, "-c", SAME_BITS, str(tmp_path / "there"), "4"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]
    assert there == bits(here) != bits(other)


def test_what_ran_before_does_not_matter(tmp_path: Path) -> None:
    one = clouds_run(tmp_path / "one", epochs=1, dropout_rate=0.5)
    keras.utils.set_random_seed(99)
    kzoo.build_model("mlp").predict(np.zeros((2, 8)), verbose=0)
    two = clouds_run(tmp_path / "two", epochs=1, dropout_rate=0.5)
    assert bits(one) == bits(two)


def test_callers_random_state_is_untouched(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    clouds_run(tmp_path / "run", epochs=1)
    assert (random.random(), np.random.random()) == expected


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path) -> None:
    done = clouds_run(tmp_path / "run", epochs=1)
    before = (done.folder / "metrics.json").stat().st_mtime_ns
    assert clouds_run(tmp_path / "run", epochs=1) == done
    assert (done.folder / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_recipe_of_xor_learns_it(tmp_path: Path) -> None:
    done = kzoo.train("mlp_xor", out=tmp_path / "run", seed=1)
    assert done.metrics["test"]["accuracy"] == 1.0


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import keras, kzoo
assert keras.config.backend() == "jax"
run = kzoo.train("cnn_tiny", "digits", out=sys.argv[1], epochs=2, batch_size=256,
                 augmentation=("shift",), filters=(4,), dense_units=8)
assert run.config["recipe"]["augmentation"] == ["shift"]
print(kzoo.evaluate(run)["accuracy"])
"""


def test_jax_trains_where_tensorflow_cannot_be_imported(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path / "run")],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert 0 < float(found.stdout.split()[-1]) <= 1
