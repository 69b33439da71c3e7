"""A copy of a run's record in an experiment tracker: MLflow, Weights & Biases, Trackio.

The run folder stays the record. All that a tracker shows is read from there, so that
what a tracker missed is sent later, and a run ends the same with it or without.
"""

import contextlib
import importlib.util
import logging
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kzoo import __version__, distribution, weights
from kzoo.hparams import nearest
from kzoo.training.run import HISTORY, Run, decisive, fingerprint, logged

if TYPE_CHECKING:
    import keras

STATE = "tracking.json"  # in the run folder: which tracker run, and what it has
PROJECT = "kzoo"  # or what the tracker's own environment variable names

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """One run of a tracker; each method may raise whatever the tracker raises."""

    def open(self, run_id: str | None, run: Run) -> str:
        """Begins a tracker run, or goes on with the one of this id; returns its id."""

    def epoch(self, row: Mapping[str, float]) -> None:
        """Sends a row of history.csv."""

    def final(self, scores: Mapping[str, float], plots: Sequence[Path]) -> None:
        """Sends the scores at the end of the run, and its plots."""

    def close(self, status: str) -> None:
        """Ends the tracker run as ``FINISHED``, ``FAILED`` or ``KILLED``."""


class MLflow:
    """A run of the MLflow experiment ``kzoo``, or of ``MLFLOW_EXPERIMENT_NAME``."""

    def open(self, run_id: str | None, run: Run) -> str:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self.client = MlflowClient()
        if run_id is not None:
            self.id = run_id
            self.client.update_run(run_id, status="RUNNING")
            return run_id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.client.get_experiment_by_name(name)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or (
            found.experiment_id if found else self.client.create_experiment(name)
        )
        made = self.client.create_run(
            experiment, run_name=run.folder.name, tags=tags_of(run)
        )
        self.id = made.info.run_id
        params = [Param(key, str(value)) for key, value in decisive(run.config).items()]
        for i in range(0, len(params), 100):  # MLflow's limit for one request
            self.client.log_batch(self.id, params=params[i : i + 100])
        return self.id

    def epoch(self, row: Mapping[str, float]) -> None:
        self._log(row, int(row["step"]))

    def final(self, scores: Mapping[str, float], plots: Sequence[Path]) -> None:
        self._log(scores, 0)
        for path in plots:
            self.client.log_artifact(self.id, str(path), "plots")

    def close(self, status: str) -> None:
        self.client.set_terminated(self.id, status)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)


class WandB:
    """A run of the Weights & Biases project ``kzoo``, or of ``WANDB_PROJECT``."""

    def open(self, run_id: str | None, run: Run) -> str:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.folder.name,
            id=run_id or uuid.uuid4().hex[:8],
            resume="allow",
            config={**decisive(run.config), **tags_of(run)},
            allow_val_change=True,
            reinit="create_new",  # a run of the caller's own stays open
        )
        # Weights & Biases' own steps may not go back; a metric is free to.
        self.run.define_metric("*", step_metric="step")
        return str(self.run.id)

    def epoch(self, row: Mapping[str, float]) -> None:
        self.run.log(dict(row))

    def final(self, scores: Mapping[str, float], plots: Sequence[Path]) -> None:
        import wandb

        self.run.summary.update(dict(scores))
        if plots:
            self.run.log({f"plots/{one.stem}": wandb.Image(str(one)) for one in plots})

    def close(self, status: str) -> None:
        self.run.finish(exit_code=int(status != "FINISHED"))


class Trackio:
    """A run of the Trackio project ``kzoo``, or of ``TRACKIO_PROJECT``."""

    def open(self, run_id: str | None, run: Run) -> str:
        import trackio

        # Trackio finds a run again by its name alone.
        name = run_id or f"{run.folder.name}-{uuid.uuid4().hex[:8]}"
        with self._quiet():
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=name,
                resume="allow",
                config={**decisive(run.config), **tags_of(run)},
                embed=False,
            )
        return name

    def epoch(self, row: Mapping[str, float]) -> None:
        values = {key: value for key, value in row.items() if key != "step"}
        with self._quiet():
            self.run.log(values, step=int(row["step"]))

    def final(self, scores: Mapping[str, float], plots: Sequence[Path]) -> None:
        import trackio

        with self._quiet():
            images = {f"plots/{one.stem}": trackio.Image(str(one)) for one in plots}
            self.run.log({**scores, **images})

    def close(self, status: str) -> None:
        import trackio

        with self._quiet():
            trackio.finish()  # the run's own would be called again, and print, at exit

    def _quiet(self) -> contextlib.AbstractContextManager[Any]:
        """Standard output is the caller's: Trackio's lines go to standard error."""
        return contextlib.redirect_stdout(sys.stderr)


