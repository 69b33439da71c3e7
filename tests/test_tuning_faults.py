"""Each fault of KerasTuner 1.4 that kzoo mends: it is there, and kzoo is without it.

Most are shown on the oracles alone, with scores made up. A test of the first kind that
fails says that KerasTuner has mended it, and that kzoo's own mend may go.
"""

import gc
import json
import math
import os
import sys
import threading

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import Trial

import kzoo
from kzoo.tuning import records, tune
from kzoo.tuning import tuner as tuner_module
from kzoo.tuning.objectives import Objective
from kzoo.tuning.oracle import Search
from kzoo.tuning.oracles import (
    BayesianOracle,
    GridOracle,
    HyperbandOracle,
    RandomOracle,
    TPEOracle,
    places,
)
from kzoo.tuning.request import Request
from kzoo.tuning.space import Range

FLOAT = Range("x", "float", 0.0, 1.0, default=0.5)
SMALL = {"units": (8,), "activation": "relu", "dropout_rate": 0.0, "epochs": 1}
SMALL |= {"batch_size": 256}


def ours(kind, folder, ranges=(FLOAT,), trials=20, epochs=9, **changes):
    folder.mkdir(exist_ok=True)
    words = {"objectives": (Objective("accuracy", "max"),), "seed": 0, "prune": "none"}
    words |= {"failures": 0.5, **changes}
    return kind(
        Search(ranges=ranges, trials=trials, epochs=epochs, folder=folder, **words)
    )


def theirs(kind, space=None, **changes):
    if space is None:
        space = keras_tuner.HyperParameters()
        space.Float("x", 0.0, 1.0)
    words = {"objective": keras_tuner.Objective("accuracy", "max"), "seed": 3}
    made = kind(hyperparameters=space, **{**words, **changes})
    made.verbose = 0
    return made


def end_ours(oracle, trial, score):
    """The trial trained to where it should, or failed where there is no score."""
    record = oracle.records[trial.trial_id]
    trial.status = "COMPLETED"
    if score is None:
        trial.status = "FAILED"
    else:
        result = records.Result({"accuracy": score}, 0.0, record.until, False)
        result.save(oracle.search.folder, trial.trial_id)
    oracle.end_trial(trial)


def end_theirs(oracle, trial, score):
    trial.status = "COMPLETED"
    if score is None:
        trial.status = "FAILED"
    else:
        oracle.update_trial(trial.trial_id, {"accuracy": score})
    oracle.end_trial(trial)


def run(oracle, end, score, trials=20):
    """Values and scores of so many trials, one after another."""
    done = []
    while len(done) < trials:
        trial = oracle.create_trial("one")
        if trial.status != "RUNNING":
            break
        values = dict(trial.hyperparameters.values)
        done.append(values)
        end(oracle, trial, score(len(done) - 1, values))
    return done


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # KerasTuner writes to the current folder


def project(oracle, path):
    oracle._set_project_dir(str(path), "theirs")
    return oracle


# The seed.


def test_seed_zero_is_a_seed(tmp_path):
    assert (
        len(
            {
                theirs(keras_tuner.oracles.RandomSearchOracle, seed=0).seed
                for _ in range(5)
            }
        )
        > 1
    )
    tables = [
        run(ours(RandomOracle, tmp_path / name), end_ours, lambda i, v: 0.5, 5)
        for name in ("one", "two")
    ]
    assert tables[0] == tables[1]


# Scores that are no number.


def test_an_infinite_score_never_wins(tmp_path):
    def score(i, values):
        return math.inf if i == 1 else 0.5

    oracle = project(theirs(keras_tuner.oracles.BayesianOptimizationOracle), tmp_path)
    run(oracle, end_theirs, score, 3)
    assert oracle.get_best_trials()[0].score == math.inf

    oracle = ours(BayesianOracle, tmp_path / "ours")
    run(oracle, end_ours, score, 3)
    assert oracle.records["0001"].status == "failed"
    best = records.ranked(oracle.records.values(), oracle.scored_by)
    assert [record.number for record in best] == [0, 2]
    found = places(oracle._curves(list(oracle.records.values())))
    assert found.argmin() == 1  # the failed one


