"""Sweeps end to end on a small network: tables, resume, oracles, reports, errors."""

import csv
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.tuning import SweepError, records, replay, retrain, tune, workers
from kzoo.tuning import tuner as tuner_module
from kzoo.tuning.objectives import Objective
from kzoo.tuning.plots import importances
from kzoo.tuning.records import Record
from kzoo.tuning.space import Range

tune_module = importlib.import_module("kzoo.tuning.tune")  # not the function

SMALL = {"units": (8,), "activation": "relu", "dropout_rate": 0.0, "epochs": 3}
SMALL |= {"space": {"batch_size": [128, 256]}}


def sweep(out, **changes):
    return tune("mlp", "digits", out=out, **{"trials": 5, **SMALL, **changes})


def text(done):
    return (done.folder / "trials.csv").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("undisturbed") / "sweep")


@pytest.mark.contract
def test_a_sweep_and_what_it_leaves(undisturbed, tmp_path):
    with open(undisturbed.folder / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("trial", "status", "score", "epochs", "seed"),
        *("learning_rate", "weight_decay", "batch_size"),
    ]
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3, 4]
    assert len({row["seed"] for row in rows}) == 5
    assert {row["status"] for row in rows} == {"completed", "pruned"}
    assert all((row["epochs"] == "3") == (row["status"] == "completed") for row in rows)
    assert float(rows[0]["learning_rate"]) == 2e-3  # the first one is the recipe's
    # Each score is what the run folder says, on the validation split alone.
    for row in rows:
        run = kzoo.training.Run(undisturbed.folder / "trials" / f"000{row['trial']}")
        assert run.metrics["validation"]["accuracy"] == float(row["score"])
        assert "test" not in run.metrics
        assert len(run.history) == int(row["epochs"])
        assert run.config["recipe"]["seed"] == int(row["seed"])
        assert run.config["dataset"]["options"]["seed"] == 0  # one split for all
    # The three best models stay, no snapshot does.
    scores = {int(row["trial"]): float(row["score"]) for row in rows}
    models = {int(p.parent.name) for p in undisturbed.folder.glob("trials/*/model")}
    assert len(models) == 3
    others = [score for trial, score in scores.items() if trial not in models]
    assert min(scores[trial] for trial in models) >= max(others)
    assert not list(undisturbed.folder.glob("trials/*/snapshots"))
    best = undisturbed.best
    assert scores[best["trial"]] == max(scores.values())
    model = undisturbed.best_run.load()
    again = eval(best["rebuild"])
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@pytest.mark.contract
def test_the_same_seed_the_same_table(undisturbed, tmp_path):
    assert text(sweep(tmp_path / "again")) == text(undisturbed)
    other = sweep(tmp_path / "other", seed=1)
    assert text(other) != text(undisturbed)
    # More trials extend the sweep; what it had stays.
    assert text(sweep(tmp_path / "again", trials=6)).startswith(text(undisturbed))


def test_best_json_trains_to_the_same_score(undisturbed, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())
    best = undisturbed.folder / "best.json"
    words = ["train", "--config", str(best), "--out", str(tmp_path / "run"), "--json"]
    assert main(words) == 0
    run = kzoo.training.Run(tmp_path / "run")
    score = undisturbed.best["objectives"]["accuracy"]
    assert run.metrics["validation"]["accuracy"] == score


def test_replay_gives_the_same_score(undisturbed):
    pruned = next(row for row in undisturbed.trials if row["status"] == "pruned")
    then, now = replay(undisturbed, pruned["trial"])
    assert then == now
    assert then["accuracy"] == pruned["score"]
    with pytest.raises(ValueError, match="has no trial 9 with a score; there are 0, 1"):
        replay(undisturbed, 9)


def test_retrain_looks_at_the_test_split_once(undisturbed):
    found = retrain(undisturbed, 2)
    for seed, score in enumerate(found["test"]):
        folder = undisturbed.folder / f"retrain/trial_{found['trial']}_seed_{seed}"
        assert kzoo.evaluate(folder)["accuracy"] == score
        assert len(kzoo.training.Run(folder).history) == 3
    assert found["mean"] == np.mean(found["test"])
    assert json.loads((undisturbed.folder / "retrain.json").read_text()) == found


