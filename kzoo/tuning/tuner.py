"""KerasTuner's tuner, mended: a trial is a run folder, by the code of every run."""

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from kzoo import distribution as distributions
from kzoo import index
from kzoo.datasets import Dataset
from kzoo.distribution.keras_mend import forgotten_gradients
from kzoo.training.compiling import compiled
from kzoo.training.fit import config_of, fit_into, seeded
from kzoo.training.plan import Plan, plan
from kzoo.training.run import Run, logged, prepared
from kzoo.training.snapshots import SnapshotError
from kzoo.tuning import disk, records
from kzoo.tuning.board import write_session
from kzoo.tuning.objectives import Objective, cost, finite
from kzoo.tuning.records import Record, seed_of
from kzoo.tuning.request import Request
from kzoo.tuning.space import Range, settings_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trials:
    """What all trials of a sweep have in common.

    Attributes:
        request: what is trained.
        dataset: loaded, the same for all.
        folder: ``trials/`` of the sweep.
        ranges: what moves.
    """

    request: Request
    dataset: Dataset
    objectives: tuple[Objective, ...]
    folder: Path
    ranges: tuple[Range, ...]

    def planned(self, values: Mapping[str, Any], seed: int) -> Plan:
        """The run of these hyper-parameters."""
        return plan(
            self.request.model,
            self.dataset,
            recipe=self.request.recipe,
            settings={
                **self.request.settings,
                **settings_of(self.ranges, values),
                "seed": seed,
            },
        )

    def seeds(self, number: int) -> list[int]:
        """Of a trial's executions."""
        count = self.request.options.executions
        return [seed_of(self.request.seed, number, i) for i in range(count)]

    def run_folder(self, id: str, execution: int) -> Path:
        """The first execution is the trial's folder itself."""
        name = f"{id}.execution_{execution}" if execution else id
        return self.folder / name


