"""A tracker shows what the run folder holds, and never decides or ends a run."""

import importlib.machinery
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.training import Run
from kzoo.training.run import decisive, fingerprint
from kzoo.training.tracking import TRACKERS, MLflow, check_tracker, tracked

mlflow = pytest.importorskip("mlflow")

# What MLflow's dependencies warn of is not kzoo's.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")

SMALL = {"units": (8,), "batch_size": 256, "epochs": 3, "snapshot_every": "2"}


def train(out: Path, **changes: Any) -> Run:
    keras.utils.clear_session()
    return kzoo.train("mlp", "digits", out=out, **{**SMALL, **changes})


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an MLflow store in a folder of the test's own."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def only_run(client: Any) -> Any:
    """The one tracker run that there is."""
    experiment = client.get_experiment_by_name("kzoo")
    (found,) = client.search_runs([experiment.experiment_id])
    return found


def points(client: Any, found: Any, name: str) -> list[tuple[int, float]]:
    """A metric's values, in the order in which they were sent."""
    history = client.get_metric_history(found.info.run_id, name)
    return [(point.step, point.value) for point in history]


def check_epochs(client: Any, found: Any, run: Run) -> None:
    """Each value of history.csv stands once in the tracker, at its step."""
    rows = run.history
    for name in rows[0]:
        sent = points(client, found, name)
        assert sent == [(int(row["step"]), row[name]) for row in rows], name


def test_mlflow_has_what_the_folder_has(tmp_path: Path, client: Any) -> None:
    run = train(tmp_path / "run", track="mlflow")
    found = only_run(client)
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    config = decisive(run.config)
    assert found.data.params == {key: str(value) for key, value in config.items()}
    assert found.data.params["model.hparams.units"] == "[8]"
    assert found.data.params["dataset.name"] == "digits"
    assert found.data.params["recipe.epochs"] == "3"
    assert len(run.history) == 3
    check_epochs(client, found, run)
    for split in ("test", "validation"):
        accuracy = found.data.metrics[f"{split}/accuracy"]
        assert accuracy == run.metrics[split]["accuracy"]
    assert found.data.metrics["run/best_epoch"] == run.metrics["best_epoch"]
    assert found.data.metrics["run/seconds"] == run.metrics["seconds"]
    assert found.data.tags["kzoo.folder"] == str(run.folder.resolve())
    assert found.data.tags["kzoo.fingerprint"] == fingerprint(run.config)
    sent = [one.path for one in client.list_artifacts(found.info.run_id, "plots")]
    assert sent == ["plots/confusion.png", "plots/curves.png"]