def test_another_sweep_is_refused_with_what_differs(undisturbed):
    for changes, told in (
        ({"space": {"batch_size": [64, 128]}}, r"'space\.batch_size\.values' is \[128"),
        (
            {"objective": "loss"},
            r"'objectives\.accuracy' is max in the folder, m",
        ),
        ({"data": {"seed": 3}}, r"'dataset\.fingerprint' is"),
        ({"tuner": "tpe"}, "'tuner' is bayesian in the folder, tpe in the request"),
        ({"epochs": 4}, r"'recipe\.epochs' is 3 in the folder, 4"),
    ):
        with pytest.raises(ValueError, match="holds another sweep: .*" + told):
            sweep(undisturbed.folder, **changes)
    with pytest.raises(ValueError, match="holds no sweep"):
        sweep(undisturbed.folder / "trials" / "0000")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "acuracy"}, "Did you mean 'accuracy'"),
        ({"tuner": "randm"}, "Did you mean 'random'"),
        ({"prune": "some"}, "not one of none, median, halving"),
        ({"trials": 0}, "trials=0: one at least"),
        ({"workers": 0}, "workers=0: one at least"),
        ({"objective": "weights", "prune": "median"}, "no learning curve"),
        ({"space": {"batch_size": "0..8"}}, "batch_size=0 is not an int of at least 1"),
        ({"tuner": "grid", "trials": 3}, "a grid over"),
        ({"seed": -1}, "seed"),
        ({"options": {"kep": 1}}, "Did you mean 'keep'"),
    ],
)
def test_a_mistake_leaves_nothing(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        sweep(tmp_path / "sweep", **changes)
    assert not (tmp_path / "sweep").exists()


# Failures.


def test_failed_trials_keep_their_traceback_and_never_win(tmp_path, monkeypatch):
    plain = tuner_module.compiled
    seen = []

    def failing(planned):
        seen.append(planned)
        if len(seen) == 2:
            raise MemoryError("out of memory: 3 GiB wanted")
        model = plain(planned)
        if len(seen) == 3:
            kernel = model.get_layer("logits").kernel  # a ReLU may swallow NaN
            kernel.assign(np.full(kernel.shape, np.nan))
        return model

    monkeypatch.setattr(tuner_module, "compiled", failing)
    done = sweep(tmp_path / "sweep", trials=4, prune="none")
    statuses = [row["status"] for row in done.trials]
    assert statuses == ["completed", "failed", "failed", "completed"]
    assert done.trials[1]["score"] == done.trials[2]["score"] == ""
    assert done.best["trial"] in (0, 3)
    folder = done.folder / "trials"
    assert "in failing" in (folder / "0001.error.txt").read_text()
    told = records.last_line_of_error(folder, "0002")
    assert told.startswith("kzoo.training.resume.NonFiniteLossError")


def test_a_sweep_ends_when_too_many_trials_fail(tmp_path, monkeypatch):
    def failing(planned):
        raise MemoryError("out of memory: 3 GiB wanted")

    monkeypatch.setattr(tuner_module, "compiled", failing)
    with pytest.raises(SweepError, match=r"3 of 3 trials failed, .*3 GiB wanted; the"):
        sweep(tmp_path / "sweep")
    assert len((tmp_path / "sweep" / "trials.csv").read_text().splitlines()) == 4


def test_oversized_trials_fail_unbuilt(tmp_path, monkeypatch):
    built = []
    plain = tuner_module.compiled
    monkeypatch.setattr(
        tuner_module, "compiled", lambda planned: built.append(1) or plain(planned)
    )
    done = tune(
        "cnn",
        "digits",
        out=tmp_path / "sweep",
        tuner="grid",
        trials=2,
        prune="none",
        epochs=1,
        space={"dense_units": [8, 64]},
        options={"max_weights": 500, "keep": 1},
        filters=(4,),
        kernel_size=2,
        num_convs=1,
        normalization="batch",
        dropout_rate=0.0,
        learning_rate=1e-2,
        weight_decay=0.0,
        batch_size=256,
    )
    assert [row["status"] for row in done.trials] == ["completed", "failed"]
    assert len(built) == 1
    told = records.last_line_of_error(done.folder / "trials", "0001")
    assert "would have 994 weights, and max_weights is 500" in told


def test_a_trial_that_might_not_fit_on_the_disk_fails(tmp_path):
    with pytest.raises(SweepError, match="and disk_gb is 1e-05"):
        sweep(tmp_path / "sweep", trials=3, options={"disk_gb": 1e-5})
    assert not list((tmp_path / "sweep").glob("trials/*/snapshots"))


# Interrupted.


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


def test_killed_twenty_times_the_table_is_the_same(undisturbed, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    countdown = [0]

    def tick():
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Killed

    write, step = kzoo.weights.write_text, keras.callbacks.CallbackList

    def written(path, content):
        tick()
        write(path, content)
        tick()

    class Stepping(step):
        def on_train_batch_begin(self, batch, logs=None):
            tick()
            super().on_train_batch_begin(batch, logs)

    monkeypatch.setattr(kzoo.weights, "write_text", written)
    monkeypatch.setattr(keras.callbacks, "CallbackList", Stepping)
    kills = 0
    while True:
        # Further and further apart, or it would never end.
        countdown[0] = int(rng.integers(5, 30)) if kills < 20 else 0
        try:
            done = sweep(tmp_path / "sweep", snapshot_every="2")
            break
        except Killed:
            kills += 1
    assert kills >= 15
    assert text(done) == text(undisturbed)
    orders = [r.ended for r in records.load_records(done.folder / "trials")]
    assert orders == [1, 2, 3, 4, 5]  # each one once
    assert done.best["trial"] == undisturbed.best["trial"]


SCRIPT = """
import sys, kzoo
kzoo.tune("mlp", "digits", out=sys.argv[1], **{"trials": 5, **eval(sys.argv[2])})
"""


def start(out, **changes):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), repr({**SMALL, **changes})],
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_a_real_kill(undisturbed, tmp_path):
    process = start(tmp_path / "sweep")
    trials = tmp_path / "sweep" / "trials"
    while not (trials / "0001.json").exists():
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    interrupted = [r for r in records.load_records(trials) if r.status == "running"]
    assert len(interrupted) == 1
    assert text(sweep(tmp_path / "sweep")) == text(undisturbed)


