"""A run that was stopped ends as the run that was not: bit for bit."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import safetensors.numpy

import kzoo
import kzoo.distribution
from kzoo.datasets import batches
from kzoo.training import (
    Interrupted,
    NonFiniteLossError,
    SnapshotError,
    compiling,
    resume,
    snapshots,
)
from kzoo.training import fit as fit_module
from kzoo.training.run import decisive

# Exact resume is promised on TensorFlow and JAX; on PyTorch the bits differ.
exact = pytest.mark.skipif(
    keras.config.backend() == "torch", reason="not bit-exact on PyTorch yet"
)
STEPS = 10  # an epoch: 1257 digits in batches of 128
SETTINGS = {
    "filters": (4,),
    "num_convs": 1,
    "dense_units": 8,
    "dropout_rate": 0.3,
    "ema": 0.5,
    "warmup_steps": 5,
    "batch_size": 128,
    "epochs": 3,
    "snapshot_every": "4",
}


def train(out, **changes):
    keras.utils.clear_session()
    return kzoo.train("cnn", "digits", out=out, **{**SETTINGS, **changes})


def ending(run):
    """What must be equal: weights, every state of the last snapshot, the history."""
    last = snapshots.read(snapshots.listed(run.folder / "snapshots")[0])
    digest = hashlib.sha256()
    for name in sorted(last.arrays):
        digest.update(name.encode() + last.arrays[name].tobytes())
    model = (run.folder / "model" / "model.safetensors").read_bytes()
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
    return hashlib.sha256(model).hexdigest(), digest.hexdigest(), history


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return ending(train(tmp_path_factory.mktemp("undisturbed") / "run"))


class Crash(keras.callbacks.Callback):
    """Dies before a step of an epoch, as a killed process would, or after an epoch."""

    remembered = False

    def __init__(self, epoch, batch=None):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise MemoryError("killed")

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            raise MemoryError("killed")


@exact
@pytest.mark.contract
@pytest.mark.parametrize(
    "crash",
    [
        Crash(0, 3),  # before the first snapshot
        Crash(0, 7),  # inside the first epoch
        Crash(1, 0),  # between two epochs
        Crash(1, None),  # after validation
        Crash(2, 9),  # before the last step
    ],
    ids=lambda crash: str(crash.at),
)
def test_a_crash_changes_nothing(tmp_path, undisturbed, crash):
    with pytest.raises(MemoryError):
        train(tmp_path / "run", callbacks=[crash])
    assert ending(train(tmp_path / "run")) == undisturbed


@exact
@pytest.mark.contract
def test_many_crashes_change_nothing(tmp_path, undisturbed):
    for crash in (Crash(0, 6), Crash(0, 4), Crash(1, 5), Crash(2, 2)):
        with pytest.raises(MemoryError):
            train(tmp_path / "run", callbacks=[crash])
    assert ending(train(tmp_path / "run")) == undisturbed


@exact
@pytest.mark.contract
def test_a_pause_changes_nothing(tmp_path, undisturbed):
    planned = kzoo.training.plan("cnn", "digits", settings=SETTINGS)
    config = fit_module.config_of(planned, kzoo.distribution.current())
    for until in (1, 2, 9):
        keras.utils.clear_session()
        with fit_module.seeded(planned.recipe.seed):
            ready = fit_module.compiled(planned)
            with fit_module.prepared(tmp_path / "run", config, "resume") as run:
                fit_module.fit_into(
                    run, planned, ready, until=until, splits=("validation",)
                )
        assert len(run.history) == min(until, SETTINGS["epochs"])
        assert "test" not in run.metrics
        assert not (run.folder / "plots").exists()
    assert ending(run) == undisturbed


def test_seeds_are_found_again_after_other_models_were_built(tmp_path, undisturbed):
    with pytest.raises(MemoryError):
        train(tmp_path / "run", callbacks=[Crash(1, 6)])
    for name in ("lstm", "cnn", "transformer"):
        kzoo.build_model(name)
    run = kzoo.train("cnn", "digits", out=tmp_path / "run", **SETTINGS)
    assert ending(run) == undisturbed


def test_without_the_dropout_seeds_the_end_differs(tmp_path, undisturbed, monkeypatch):
    whole = snapshots._variables

    def without_seeds(model):
        return {k: v for k, v in whole(model).items() if not k.startswith("seed/")}

    monkeypatch.setattr(snapshots, "_variables", without_seeds)
    with pytest.raises(MemoryError):
        train(tmp_path / "run", callbacks=[Crash(1, 6)])
    assert ending(train(tmp_path / "run"))[2] != undisturbed[2]


def test_without_the_pass_in_the_orders_seed_the_end_differs(
    tmp_path, undisturbed, monkeypatch
):
    with pytest.raises(MemoryError):
        train(tmp_path / "run", callbacks=[Crash(1, 6)])
    whole = batches.philox

    def of_the_first_pass(seed, purpose, position):
        return whole(seed, purpose, 0 if purpose == "order" else position)

    monkeypatch.setattr(batches, "philox", of_the_first_pass)
    assert ending(train(tmp_path / "run"))[2] != undisturbed[2]


class Signal(keras.callbacks.Callback):
    remembered = False

    def __init__(self, number, epoch, batch):
        super().__init__()
        self.number, self.at = number, (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_snapshot_of_that_step(tmp_path, undisturbed, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"stopped after step 1[67]"):
        train(
            tmp_path / "run",
            snapshot_every="1000",
            callbacks=[Signal(number, epoch=1, batch=6)],
        )
    assert signal.getsignal(number) is before
    (path,) = snapshots.listed(tmp_path / "run" / "snapshots")
    assert snapshots.read(path).step in (16, 17)
    assert ending(train(tmp_path / "run", snapshot_every="1000")) == undisturbed


def test_callbacks_remember(tmp_path):
    def stopping():
        return keras.callbacks.EarlyStopping(
            monitor="val_loss", mode="min", patience=2, min_delta=10.0
        )

    one = stopping()
    run = train(tmp_path / "one", epochs=6, callbacks=[one])
    assert len(run.history) == 3  # no epoch is better by 10: patience runs out
    with pytest.raises(MemoryError):
        train(tmp_path / "two", epochs=6, callbacks=[stopping(), Crash(1, 5)])
    again = train(tmp_path / "two", epochs=6, callbacks=[stopping()])
    assert ending(again) == ending(run)


def test_each_example_once_a_pass_where_steps_consume_them(tmp_path, monkeypatch):
    """Labels are the examples' numbers, and a metric counts them inside the step."""
    examples, batch = 48, 8

    class Counts(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="uneven")
            self.counts = self.add_variable((examples,), "zeros", name="counts")

        def update_state(self, labels, outputs, sample_weight=None):
            hot = keras.ops.one_hot(keras.ops.cast(labels, "int32"), examples)
            self.counts.assign(self.counts + keras.ops.sum(hot, axis=0))

        def result(self):
            return keras.ops.max(self.counts) - keras.ops.min(self.counts)

    plain = compiling.running_metrics

    def counting(task):
        shown = plain(task)
        return {**shown, "metrics": [*shown["metrics"], Counts()]}

    monkeypatch.setattr(compiling, "running_metrics", counting)
    rng = np.random.default_rng(0)
    split = (rng.normal(size=(examples, 4)), np.arange(examples))
    data = dict.fromkeys(("train", "validation", "test"), split)
    kept = {
        "out": tmp_path / "run",
        "batch_size": batch,
        "epochs": 4,
        "snapshot_every": "1",
        "units": (4,),
    }
    for crash in (Crash(0, 2), Crash(1, 5), Crash(2, None), Crash(3, 1)):
        keras.utils.clear_session()
        with pytest.raises(MemoryError):
            kzoo.train("mlp", data, callbacks=[crash], **kept)
    keras.utils.clear_session()
    run = kzoo.train("mlp", data, **kept)
    assert [row["uneven"] for row in run.history] == [0.0] * 4