class Stop(keras.callbacks.Callback):
    """Ends the process after an epoch, or before a step of the third one."""

    remembered = False

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (2, 0):
            raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(MemoryError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_resumed_run_is_one_tracker_run(
    tmp_path: Path, client: Any, error: BaseException, status: str
) -> None:
    # No snapshot but the last: the second call trains every epoch again.
    changes = {"track": "mlflow", "snapshot_every": "1000"}
    with pytest.raises(type(error)):
        train(tmp_path / "run", callbacks=[Stop(error)], **changes)
    stopped = only_run(client)
    assert stopped.info.status == status
    assert [step for step, _ in points(client, stopped, "epoch")] == [5, 10]
    run = train(tmp_path / "run", **changes)
    found = only_run(client)
    assert (found.info.run_id, found.info.status) == (stopped.info.run_id, "FINISHED")
    for name in ("epoch", "val_accuracy", "val_loss"):
        rows = [(int(row["step"]), row[name]) for row in run.history]
        assert points(client, found, name) == rows
    longer = train(tmp_path / "run", existing="extend", **{**changes, "epochs": 4})
    found = only_run(client)
    assert found.data.metrics["run/best_epoch"] == longer.metrics["best_epoch"]
    assert [step for step, _ in points(client, found, "epoch")] == [5, 10, 15, 20]
    train(tmp_path / "run", **{**changes, "epochs": 4})  # finished: nothing is sent
    assert len(points(client, found, "test/accuracy")) == 2


def test_fresh_begins_a_new_tracker_run(tmp_path: Path, client: Any) -> None:
    train(tmp_path / "run", track="mlflow", epochs=1)
    train(tmp_path / "run", track="mlflow", epochs=1, existing="fresh")
    experiment = client.get_experiment_by_name("kzoo")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_a_tracker_does_not_decide_the_run(tmp_path: Path, client: Any) -> None:
    """Same config, same weights; and a finished run can be sent afterwards."""
    plain = train(tmp_path / "plain")
    run = train(tmp_path / "run", track="mlflow")
    assert decisive(plain.config) == decisive(run.config)
    weights = [one.folder / "model" / "model.safetensors" for one in (plain, run)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    client.delete_run(only_run(client).info.run_id)
    train(plain.folder, track="mlflow")
    check_epochs(client, only_run(client), plain)


@pytest.mark.parametrize("failing", ["open", "epoch", "final", "close"])
def test_a_failing_tracker_is_a_warning(
    tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*arguments: Any) -> None:
        raise ConnectionError("no route to host\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(MLflow, failing, fail)
        run = train(tmp_path / "run", track="mlflow")
    assert run.finished
    assert len(run.history) == 3
    lines = (run.folder / "log.txt").read_text().splitlines()
    said = [line for line in lines if "mlflow failed (no route to host)" in line]
    assert len(said) == {"open": 1, "epoch": 2, "final": 1, "close": 1}[failing]
    train(tmp_path / "run", track="mlflow")  # the tracker is back
    check_epochs(client, only_run(client), run)
    assert len(points(client, only_run(client), "test/accuracy")) == 1


def test_an_outage_is_made_up_for_at_the_end(
    tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = MLflow.epoch
    calls = []

    def second_fails(self: MLflow, row: Any) -> None:
        calls.append(int(row["epoch"]))
        if len(calls) == 2:
            raise ConnectionError("no route to host")
        plain(self, row)

    monkeypatch.setattr(MLflow, "epoch", second_fails)
    run = train(tmp_path / "run", track="mlflow")
    assert calls == [1, 2, 2, 3]
    check_epochs(client, only_run(client), run)


def test_distill_and_pretrain_are_tracked(tmp_path: Path, client: Any) -> None:
    pre = kzoo.pretrain(
        "mlp",
        "digits",
        "denoising",
        tmp_path / "pre",
        epochs=1,
        units=(8,),
        track="mlflow",
    )
    found = only_run(client)
    check_epochs(client, found, pre)
    assert found.data.params["pretraining.objective"] == "denoising"
    client.delete_run(found.info.run_id)
    teacher = train(tmp_path / "teacher", epochs=1)
    run = kzoo.distill(
        teacher.folder, "mlp", out=tmp_path / "kd", epochs=1, units=(4,), track="mlflow"
    )
    found = only_run(client)
    check_epochs(client, found, run)
    assert found.data.params["distillation.method"] == "kd"
    sent = [one.path for one in client.list_artifacts(found.info.run_id, "plots")]
    assert "plots/compression.png" in sent


def test_command_line_tracks(
    tmp_path: Path, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"train mlp --dataset digits --epochs 1 --set units=8 --out {tmp_path}/run"
    assert main([*words.split(), "--track", "mlflow", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    found = only_run(client).data.metrics
    assert found["test/accuracy"] == scores["test"]["accuracy"]


# Trackers that are not installed here: stand-ins with the signatures of wandb 0.31 and
# trackio 0.43, and the rules of theirs that kzoo must keep.


class Calls(list[Any]):
    """What was called, in order."""


class WandbRun:
    """wandb.Run: what is logged, and how it ended."""

    def __init__(self, calls: Calls, run_id: str) -> None:
        self.calls, self.id, self.summary = calls, run_id, {}

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.calls.append(("define_metric", name, step_metric))

    def log(self, data: dict[str, Any], step: int | None = None) -> None:
        self.calls.append(("log", data, step))

    def finish(self, exit_code: int | None = None) -> None:
        self.calls.append(("finish", dict(self.summary), exit_code))


class TrackioRun:
    """trackio.Run."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        reserved = {"project", "run", "timestamp", "step", "time", "metrics"}
        assert not reserved & set(metrics)
        self.calls.append(("log", metrics, step))

    def finish(self) -> None:
        raise AssertionError("trackio.finish does it, once")


@pytest.fixture(params=["wandb", "trackio"])
def stand_in(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Calls]:
    """The tracker's name, and what is called of it."""
    calls = Calls()

    def wandb_init(
        *,
        project: str,
        name: str,
        id: str,
        resume: str,
        config: dict[str, Any],
        allow_val_change: bool,
        reinit: str,
    ) -> WandbRun:
        calls.append(("init", project, id, resume, config))
        return WandbRun(calls, id)

    def trackio_init(
        project: str,
        name: str,
        *,
        resume: str,
        config: dict[str, Any],
        embed: bool,
    ) -> TrackioRun:
        assert not any(key.startswith("_") for key in config)
        print(f"* Trackio project initialized: {project}")
        calls.append(("init", project, name, resume, config))
        return TrackioRun(calls)

    module: Any = types.ModuleType(request.param)
    module.__spec__ = importlib.machinery.ModuleSpec(
        request.param, None, origin="stand-in"
    )
    module.init = {"wandb": wandb_init, "trackio": trackio_init}[request.param]
    if request.param == "trackio":

        def finish() -> None:
            print("* Run finished.")
            calls.append(("finish",))

        module.finish = finish
    module.Image = lambda path: ("image", Path(path).name)
    monkeypatch.setitem(sys.modules, request.param, module)
    for name in ("WANDB_PROJECT", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return request.param, calls


def test_other_trackers_have_what_the_folder_has(
    tmp_path: Path,
    stand_in: tuple[str, Calls],
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, calls = stand_in
    with pytest.raises(MemoryError):
        train(tmp_path / "run", track=name, callbacks=[Stop(MemoryError())])
    run = train(tmp_path / "run", track=name)
    assert capsys.readouterr().out == ""
    first, second = (call for call in calls if call[0] == "init")
    assert first[1:4] == second[1:4]  # the same project and the same run
    assert (first[1], first[3]) == ("kzoo", "allow")
    assert first[4].items() >= decisive(run.config).items()
    assert first[4]["kzoo.fingerprint"] == fingerprint(run.config)
    logs = [call[1:] for call in calls if call[0] == "log"]
    sent = [(data.get("step", step), data) for data, step in logs if "epoch" in data]
    assert [step for step, _ in sent] == [row["step"] for row in run.history]
    for (_, data), row in zip(sent, run.history, strict=True):
        assert data["val_accuracy"] == row["val_accuracy"]
    last = {**logs[-1][0], **(calls[-1][1] if name == "wandb" else {})}
    assert last["test/accuracy"] == run.metrics["test"]["accuracy"]
    assert last["plots/curves"] == ("image", "curves.png")
    ends = [call for call in calls if call[0] == "finish"]
    assert len(ends) == 2
    if name == "wandb":
        assert [end[2] for end in ends] == [1, 0]
        assert ("define_metric", "*", "step") in calls


def test_one_process_of_several_tracks(tmp_path: Path) -> None:
    elsewhere: Any = types.SimpleNamespace(is_chief=False)
    with tracked("mlflow", tmp_path, elsewhere) as trackers:
        assert trackers == []
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_missing_trackers_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"'mlfow'\. Did you mean 'mlflow'"):
        train(tmp_path / "run", track="mlfow")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wandb").mkdir()  # as Weights & Biases leaves one where it ran
    for name in ("wandb", "trackio"):  # setup.cfg's test extra has neither
        monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.raises(ValueError, match=rf"pip install 'kzoo\[{name}\]'"):
            check_tracker(name)
    assert not (tmp_path / "run").exists()
    assert set(TRACKERS) == {"mlflow", "wandb", "trackio"}