# The name that users give, which is that of the package and of the extra too.
TRACKERS: dict[str, type[Tracker]] = {
    "mlflow": MLflow,
    "wandb": WandB,
    "trackio": Trackio,
}


def check_tracker(name: str | None) -> None:
    """Raises a ``ValueError`` for a tracker that is unknown or not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise ValueError(f"unknown tracker {name!r}{nearest(name, TRACKERS)}")
    spec = importlib.util.find_spec(name)
    # A folder of that name without code, such as wandb's own output, is no package.
    if spec is None or spec.origin is None:
        raise ValueError(f"{name} is not installed: pip install 'kzoo[{name}]'")


def tags_of(run: Run) -> dict[str, str]:
    """Where the run is and which it is, to find its folder from the tracker."""
    return {
        "kzoo.folder": str(run.folder.resolve()),
        "kzoo.fingerprint": fingerprint(run.config),
        "kzoo.version": __version__,
    }


def final_scores(run: Run) -> dict[str, float]:
    """The numbers of metrics.json: ``test/accuracy``, ``run/best_epoch``, ..."""
    metrics = run.metrics
    groups = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    groups["run"] = metrics  # ``seconds`` alone is each epoch's
    return {
        f"{group}/{name}": float(value)
        for group, values in groups.items()
        for name, value in values.items()
        if isinstance(value, int | float)
    }


class Mirror:
    """Brings a tracker up to what the run folder holds.

    Args:
        name: one of ``TRACKERS``.
        folder: of the run.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.run = Run(folder)
        self.opened: Tracker | None = None
        self.failed = False

    def update(self) -> None:
        """Sends the epochs that the tracker does not have yet.

        An epoch that a resumed run goes through once more was sent before.
        """
        if self.failed:
            return
        with self._forgiven():
            self._send_epochs()

    def finish(self) -> None:
        """Sends all that is missing, final scores and plots, if it has not been sent.

        After a failure this is the second and last attempt; a tracker that could not
        be reached when training began is left alone, as its time-outs may take minutes.
        """
        epochs = self.run.config["recipe"]["epochs"]
        unreachable = self.failed and self.opened is None
        if unreachable or self._state().get("finished") == epochs:
            return
        with self._forgiven():
            tracker = self._send_epochs()
            plots = sorted((self.run.folder / "plots").glob("*.png"))
            tracker.final(final_scores(self.run), plots)
            self._remember(finished=epochs)
        self.close("FINISHED")

    def close(self, status: str) -> None:
        """Ends the tracker run, if one is open."""
        tracker, self.opened = self.opened, None
        if tracker is not None:
            with self._forgiven():
                tracker.close(status)

    def _send_epochs(self) -> Tracker:
        tracker = self.opened
        if tracker is None:
            tracker = TRACKERS[self.name]()
            self._remember(id=tracker.open(self._state().get("id"), self.run))
            self.opened = tracker
        history = self.run.history if (self.run.folder / HISTORY).exists() else []
        for row in history:
            if row["epoch"] > self._state().get("epoch", 0):
                tracker.epoch(row)
                self._remember(epoch=int(row["epoch"]))
        return tracker

    def _state(self) -> dict[str, Any]:
        path = self.run.folder / STATE
        stored = weights.read_json(path) if path.exists() else {}
        return dict(stored.get(self.name, {}))

    def _remember(self, **changes: Any) -> None:
        path = self.run.folder / STATE
        stored = weights.read_json(path) if path.exists() else {}
        changed = {**stored, self.name: {**self._state(), **changes}}
        if changed != stored:
            weights.write_json(path, changed)

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Turns whatever the tracker raises into a warning."""
        try:
            yield
        except Exception as error:
            self.failed = True
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            log.warning(
                "%s failed (%s); the run goes on without it, and %s has everything",
                self.name,
                reason,
                self.run.folder,
            )


@contextmanager
def tracked(
    name: str | None, folder: Path, where: distribution.Distribution
) -> Iterator[list["keras.callbacks.Callback"]]:
    """Mirrors what trains meanwhile in a tracker; only the chief process does.

    Args:
        name: one of ``TRACKERS``; None = no tracker.
        folder: of the run; nothing need be there yet.
        where: the run is trained.

    Yields:
        The callbacks to train with.
    """
    if name is None or not where.is_chief:
        yield []
        return
    import keras

    mirror = Mirror(name, folder)
    callback = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: mirror.update(),
        on_epoch_end=lambda epoch, logs: mirror.update(),
    )
    callback.remembered = False  # it is no part of the run's state
    try:
        yield [callback]
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        mirror.close("KILLED" if stopped else "FAILED")
        raise
    with logged(folder):
        mirror.finish()