# The folder and its owners.


def test_a_finished_run_is_returned_as_it_is(tmp_path):
    train(tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "metrics.json").stat().st_mtime_ns
    again = train(tmp_path / "run", epochs=1)
    assert again.finished
    assert (tmp_path / "run" / "metrics.json").stat().st_mtime_ns == before


def test_another_run_is_refused_with_both_sides(tmp_path):
    train(tmp_path / "run", epochs=1)
    with pytest.raises(ValueError, match=r"holds another run: 'recipe.learning_rate' "):
        train(tmp_path / "run", epochs=1, learning_rate=0.5)
    with pytest.raises(ValueError, match="existing='resumee' is not one of"):
        train(tmp_path / "run", epochs=1, existing="resumee")


def test_changed_data_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(60, 4)), np.arange(60) % 2
    kept = {"out": tmp_path / "run", "epochs": 1}
    kzoo.train("mlp", (inputs, labels), **kept)
    inputs[7, 2] += 1
    with pytest.raises(ValueError, match=r"'dataset.fingerprint' is .* in the folder"):
        kzoo.train("mlp", (inputs, labels), **kept)


def test_extend_goes_on_for_more_epochs(tmp_path):
    short = {"schedule": "constant", "warmup_steps": 0, "epochs": 1}
    long = {**short, "epochs": 3}
    whole = ending(train(tmp_path / "whole", **long))
    train(tmp_path / "run", **short)
    with pytest.raises(ValueError, match="--extend"):
        train(tmp_path / "run", **long)
    assert ending(train(tmp_path / "run", existing="extend", **long)) == whole
    assert (tmp_path / "run" / "metrics.1.json").exists()
    with pytest.raises(ValueError, match="holds another run"):
        train(tmp_path / "run", existing="extend", **short)