# Oracles.


@pytest.mark.contract
def test_hyperband_goes_on_with_the_optimizer(tmp_path):
    """A promoted trial ends as one that was never paused."""
    done = sweep(tmp_path / "sweep", tuner="hyperband", prune="none", trials=3)
    rows = done.trials
    assert sorted(row["epochs"] for row in rows) == [1, 1, 3]
    promoted = next(row for row in rows if row["epochs"] == 3)
    assert promoted["status"] == "completed"
    assert {row["status"] for row in rows} == {"completed", "pruned"}
    config = kzoo.training.Run(done.folder / f"trials/000{promoted['trial']}").config
    settings = {**config["model"]["hparams"], **config["recipe"]}
    straight = kzoo.train(
        "mlp", "digits", out=tmp_path / "straight", data={"seed": 0}, **settings
    )
    now = done.folder / f"trials/000{promoted['trial']}/model/model.safetensors"
    then = straight.folder / "model/model.safetensors"
    assert now.read_bytes() == then.read_bytes()
    assert text(sweep(done.folder, tuner="hyperband", prune="none", trials=3)) == text(
        done
    )


def test_several_objectives_have_a_front(tmp_path):
    done = tune(
        "cnn_tiny",
        "digits",
        out=tmp_path / "sweep",
        objective="accuracy,weights",
        tuner="random",
        prune="none",
        trials=3,
        epochs=1,
        space={"dense_units": [8, 64]},
        **{"filters": (4,), "num_convs": 1, "kernel_size": 2, "batch_size": 256},
        **{"normalization": "batch", "dropout_rate": 0.0, "weight_decay": 0.0},
    )
    rows = done.trials
    assert {row["weights"] for row in rows} <= {154, 994}
    front = done.best["front"]
    for row in rows:
        beaten = any(
            (o["score"], -o["weights"]) != (row["score"], -row["weights"])
            and o["score"] >= row["score"]
            and o["weights"] <= row["weights"]
            for o in rows
        )
        assert beaten != any(one["trial"] == row["trial"] for one in front)


# In memory, in a session of the caller's.


def test_arrays_in_memory_and_the_callers_session(tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 3)).astype("float32")
    data = (inputs, (inputs[:, 0] > 0).astype("int64"))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        done = tune("mlp", data, out=tmp_path / "sweep", trials=2, epochs=1, units=(4,))
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
    then, now = replay(done, 0, data)
    assert then == now
    with pytest.raises(ValueError, match="which it does not hold"):
        replay(done, 0)
    with pytest.raises(ValueError, match="the dataset is in this one's memory"):
        tune("mlp", data, out=tmp_path / "two", workers=2)