@pytest.mark.filterwarnings("ignore:The optimal value found")  # KerasTuner's fit
def test_a_point_is_proposed_once(tmp_path):
    space = keras_tuner.HyperParameters()
    space.Int("x", 1, 6)
    oracle = theirs(
        keras_tuner.oracles.BayesianOptimizationOracle,
        space,
        max_trials=12,
        num_initial_points=2,
    )
    seen = run(project(oracle, tmp_path), end_theirs, lambda i, v: v["x"] / 6, 12)
    assert len(seen) > len({values["x"] for values in seen})

    ranges = (Range("x", "int", 1, 6, default=3),)
    oracle = ours(BayesianOracle, tmp_path / "ours", ranges, trials=12)
    seen = run(oracle, end_ours, lambda i, v: v["x"] / 6, 12)
    assert len(seen) == len({values["x"] for values in seen}) == 6
    assert oracle.over


def test_the_process_finds_more_than_random_search_does(tmp_path):
    """A bowl over a logarithm, a share and a choice; its greatest value is 1."""
    ranges = (
        Range("rate", "float", 1e-4, 1.0, log=True, default=1.0),
        Range("share", "float", 0.0, 1.0, default=1.0),
        Range("kind", "choice", values=("a", "b", "c"), default="a"),
    )

    def score(i, values):
        far = (math.log10(values["rate"]) + 2) ** 2 / 4 + (values["share"] - 0.3) ** 2
        return 1 - far - 0.2 * (values["kind"] != "b")

    missed = {}
    for kind in (RandomOracle, BayesianOracle):
        found = []
        for seed in range(5):
            folder = tmp_path / f"{kind.__name__}_{seed}"
            seen = run(ours(kind, folder, ranges, 25, seed=seed), end_ours, score, 25)
            found.append(1 - max(score(0, values) for values in seen))
        missed[kind] = np.median(found)
    assert missed[BayesianOracle] < missed[RandomOracle] / 5


def test_who_was_stopped_is_compared_where_both_have_been():
    whole, better, failed = [0.1, 0.2, 0.9], [0.3], []
    assert places([whole, better, failed]).argsort().tolist() == [2, 0, 1]


@pytest.mark.parametrize("kind", [RandomOracle, BayesianOracle, TPEOracle])
def test_an_interrupted_search_proposes_what_it_would_have(tmp_path, kind):
    """KerasTuner's Gaussian process forgets the state of its generator."""
    if kind is TPEOracle:
        pytest.importorskip("optuna")
    ranges = (
        Range("optimizer", "choice", values=("adamw", "sgd"), default="adamw"),
        Range("momentum", "float", 0.5, 0.9, default=0.9, when=("optimizer", ("sgd",))),
        Range("x", "float", 1e-3, 1.0, log=True, default=0.1),
    )

    def score(i, values):
        return None if i == 3 else 1 - abs(values["x"] - 0.2)

    straight = run(ours(kind, tmp_path / "one", ranges, 9), end_ours, score, 9)
    assert len({tuple(values.items()) for values in straight}) == 9
    assert {"momentum" in v for v in straight} == {True, False}
    first = run(ours(kind, tmp_path / "two", ranges, 9), end_ours, score, 6)
    again = ours(kind, tmp_path / "two", ranges, 9)
    again.reload()
    rest = run(again, end_ours, lambda i, v: score(i + 6, v), 3)
    assert [*first, *rest] == straight


# Failures.