class TrialModel(keras_tuner.HyperModel):
    """How KerasTuner asks for a trial's model, and for its training."""

    def __init__(self, trials: Trials) -> None:
        super().__init__()
        self.trials = trials

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model of ``hp.values``, which ``seed`` is one of."""
        return compiled(self.planned(hp))

    def planned(self, hp: keras_tuner.HyperParameters) -> Plan:
        """The run of these values."""
        values = dict(hp.values)
        return self.trials.planned(values, values.pop("seed"))

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: keras.Model,
        folder: Path,
        until: int,
        callbacks: Any = (),
    ) -> Run:
        """Trains up to this epoch, from the snapshot that is there."""
        planned = self.planned(hp)
        config = config_of(planned, distributions.current())
        with prepared(folder, config, "resume") as run, logged(folder):
            return fit_into(
                run,
                planned,
                model,
                until=until,
                splits=("validation",),
                callbacks=callbacks,
            )


class SweepTuner(keras_tuner.Tuner):
    """Runs trials one after another, for an oracle in this process or at a chief.

    Where several processes train a trial together, all of them run it, and the first
    one's oracle answers.
    """

    def __init__(self, oracle: keras_tuner.Oracle, trials: Trials) -> None:
        self.trials = trials
        self.where = distributions.resolve(trials.request.distribution)
        super().__init__(
            oracle=oracle,
            hypermodel=TrialModel(trials),
            directory=str(trials.folder.parent),
            project_name=trials.folder.name,
        )
        if self.where.shard[1] > 1:
            self.oracle: Any = SharedOracle(oracle, self.where)

    def _populate_initial_space(self) -> None:
        """Nothing: the space was declared, and no model is built to find it."""

    def save(self) -> None:
        """Nothing: the oracle's records are all there is to remember."""

    def _try_run_and_update_trial(
        self, trial: Trial, *args: Any, **kwargs: Any
    ) -> None:
        """Runs it; a fault in it fails the trial, a full disk the sweep."""
        try:
            self.run_trial(trial)
            trial.status = TrialStatus.COMPLETED
        except SnapshotError:
            raise
        except Exception:
            trial.status = TrialStatus.FAILED
            trial.message = traceback.format_exc()
            if self.where.is_chief:
                records.write_error(self.trials.folder, trial.trial_id, trial.message)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        """Trains a trial's executions, and leaves their result for the oracle."""
        trials = self.trials
        record = records.load_record(trials.folder, trial.trial_id)
        scores: list[dict[str, float]] = []
        epochs = 0
        pruned = False
        reports = Reports(self.oracle, record, trials)
        for execution, seed in enumerate(trials.seeds(record.number)):
            along = [] if execution else [reports]
            run, found = self.execute(record, execution, seed, along)
            scores.append(found)
            epochs = max(epochs, len(run.history))
            pruned = not execution and was_pruned(run, record.until)
            if pruned:
                break
        means = {
            name: float(np.mean([score[name] for score in scores]))
            for name in scores[0]
        }
        if not finite(means):
            raise NonFiniteScoreError(f"the score is no number: {means}")
        wanted = {one.name: means[one.name] for one in trials.objectives}
        result = records.Result(wanted, means["loss"], epochs, pruned)
        if self.where.is_chief:
            result.save(trials.folder, record.id)

    def execute(
        self,
        record: Record,
        execution: int,
        seed: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> tuple[Run, dict[str, float]]:
        """One training, and its objectives and loss on the weights that it keeps."""
        trials = self.trials
        hp = keras_tuner.HyperParameters()
        hp.values = {**record.values, "seed": seed}
        where, options = self.where, trials.request.options
        planned = self.hypermodel.planned(hp)
        with renewed_session(), seeded(seed), where.scope(planned.layout):
            check_size(planned, options.max_weights)
            model = self.hypermodel.build(hp)
            room = partial(disk.lacking, model, trials.folder.parent, options.disk_gb)
            lacking = where.from_chief(room)
            if lacking:
                raise keras_tuner.errors.FailedTrialError(lacking)
            folder = trials.run_folder(record.id, execution)
            run = self.hypermodel.fit(hp, model, folder, record.until, callbacks)
            found = {"loss": run.score("validation", "loss")}
            for one in trials.objectives:
                found[one.name] = (
                    cost(one.name, model, planned.dataset)
                    if one.is_cost
                    else run.score("validation", one.name)
                )
            if where.is_chief:
                board = run.folder / "tensorboard"
                write_session(board, folder.name, record.values, found)
        return run, found


class SharedOracle:
    """What the first process's oracle says, on all processes that train together."""

    def __init__(self, oracle: Any, where: distributions.Distribution) -> None:
        self.oracle = oracle
        self.where = where

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial of all of them."""
        return self._answer(lambda: self.oracle.create_trial(tuner_id))

    def update_trial(
        self, trial_id: str, metrics: Mapping[str, float], step: int = 0
    ) -> Trial:
        """Whether all of them stop."""
        return self._answer(lambda: self.oracle.update_trial(trial_id, metrics, step))

    def end_trial(self, trial: Trial) -> None:
        """Records how the trial ended."""
        if self.where.is_chief:
            self.oracle.end_trial(trial)

    def _answer(self, ask: Callable[[], Trial]) -> Trial:
        def told() -> str:
            trial = ask()
            return f"{trial.status} {trial.trial_id}"

        status, _, id = self.where.from_chief(told).partition(" ")
        return Trial(keras_tuner.HyperParameters(), trial_id=id, status=status)


def was_pruned(run: Run, until: int) -> bool:
    """Whether it stopped before its time, and not by itself.

    It is read from the run: the process that pruned it may have been killed since.
    """
    epochs = len(run.history)
    patience = run.config["recipe"]["early_stopping"]
    by_itself = patience and epochs - run.metrics["best_epoch"] >= patience
    return epochs < until and not by_itself


class NonFiniteScoreError(ArithmeticError):
    """A trial whose score is no number has failed."""


def check_size(planned: Plan, max_weights: int) -> None:
    """Raises a KerasTuner's ``FailedTrialError`` for a model with too many weights.

    They are counted before any is allocated.
    """
    if not max_weights:
        return
    known = index.describe(planned.name, **planned.hparams.to_json())
    if known["trainable_parameters"] > max_weights:
        raise keras_tuner.errors.FailedTrialError(
            f"{planned.name} would have {known['trainable_parameters']:,} weights, and "
            f"max_weights is {max_weights:,}"
        )


@contextmanager
def renewed_session() -> Iterator[None]:
    """A clean Keras, with the caller's precision and distribution.

    ``clear_session`` forgets both. What a trial left in TensorFlow, it keeps.
    """
    policy = keras.config.dtype_policy()
    distribution = keras.distribution.distribution()
    keras.utils.clear_session()
    keras.config.set_dtype_policy(policy)
    keras.distribution.set_distribution(distribution)
    with forgotten_gradients():
        yield


class Reports(keras.callbacks.Callback):
    """Tells the oracle how each epoch went, and stops where the answer says so."""

    remembered = False

    def __init__(self, oracle: Any, record: Record, trials: Trials) -> None:
        super().__init__()
        self.oracle = oracle
        self.record = record
        self.folder = trials.run_folder(record.id, 0)
        self.objective = trials.objectives[0]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        for row in records.history(self.folder):  # of a trial that was interrupted
            self._report(int(row["epoch"]), row)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._report(epoch + 1, logs or {}):
            self.model.stop_training = True

    def _report(self, epoch: int, row: Mapping[str, float]) -> bool:
        if self.objective.is_cost:
            return False
        value = float(row[f"val_{self.objective.name}"])
        metrics = {self.objective.name: value}
        answer = self.oracle.update_trial(self.record.id, metrics, step=epoch)
        return bool(answer.status == TrialStatus.STOPPED)