# Plots and TensorBoard.


def test_plots_and_tensorboard(undisturbed):
    plots = {path.name for path in (undisturbed.folder / "plots").iterdir()}
    assert plots == {"history.png", "parallel.png"}
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.plugins.hparams import plugin_data_pb2

    for row in undisturbed.trials:
        folder = undisturbed.folder / f"trials/000{row['trial']}/tensorboard"
        events = event_accumulator.EventAccumulator(str(folder)).Reload()
        content = events.PluginTagToContent("hparams")
        start = plugin_data_pb2.HParamsPluginData.FromString(
            content["_hparams_/session_start_info"]
        ).session_start_info
        rate = start.hparams["learning_rate"].number_value
        assert rate == row["learning_rate"]
        assert start.group_name == f"000{row['trial']}"
        assert {"val_accuracy", "score/accuracy"} <= set(events.Tags()["scalars"]) | {
            *events.Tags()["tensors"]
        }


def test_importances_name_what_matters():
    rng = np.random.default_rng(0)
    ranges = (
        Range("learning_rate", "float", 1e-4, 1e-1, log=True),
        Range("units", "int", 8, 64),
        Range("activation", "choice", values=("relu", "gelu")),
    )
    found = []
    for number in range(40):
        values = {
            "learning_rate": 10 ** rng.uniform(-4, -1),
            "units": int(rng.integers(8, 65)),
            "activation": ("relu", "gelu")[rng.integers(2)],
        }
        score = 1 - (np.log10(values["learning_rate"]) + 2) ** 2
        score += 1.5 * (values["activation"] == "gelu")
        told = {"accuracy": score}
        found.append(Record(number, "completed", values, 0, 1, 1, told, 0.0))
    shares = importances(ranges, found, Objective("accuracy", "max"))
    assert sum(shares.values()) == pytest.approx(1.0)
    ordered = sorted(shares, key=shares.get, reverse=True)
    assert ordered == ["learning_rate", "activation", "units"]
    assert shares["units"] < 0.1


def test_a_sweep_of_fine_tuning(tmp_path, capsys):
    words = {"units": (8,), "epochs": 1}
    pre = kzoo.pretrain("mlp", "digits", "denoising", tmp_path / "pre", **words)
    words = {"labels_per_class": 10, "batch_size": 50, "epochs": 4, "prune": "none"}
    spaces = {"layer_decay": "0.3..1", "unfreeze_epochs": [0, 1]}
    done = tune(
        pre.folder, "digits", out=tmp_path / "sweep", trials=3, space=spaces, **words
    )
    assert [row["status"] for row in done.trials] == ["completed"] * 3
    assert {row["unfreeze_epochs"] for row in done.trials} <= {0, 1}
    for number in range(3):
        run = kzoo.training.Run(done.folder / "trials" / f"000{number}")
        assert run.config["start"]["from"] == str(pre.folder)
        assert run.config["model"]["hparams"]["units"] == [8]
    command = ["tune", str(pre.folder), "--dataset", "digits", "--trials", "3"]
    command += ["--epochs", "4", "--prune", "none", "--out", str(done.folder)]
    command += ["--set", "labels_per_class=10", "--set", "batch_size=50"]
    command += ["--space", "layer_decay=0.3..1", "--space", "unfreeze_epochs=0,1"]
    assert main(command) == 0  # nothing is run twice
    best = done.folder / "best.json"
    assert f"kzoo train {pre.folder} --config {best}\n" in capsys.readouterr().out


# Workers.


@pytest.mark.slow
def test_two_workers_run_the_same_trials(undisturbed, tmp_path):
    words = {"tuner": "random", "trials": 4, "prune": "none"}
    one = sweep(tmp_path / "one", **words)
    two = sweep(tmp_path / "two", **words, workers=2)
    assert text(two) == text(one)
    names = {path.name for path in two.folder.glob("worker_*.log")}
    assert names == {"worker_0.log", "worker_1.log"}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("kind", "prune"), [("hyperband", "none"), ("tpe", "halving"), ("grid", "none")]
)
def test_two_workers_lose_and_double_nothing(tmp_path, kind, prune):
    words = {"tuner": kind, "prune": prune, "trials": 9, "workers": 2}
    done = sweep(tmp_path / "sweep", **words)
    found = records.load_records(done.folder / "trials")
    numbers = [record.number for record in found]
    assert numbers == list(range(8 if kind == "grid" else 9))
    assert len({tuple(record.values.items()) for record in found}) == len(found)
    assert {record.status for record in found} <= {"completed", "pruned"}
    if kind == "grid":
        one = sweep(tmp_path / "one", **{**words, "workers": 1})
        assert text(one) == text(done)