def test_a_failed_trial_costs_no_place_in_the_next_rung(tmp_path):
    """Nine trials, of which three should go on; four fail."""

    def score(i, values):
        return None if i in (2, 4, 6, 8) else 0.1 + i / 100

    oracle = theirs(keras_tuner.oracles.HyperbandOracle, max_epochs=9, seed=3)
    oracle.max_consecutive_failed_trials = 99
    run(project(oracle, tmp_path), end_theirs, score, 12)
    started = [t.hyperparameters.values for t in oracle.trials.values()]
    bracket = [v for v in started if v["tuner/bracket"] == 2]
    assert len([v for v in bracket if v["tuner/round"] == 0]) == 9
    assert [v for v in bracket if v["tuner/round"] == 1] == []  # three places lost

    oracle = ours(HyperbandOracle, tmp_path / "ours", trials=9, failures=1.0)
    run(oracle, end_ours, score, 99)
    rungs = sorted(record.until for record in oracle.records.values())
    assert rungs == [1, 1, 1, 1, 1, 1, 3, 3, 9]


def test_failures_in_a_row_do_not_end_a_good_sweep(tmp_path):
    def score(i, values):
        return None if i in (10, 11, 12) else 0.5

    oracle = project(
        theirs(keras_tuner.oracles.RandomSearchOracle, max_trials=20), tmp_path
    )
    with pytest.raises(RuntimeError, match="consecutive failures exceeded"):
        run(oracle, end_theirs, score)
    # What is more, its lock is never given back: the next call waits for ever.
    blocked = threading.Thread(target=oracle.create_trial, args=("other",), daemon=True)
    blocked.start()
    blocked.join(0.5)
    assert blocked.is_alive()

    oracle = ours(RandomOracle, tmp_path / "ours", trials=20)
    assert len(run(oracle, end_ours, score)) == 20
    assert oracle.gave_up is None


def test_what_went_wrong_is_said(tmp_path, monkeypatch):
    """Without tensorboard, all that KerasTuner says is that trials failed."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("KerasTuner asks for tensorboard on TensorFlow alone")
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams", None)
    kept = small_tuner(tmp_path, max_trials=5)
    with pytest.raises(RuntimeError) as failure:
        search(kept)
    assert str(failure.value).startswith("Number of consecutive failures exceeded")

    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(
        kzoo.tuning.SweepError, match="the last one with: ModuleNotFoundError"
    ):
        tune("mlp", "digits", out=tmp_path / "ours", **SMALL)


# What KerasTuner does to Keras.


def small_tuner(folder, built=None, **changes):
    def build(hp):
        if built is not None:
            built.append(keras.config.dtype_policy().name)
        layer = keras.layers.Dense(hp.Int("units", 1, 8))
        model = keras.Sequential([keras.Input((2,)), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    return keras_tuner.RandomSearch(
        build,
        objective="val_loss",
        directory=str(folder),
        project_name="theirs",
        **{"max_trials": 3, "seed": 3, **changes},
    )


def search(tuner):
    x, y = np.zeros((4, 2), "float32"), np.zeros((4, 1), "float32")
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_models_are_built_when_they_are_trained(tmp_path, monkeypatch):
    built = []
    small_tuner(tmp_path, built)
    assert len(built) == 1  # and nothing was searched

    monkeypatch.setattr(tuner_module, "compiled", lambda planned: built.append("ours"))
    oracle = ours(RandomOracle, tmp_path / "ours")
    request = Request("mlp")
    tuner_module.SweepTuner(
        oracle, tuner_module.Trials(request, None, (), tmp_path / "ours", ())
    )
    assert len(built) == 1


def test_the_session_keeps_its_precision(tmp_path, monkeypatch, mixed_precision):
    built = []
    search(small_tuner(tmp_path, built))
    assert built == ["mixed_bfloat16", "float32", "float32", "float32"]

    keras.config.set_dtype_policy("mixed_bfloat16")
    built.clear()
    plain = tuner_module.compiled

    def compiled(planned):
        built.append(keras.config.dtype_policy().name)
        return plain(planned)

    monkeypatch.setattr(tuner_module, "compiled", compiled)
    tune("mlp", "digits", out=tmp_path / "ours", trials=2, precision="float32", **SMALL)
    assert built == ["mixed_bfloat16"] * 2
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_the_session_keeps_its_distribution():
    if keras.config.backend() != "jax":
        pytest.skip("keras.distribution is JAX's")
    mesh = keras.distribution.DataParallel(devices=keras.distribution.list_devices())
    keras.distribution.set_distribution(mesh)
    try:
        keras.utils.clear_session()  # as KerasTuner does before each trial
        assert keras.distribution.distribution() is None
        keras.distribution.set_distribution(mesh)
        with tuner_module.renewed_session():
            assert keras.distribution.distribution() is mesh
    finally:
        keras.distribution.set_distribution(None)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="its graphs")
def test_no_trial_leaves_its_graph_in_memory():
    """Keras's step declares a gradient in its graph, which TensorFlow never drops."""
    from tensorflow.python.framework.func_graph import FuncGraph

    def steps() -> int:
        gc.collect()
        found = (o for o in gc.get_objects() if isinstance(o, FuncGraph))
        return sum(graph.name == "one_step_on_data" for graph in found)

    def fit():
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)

    keras.utils.clear_session()
    before = steps()
    fit()
    keras.utils.clear_session()
    kept = steps()
    assert kept > before
    for _ in range(2):
        with tuner_module.renewed_session():
            fit()
    keras.utils.clear_session()
    assert steps() == kept