def test_fresh_moves_aside_and_deletes_nothing(tmp_path):
    train(tmp_path / "run", epochs=1)
    kept = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    train(tmp_path / "run", epochs=1, seed=1, existing="fresh")
    (aside,) = tmp_path.glob("run.*")
    assert (aside / "model" / "model.safetensors").read_bytes() == kept
    assert kzoo.training.Run(tmp_path / "run").config["recipe"]["seed"] == 1


def test_a_second_writer_is_refused_and_named(tmp_path):
    holder = (
        "import sys, time; from pathlib import Path; from kzoo.training.run import "
        "locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n"
        "    sys.stdin.read()"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().strip() == "held"
        with pytest.raises(ValueError, match=f"written by process {process.pid} on"):
            train(folder, epochs=1)
        process.kill()
    train(folder, epochs=1)  # the lock went with its process


def test_decisive_leaves_out_what_changes_no_result():
    config = {"recipe": {"epochs": 1, "snapshot_every": "60s"}, "versions": {"a": "1"}}
    assert decisive(config) == {"recipe.epochs": 1}


# Snapshots as files.


def some_state(step=3):
    arrays = {"weights/a": np.arange(6, dtype="float32"), "seed/0": np.uint32([1, 2])}
    return snapshots.State(step, "f", arrays, {"history": "", "callbacks": {}})


def same(left, right):
    assert (left.step, left.fingerprint, dict(left.facts)) == (
        right.step,
        right.fingerprint,
        dict(right.facts),
    )
    assert left.arrays.keys() == right.arrays.keys()
    for name, array in left.arrays.items():
        np.testing.assert_array_equal(array, right.arrays[name])
        assert array.dtype == right.arrays[name].dtype
        assert array.shape == right.arrays[name].shape


def test_round_trip_and_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 3):
        path = snapshots.write(tmp_path, some_state(step))
        snapshots.prune(tmp_path)
    same(snapshots.read(path), some_state(3))
    assert [snapshots.read(p).step for p in snapshots.listed(tmp_path)] == [3, 2]


@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors", "state.json"])
def test_torn_and_flipped_files_are_detected(tmp_path, name):
    snapshots.write(tmp_path, some_state(1))
    path = snapshots.write(tmp_path, some_state(2)) / name
    whole = path.read_bytes()
    cuts = np.unique(np.linspace(0, len(whole) - 1, 200).astype(int))
    damaged = [whole[:cut] for cut in cuts]
    for at in cuts:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        taken = snapshots.newest(tmp_path, "f")
        assert taken is not None
        assert taken.step == 1
    path.write_bytes(whole)
    assert snapshots.newest(tmp_path, "f").step == 2
    path.unlink()
    assert snapshots.newest(tmp_path, "f").step == 1


def test_a_write_that_was_not_renamed_is_no_snapshot(tmp_path):
    snapshots.write(tmp_path, some_state(1))
    whole = snapshots.write(tmp_path, some_state(2))
    whole.rename(tmp_path / ".writing-00000002-77")
    assert snapshots.newest(tmp_path, "f").step == 1
    snapshots.clean(tmp_path)
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_snapshot_of_another_run_is_not_used(tmp_path, caplog):
    snapshots.write(tmp_path, some_state())
    assert snapshots.newest(tmp_path, "g") is None
    assert "of another run" in caplog.text


