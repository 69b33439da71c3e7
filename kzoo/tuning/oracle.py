"""KerasTuner's oracle, mended: what is asked next, and what is remembered.

Each proposal is a function of the sweep's seed, the trial's number and the records of
the trials before it. So a sweep that was killed goes on from its records alone, and
proposes what it would have proposed.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from kzoo.tuning import pruning, records, space
from kzoo.tuning.objectives import Objective, finite
from kzoo.tuning.records import (
    COMPLETED,
    ENDED,
    FAILED,
    PAUSED,
    PRUNED,
    RUNNING,
    Record,
    seed_of,
)
from kzoo.tuning.space import Range

log = logging.getLogger(__name__)

# A sweep is not given up before so many trials have failed.
FEWEST_FAILURES = 3
IDLE_SECONDS = 0.2


@dataclass(frozen=True)
class Search:
    """What an oracle is asked to do.

    Attributes:
        trials: how many, at most.
        epochs: of a trial that is not stopped before.
        objectives: the first one scores, and is what pruning goes by.
        failures: the share of failed trials at which the sweep is given up.
        folder: where the records are.
    """

    ranges: tuple[Range, ...]
    objectives: tuple[Objective, ...]
    trials: int
    epochs: int
    seed: int
    prune: str
    failures: float
    folder: Path


class SweepOracle(keras_tuner.Oracle):
    """What all oracles of kzoo share; it proposes the recipe's own values first.

    KerasTuner's own would take seed 0 for none, an infinite score for the best one,
    forget intermediate scores, write its files in place, and give a sweep up after
    three failures in a row.

    Attributes:
        records: by the trial's id; ``trials`` is KerasTuner's view of them.
        curves: of each trial, the best value so far after each epoch.
        exhausted: whether there is nothing left to propose.
        gave_up: why the sweep was given up, or None.
        watch: told after each change.
    """

    def __init__(self, search: Search) -> None:
        hyperparameters = keras_tuner.HyperParameters()
        super().__init__(
            objective=keras_tuner.Objective(
                search.objectives[0].name, search.objectives[0].direction
            ),
            max_trials=search.trials,
            hyperparameters=space.declare(search.ranges, hyperparameters),
            allow_new_entries=False,
            seed=search.seed,
        )
        self.seed = search.seed  # KerasTuner draws one where it is 0
        self.verbose = 0
        self.search = search
        self.scored_by = search.objectives[0]
        self.prunes = pruning.pruner(search.prune)
        self.records: dict[str, Record] = {}
        self.curves: dict[str, list[float]] = {}
        self.interrupted: list[str] = []
        self.exhausted = False
        self.gave_up: str | None = None
        self.watch: Callable[[], None] = lambda: None
        self.lock = threading.RLock()

    # What subclasses say.

    def propose(self, number: int) -> dict[str, Any] | None:
        """Values of a new trial; None if there are none left.

        Raises:
            NotImplementedError: an oracle without an idea.
        """
        raise NotImplementedError

    def first_until(self, number: int) -> int:
        """The epoch to which a new trial trains."""
        return self.search.epochs

    def promotable(self) -> Record | None:
        """A paused trial that may have more epochs now."""
        return None

    def next_until(self, record: Record) -> int:
        """The epoch to which a promoted trial trains."""
        return self.search.epochs

    # What the tuner calls, in this process or through KerasTuner's chief.

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial of this worker."""
        with self.lock:
            if tuner_id in self.ongoing_trials:  # the worker died, and is back
                return self.ongoing_trials[tuner_id]
            self.tuner_ids.add(tuner_id)
            found = None if self.gave_up else self._next()
            if found is None:
                waiting = not self.gave_up and self._may_promote()
                if not waiting:
                    self.tuner_ids.discard(tuner_id)
                    return _answer("", TrialStatus.STOPPED)
            else:
                record = self.records[found]
                record.status = RUNNING
                trial = self._mirror(record)
                self.ongoing_trials[tuner_id] = trial
                self._save(record)
                return trial
        time.sleep(IDLE_SECONDS)  # or the worker asks as fast as it can
        return _answer("", TrialStatus.IDLE)

    def _next(self) -> str | None:
        if self.interrupted:
            return self.interrupted.pop(0)
        paused = self.promotable()
        if paused is not None:
            paused.until = self.next_until(paused)
            return paused.id
        return self._new()

    def _new(self) -> str | None:
        number = len(self.records)
        if number >= self.search.trials:
            return None
        values = self.propose(number)
        if values is None:
            log.info("the space has no more values to try")
            self.exhausted = True
            return None
        self._tried_so_far.add(self._compute_values_hash(values))
        record = Record(
            number=number,
            status=RUNNING,
            values=values,
            seed=seed_of(self.seed, number, 0),
            until=self.first_until(number),
        )
        self.records[record.id] = record
        self.start_order.append(record.id)
        return record.id

    def _may_promote(self) -> bool:
        """Whether a trial that runs may make another one wanted."""
        paused = any(record.status == PAUSED for record in self.records.values())
        return bool(self.ongoing_trials) and (
            paused or any(r.until < self.search.epochs for r in self.records.values())
        )

    def update_trial(
        self, trial_id: str, metrics: Mapping[str, float], step: int = 0
    ) -> Trial:
        """Takes the score after an epoch; the answer's status says whether to stop."""
        with self.lock:
            value = self.scored_by.gain(float(metrics[self.scored_by.name]))
            earlier = self.curves.get(trial_id, [])[: step - 1]
            curve = pruning.best_so_far([*earlier, value])
            self.curves[trial_id] = curve
            others = [c for one, c in self.curves.items() if one != trial_id]
            stop = self.prunes(curve, others, self.search.epochs)
            return _answer(
                trial_id, TrialStatus.STOPPED if stop else TrialStatus.RUNNING
            )

    def end_trial(self, trial: Trial) -> None:
        """Records how a trial ended, as its result on disk says."""
        with self.lock:
            record = self.records[trial.trial_id]
            self._take_result(record, trial)
            if record.ended is None:
                self.end_order.append(record.id)
            record.ended = max(r.ended or 0 for r in self.records.values()) + 1
            self._mirror(record)
            for tuner_id, ongoing in list(self.ongoing_trials.items()):
                if ongoing.trial_id == record.id:
                    del self.ongoing_trials[tuner_id]
            self._check_failures()
            self._save(record)

    def _take_result(self, record: Record, trial: Trial) -> None:
        """The trial's score is read where the tuner left it.

        KerasTuner's chief gets it as a float32, and without a traceback.
        """
        folder = self.search.folder
        well = trial.status == TrialStatus.COMPLETED
        result = records.load_result(folder, record.id) if well else None
        if result is not None and finite(result.objectives):
            record.objectives, record.loss = result.objectives, result.loss
            record.epochs = result.epochs
            paused = record.epochs == record.until < self.search.epochs
            record.status = PRUNED if result.pruned else PAUSED if paused else COMPLETED
        else:
            record.status = FAILED
            record.objectives, record.loss = {}, None
            record.epochs = len(records.history(folder / record.id))
            told = records.last_line_of_error(folder, record.id)
            log.warning("trial %s failed: %s", record.number, told)

    def _check_failures(self) -> None:
        ended = [r for r in self.records.values() if r.status in ENDED]
        failed = [r for r in ended if r.status == FAILED]
        if len(failed) >= FEWEST_FAILURES and (
            len(failed) > self.search.failures * len(ended)
        ):
            last = max(failed, key=lambda record: record.ended or 0)
            told = records.last_line_of_error(self.search.folder, last.id)
            self.gave_up = (
                f"{len(failed)} of {len(ended)} trials failed, the last one with: "
                f"{told}; the whole of it is in "
                f"{self.search.folder / f'{last.id}.error.txt'}"
            )

    @property
    def over(self) -> bool:
        """Whether no trial runs, and none will."""
        with self.lock:
            busy = self.ongoing_trials or self.interrupted
            new = len(self.records) < self.search.trials and not self.exhausted
            return bool(self.gave_up) or not (busy or new or self.promotable())

    # What is remembered.

    def finish(self) -> None:
        """Paused trials that nobody promotes are pruned ones."""
        with self.lock:
            for record in self.records.values():
                if record.status == PAUSED and not self.gave_up:
                    record.status = PRUNED
                    record.save(self.search.folder)
            self.watch()

    def _save(self, record: Record) -> None:
        record.save(self.search.folder)
        self.watch()

    def save(self) -> None:
        """Nothing: each record was written when it changed."""

    def reload(self) -> None:
        """Takes up the records of an interrupted sweep."""
        for record in records.load_records(self.search.folder):
            self.records[record.id] = record
            self.start_order.append(record.id)
            self._tried_so_far.add(self._compute_values_hash(record.values))
            if record.status == RUNNING:
                self.interrupted.append(record.id)
            else:
                if record.status == PRUNED and self._was_paused(record):
                    record.status = PAUSED
                self.curves[record.id] = self._curve(record)
            self._mirror(record)
        ended = [r for r in self.records.values() if r.ended is not None]
        ended.sort(key=lambda record: record.ended or 0)
        self.end_order = [record.id for record in ended]
        self._check_failures()

    def _curve(self, record: Record) -> list[float]:
        rows = records.history(self.search.folder / record.id)[: record.epochs]
        values = [row.get(f"val_{self.scored_by.name}") for row in rows]
        gains = [self.scored_by.gain(value) for value in values if value is not None]
        return pruning.best_so_far(gains)

    def _was_paused(self, record: Record) -> bool:
        """More trials, asked for later, may yet promote it."""
        return record.epochs == record.until < self.search.epochs

    def _mirror(self, record: Record) -> Trial:
        """The record as KerasTuner's Trial.

        It has values but no space: what goes through the chief is the id and the
        status, and KerasTuner prints each condition that it sends.
        """
        trial = self.trials.get(record.id)
        if trial is None:
            trial = _answer(record.id, TrialStatus.RUNNING)
            self.trials[record.id] = trial
        trial.hyperparameters.values = dict(record.values)
        ended_well = record.status in (COMPLETED, PRUNED, PAUSED)
        trial.status = (
            TrialStatus.COMPLETED
            if ended_well
            else TrialStatus.FAILED
            if record.status == FAILED
            else TrialStatus.RUNNING
        )
        trial.score = record.objectives.get(self.scored_by.name)
        trial.best_step = record.epochs
        return trial


def _answer(id: str, status: str) -> Trial:
    return Trial(keras_tuner.HyperParameters(), trial_id=id, status=status)