def test_a_trial_has_a_seed_of_its_own(tmp_path):
    """The same point again, as after a kill: KerasTuner's weights are others."""
    tables = []
    for name in ("one", "two"):
        keras.utils.set_random_seed(3)
        if name == "two":
            keras.random.normal((1,))  # anything that ran before
            np.random.rand()
            keras.layers.Dense(1).build((1, 1))
        kept = small_tuner(tmp_path / name, max_trials=1)
        search(kept)
        tables.append(kept.get_best_models()[0].get_weights()[0].tolist())
    assert tables[0] != tables[1]

    done = []
    for name in ("ours", "again"):
        if name == "again":
            keras.layers.Dense(1).build((1, 1))
        sweep = tune("mlp", "digits", out=tmp_path / name, trials=1, **SMALL)
        done.append((sweep.best_run.folder / "model/model.safetensors").read_bytes())
    assert done[0] == done[1]


# Disk.


def test_losers_leave_the_disk(tmp_path):
    search(small_tuner(tmp_path))
    assert len(list(tmp_path.glob("theirs/trial_*/checkpoint*"))) == 3

    words = {"options": {"keep": 1}, "trials": 3, "prune": "none"}
    done = tune("mlp", "digits", out=tmp_path / "ours", **words, **SMALL)
    assert len(list(done.folder.glob("trials/*/model"))) == 1
    assert (done.best_run.folder / "model").is_dir()