def test_a_torn_snapshot_costs_steps_and_nothing_else(tmp_path, undisturbed):
    with pytest.raises(MemoryError):
        train(tmp_path / "run", callbacks=[Crash(2, 3)])
    newest = snapshots.listed(tmp_path / "run" / "snapshots")[0]
    content = (newest / "state.safetensors").read_bytes()
    (newest / "state.safetensors").write_bytes(content[: len(content) // 2])
    assert ending(train(tmp_path / "run")) == undisturbed


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_is_one_error_and_older_snapshots_stay(tmp_path, monkeypatch, code):
    plain = snapshots._write_synced
    written = []

    def full(path, content):
        written.append(path)
        if len(written) > 4:  # in the middle of the second snapshot
            raise OSError(code, os.strerror(code))
        return plain(path, content)

    monkeypatch.setattr(snapshots, "_write_synced", full)
    with pytest.raises(SnapshotError, match=os.strerror(code)):
        train(tmp_path / "run")
    (kept,) = snapshots.listed(tmp_path / "run" / "snapshots")
    assert snapshots.read(kept).step == 4
    assert not list((tmp_path / "run" / "snapshots").glob(".writing-*"))


def test_a_disk_that_fills_up_under_the_arrays_is_an_oserror(tmp_path, monkeypatch):
    snapshots.write(tmp_path, some_state(1))
    plain = snapshots._safetensors

    def full(arrays):
        yield next(plain(arrays))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(snapshots, "_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        snapshots.write(tmp_path, some_state(2))
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step-00000001"]
    assert snapshots.newest(tmp_path, "f").step == 1


def test_the_library_reads_the_arrays_of_a_snapshot(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        name: (100 * rng.normal(size=(3, 5))).astype(name)
        for name in ("float64", "float32", "float16", "int64", "int8", "uint32", "bool")
    }
    arrays["a scalar"] = np.float32(3.5)[()] * np.ones((), "float32")
    arrays["empty"] = np.zeros((0, 4), "float32")
    arrays["transposed"] = rng.normal(size=(300, 500)).T  # longer than one chunk
    path = snapshots.write(tmp_path, snapshots.State(1, "f", arrays, {}))
    found = safetensors.numpy.load_file(path / "state.safetensors")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.array([None]), np.ones(2, ">f4")]
)
def test_what_a_snapshot_cannot_hold_is_one_error(tmp_path, array):
    snapshots.write(tmp_path, some_state(1))
    writer = snapshots.Writer(tmp_path)
    writer.submit(snapshots.State(2, "f", {"callback/a/b": array}, {}))
    with pytest.raises(SnapshotError, match=r"holds no arrays of .*; older ones are"):
        writer.wait()
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_restored_callback_shares_no_memory_with_its_snapshot():
    callback = keras.callbacks.Callback()
    callback.best = [np.ones(3)]
    plain, arrays = snapshots._callback_state(callback)
    state = {name: array.copy() for name, array in arrays.items()}
    again = keras.callbacks.Callback()
    snapshots._restore_callback(again, plain, state)
    state["best/0"][:] = 7  # as the next capture does
    np.testing.assert_array_equal(again.best[0], np.ones(3))


def test_a_snapshot_keeps_its_state_while_the_model_trains_on(tmp_path):
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    rows = np.ones((4, 2), "float32"), np.ones((4, 3), "float32")
    model.fit(*rows, verbose=0)
    first = snapshots.capture(model, {}, 1, "f", {})
    before = {name: array.copy() for name, array in first.arrays.items()}
    model.fit(*rows, epochs=2, verbose=0)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, before[name])
    second = snapshots.capture(model, {}, 3, "f", {}, memory=dict(first.arrays))
    kernel = "weights/0"  # a model without an identity: by position
    assert second.arrays[kernel] is first.arrays[kernel]  # no new memory
    assert (second.arrays[kernel] != before[kernel]).any()


@pytest.mark.parametrize("epoch, batch, first", [(0, 3, 4), (1, 2, 13)])
def test_divergence_names_the_step_and_keeps_both_states(tmp_path, epoch, batch, first):
    class Poison(Crash):
        def on_train_batch_begin(self, batch, logs=None):
            if (self.epoch, batch) == self.at:
                weight = self.model.trainable_weights[0]
                weight.assign(weight * np.nan)

    with pytest.raises(NonFiniteLossError, match=f"since step {first};"):
        train(tmp_path / "run", snapshot_every="6", callbacks=[Poison(epoch, batch)])
    folder = tmp_path / "run" / "snapshots"
    (diverged,) = folder.glob("diverged-*")
    assert (diverged / "state.safetensors").exists()
    finite = [snapshots.read(path).step for path in snapshots.listed(folder)]
    assert all(step < first for step in finite)
    assert bool(finite) == (first > 6)


def test_snapshots_hold_no_code(tmp_path):
    run = train(tmp_path / "run", epochs=1)
    files = [p for p in (run.folder / "snapshots").rglob("*") if p.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        if path.suffix == ".json":
            json.loads(path.read_text())


@pytest.mark.parametrize("text", ["0", "-3", "s", "0s", "soon", "1.5"])
def test_a_wrong_interval_is_one_clear_error(tmp_path, text):
    with pytest.raises(ValueError, match="neither a number of steps"):
        train(tmp_path / "run", snapshot_every=text)
    assert not (tmp_path / "run").exists()


def test_legs_cover_what_is_left():
    for done in range(31):
        legs = resume.legs(done, steps_per_epoch=10, epochs=3)
        steps = [
            leg.first_step + i
            for leg in legs
            for i in range(leg.steps * (leg.end - leg.epoch))
        ]
        assert steps == list(range(done, 30))