@pytest.mark.slow
def test_a_dead_worker_is_replaced(undisturbed, tmp_path, monkeypatch):
    started = []
    plain = workers.start

    def start(*words):
        started.append(plain(*words))
        return started[-1]

    monkeypatch.setattr(workers, "start", start)

    def watch(rows):
        if len(rows) == 2 and len(started) == 1:  # the second trial has begun
            started[0].kill()

    monkeypatch.setattr(
        tune_module,
        "run_workers",
        lambda oracle, request, folder, _: workers.run_workers(
            oracle, request, folder, 1
        ),
    )
    done = sweep(tmp_path / "sweep", workers=2, watch=watch)
    assert len(started) == 2
    assert text(done) == text(undisturbed)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_chief_and_worker_as_on_two_machines(tmp_path):
    """The same command in both, and KerasTuner's variables."""
    one = sweep(tmp_path / "one", tuner="random", trials=3, prune="none")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "two")]
    patient = {"options": {"wait_seconds": 300.0}}
    alike = {"tuner": "random", "prune": "none"}
    words.append(repr({**SMALL, **patient, **alike, "trials": 3}))
    names = [{"KERASTUNER_TUNER_ID": name} for name in ("worker", "chief")]
    both = [
        subprocess.Popen(words, env={**os.environ, **address, **name}) for name in names
    ]
    assert [process.wait(300) for process in both] == [0, 0]
    assert (tmp_path / "two" / "trials.csv").read_text() == text(one)


def test_workers_that_reach_no_chief(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ValueError, match="KERASTUNER_ORACLE_IP is set, and KERASTUNER"):
        sweep(tmp_path / "sweep")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "9")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker_0")
    with pytest.raises(ValueError, match=r"no chief answers at 127\.0\.0\.1:9"):
        sweep(tmp_path / "sweep", options={"wait_seconds": 0.2})
    assert not (tmp_path / "sweep").exists()


# The command.

WORDS = ["--set", "units=8", "--set", "activation=relu", "--set", "dropout_rate=0"]
WORDS += ["--epochs", "1", "--space", "batch_size=128,256", "--trials", "2"]


@pytest.fixture
def backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())


def test_the_command_from_sweep_to_replay(tmp_path, capsys, backend):
    out = str(tmp_path / "sweep")
    words = ["tune", "mlp", "--dataset", "digits", *WORDS, "--out", out]
    assert main([*words, "--retrain", "1"]) == 0
    table, told = capsys.readouterr()
    assert "trial 1/2  trial 0  status completed" in told
    assert "kzoo.build_model('mlp', channels=1, image_size=8, units=(8,))" in table
    assert f"kzoo train mlp --config {out}/best.json" in table.replace("\n", "")
    assert "test accuracy 0." in table
    assert main([*words, "--json"]) == 0  # nothing is run twice
    found = json.loads(capsys.readouterr().out)
    assert [row["trial"] for row in found["trials"]] == [0, 1]
    assert main(["tune", "--replay", "1", "--out", out]) == 0
    assert "accuracy: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tune", "mpl"], "Did you mean 'mlp'"),
        (["tune"], "name a model"),
        (["tune", "--replay", "1"], "--replay needs --out"),
        (["tune", "--replay", "1", "--out", "/nowhere"], "no folder /nowhere"),
        (["tune", "mlp", "--space", "units"], "not of the form name=value"),
        (["tune", "mlp", "--space", "dropout_rate=0..7"], "not a float from 0 to 0.9"),
        (["tune", "mlp", "--objective", "r3"], "reports no objective 'r3'"),
        (["tune", "mlp", "--tuner", "tpee"], "Did you mean 'tpe'"),
        (["tune", "mlp", "--option", "keep=0"], "keep=0 is not an int of at least 1"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, backend, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert told in err
    assert not list(tmp_path.iterdir())