def test_a_kill_while_writing_tears_nothing(tmp_path, monkeypatch):
    oracle = project(theirs(keras_tuner.oracles.RandomSearchOracle), tmp_path)
    run(oracle, end_theirs, lambda i, v: 0.5, 2)
    path = tmp_path / "theirs" / "oracle.json"
    whole = path.read_text()

    class Killed(BaseException):
        pass

    def half_written(value, **words):
        raise Killed

    # It opens the file, which empties it, and writes then.
    class Stops:
        def __init__(self, name, mode):
            self.file = open(name, mode)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, text):
            self.file.write(text[: len(text) // 2])
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("keras_tuner.src.backend.io.File", Stops)
        with pytest.raises(Killed):
            oracle.save()
    assert path.read_text() != whole
    with pytest.raises(json.JSONDecodeError):
        project(theirs(keras_tuner.oracles.RandomSearchOracle), tmp_path).reload()

    oracle = ours(RandomOracle, tmp_path / "ours")
    run(oracle, end_ours, lambda i, v: 0.5, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", half_written)
        with pytest.raises((Killed, TypeError)):
            oracle.create_trial("one")
    again = ours(RandomOracle, tmp_path / "ours")
    again.reload()
    assert [record.status for record in again.records.values()] == ["completed"] * 2


# Pruning.


def test_a_hopeless_trial_is_stopped(tmp_path):
    oracle = project(theirs(keras_tuner.oracles.RandomSearchOracle), tmp_path)
    run(oracle, end_theirs, lambda i, v: 0.9, 9)
    trial = oracle.create_trial("one")
    for epoch in range(1, 9):
        answer = oracle.update_trial(trial.trial_id, {"accuracy": 0.1}, step=epoch)
        assert answer.status == "RUNNING"

    oracle = ours(RandomOracle, tmp_path / "ours", prune="halving")
    for _ in range(3):
        trial = oracle.create_trial("one")
        for epoch in range(1, 10):
            oracle.update_trial(trial.trial_id, {"accuracy": 0.9}, step=epoch)
        end_ours(oracle, trial, 0.9)
    trial = oracle.create_trial("one")
    answers = [
        oracle.update_trial(trial.trial_id, {"accuracy": 0.1}, step=epoch).status
        for epoch in (1, 2, 3)
    ]
    assert answers == ["RUNNING", "RUNNING", "STOPPED"]


# Through the chief.


def test_a_score_keeps_its_digits_and_a_failure_its_words(tmp_path):
    score = 0.9733333333333334
    trial = Trial(keras_tuner.HyperParameters(), "0000", "FAILED", "out of memory")
    trial.metrics.register("accuracy", "max")
    trial.metrics.update("accuracy", score, step=0)
    arrived = Trial.from_proto(trial.to_proto())
    assert arrived.message is None
    assert arrived.metrics.get_best_value("accuracy") != score  # a float32

    oracle = ours(RandomOracle, tmp_path / "ours")
    first = oracle.create_trial("one")
    end_ours(oracle, Trial.from_proto(first.to_proto()), score)
    assert oracle.records["0000"].objectives["accuracy"] == score
    second = oracle.create_trial("one")
    records.write_error(oracle.search.folder, "0001", "MemoryError: out of memory")
    end_ours(oracle, Trial.from_proto(second.to_proto()), None)
    told = records.last_line_of_error(oracle.search.folder, "0001")
    assert told == "MemoryError: out of memory"


def test_conditions_are_not_printed(tmp_path, capsys):
    space = keras_tuner.HyperParameters()
    space.Choice("optimizer", ["adamw", "sgd"])
    space.Float("momentum", 0.5, 0.9, parent_name="optimizer", parent_values=["sgd"])
    oracle = project(theirs(keras_tuner.oracles.RandomSearchOracle, space), tmp_path)
    oracle.create_trial("one").to_proto()
    assert "sgd" in capsys.readouterr().out  # on the chief's own terminal

    ranges = (
        Range("optimizer", "choice", values=("adamw", "sgd"), default="sgd"),
        Range("momentum", "float", 0.5, 0.9, default=0.9, when=("optimizer", ("sgd",))),
    )
    trial = ours(RandomOracle, tmp_path / "ours", ranges).create_trial("one")
    arrived = Trial.from_proto(trial.to_proto())
    assert arrived.hyperparameters.values == {"optimizer": "sgd", "momentum": 0.9}
    assert capsys.readouterr().out == ""


# The grid, and several objectives.


def test_the_grid_has_its_ends(tmp_path):
    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    values = set(space.space[0].values)
    assert len(values) == 10
    assert {0.0, 1.0}.isdisjoint(values)

    oracle = ours(GridOracle, tmp_path / "ours", trials=5)
    seen = run(oracle, end_ours, lambda i, v: 0.5)
    assert [v["x"] for v in seen] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_objectives_are_not_summed():
    """KerasTuner adds a million weights to an accuracy."""
    oracle = theirs(
        keras_tuner.oracles.RandomSearchOracle,
        objective=[
            keras_tuner.Objective("accuracy", "max"),
            keras_tuner.Objective("weights", "min"),
        ],
    )
    good = oracle.objective.get_value({"accuracy": 0.99, "weights": 1001})
    useless = oracle.objective.get_value({"accuracy": 0.1, "weights": 1000})
    assert useless < good  # less is better

    points = [(0.99, 1001), (0.1, 1000), (0.05, 1002)]
    assert kzoo.tuning.objectives.pareto_front(points, ("max", "min")) == [0, 1]
