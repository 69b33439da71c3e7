"""Who proposes the next trial: random, grid, Bayesian, Hyperband, TPE."""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras_tuner
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from kzoo.tuning import space
from kzoo.tuning.oracle import Search, SweepOracle
from kzoo.tuning.records import (
    FAILED,
    PAUSED,
    PRUNED,
    RUNNING,
    Record,
    seed_of,
    trial_id,
)
from kzoo.tuning.space import Range

FACTOR = 3  # of Hyperband: a third of a rung goes on


class RandomOracle(SweepOracle):
    """Values drawn by KerasTuner, from the sweep's seed and the trial's number."""

    def propose(self, number: int) -> dict[str, Any] | None:
        if number == 0:
            return space.defaults(self.search.ranges)
        return self.drawn(number)

    def drawn(self, number: int) -> dict[str, Any] | None:
        """New random values; None if what is drawn has always been tried before."""
        self._seed_state = seed_of(self.seed, number, "values")
        values: dict[str, Any] | None = self._random_values()
        return values


class GridOracle(SweepOracle):
    """The whole grid, in order: the last hyper-parameter moves first.

    Numbers have as many points as leave the grid no larger than the trials. KerasTuner
    takes ten of each, without the ends.
    """

    def __init__(self, search: Search) -> None:
        super().__init__(search)
        self.grid = grid(search.ranges, search.trials)

    def propose(self, number: int) -> dict[str, Any] | None:
        return self.grid[number] if number < len(self.grid) else None


def grid(ranges: Sequence[Range], trials: int) -> list[dict[str, Any]]:
    """All combinations with the most points a number that fit in the trials.

    Raises:
        ValueError: two points of each are too many already.
    """
    found: list[dict[str, Any]] = []
    for count in itertools.count(2):
        axes = [entry.points(count) for entry in ranges]
        size = int(np.prod([len(axis) for axis in axes], dtype="float64"))
        if count == 2 and size > 100 * max(trials, 100):
            raise ValueError(_too_large(size, trials, ranges))
        if size > 100 * trials and count > 2:
            return found
        combined = _combinations(ranges, axes)
        if len(combined) > trials and count == 2:
            raise ValueError(_too_large(len(combined), trials, ranges))
        if len(combined) > trials or len(combined) == len(found):
            return found
        found = combined
    return found


def _too_large(size: int, trials: int, ranges: Sequence[Range]) -> str:
    names = ", ".join(entry.name for entry in ranges)
    return (
        f"a grid over {names} has {size} points with two of each number, and there are "
        f"{trials} trials: fix some with --set, or take --tuner random"
    )


def _combinations(
    ranges: Sequence[Range], axes: Sequence[Sequence[Any]]
) -> list[dict[str, Any]]:
    """Each combination of what is open, once."""
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for combination in itertools.product(*axes):
        values: dict[str, Any] = {}
        for entry, value in zip(ranges, combination, strict=True):
            if space.is_open(entry, values):
                values[entry.name] = value
        unique.setdefault(tuple(values.items()), values)
    return list(unique.values())


class BayesianOracle(RandomOracle, keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Gaussian process, on what really happened.

    It is told no infinite score, and that a failed trial is as bad as the worst; it
    proposes no point twice, and draws a third of the trials at most at random.
    """

    def __init__(self, search: Search) -> None:
        super().__init__(search)
        most = max(3, search.trials // 3)
        self.num_initial_points = min(3 * len(search.ranges), most)

    def propose(self, number: int) -> dict[str, Any] | None:
        scored = [trial for trial in self.trials.values() if trial.score is not None]
        if number == 0 or len(scored) < self.num_initial_points:
            return super().propose(number)
        self._random_state = np.random.RandomState(seed_of(self.seed, number, "gp"))
        self.gpr = self._make_gpr()
        # Its matrices are small: threads would only wait for each other.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is near
            answer = self.populate_space(trial_id(number))
        values = {name: _plain(value) for name, value in answer["values"].items()}
        return self.drawn(number) if self._duplicate(values) else values

    def _vectorize_trials(self) -> tuple[np.ndarray, np.ndarray]:
        """Points and scores, less is better."""
        points, scores = super()._vectorize_trials()
        failed = [trial for trial in self.trials.values() if trial.status == "FAILED"]
        for trial in failed:
            values = trial.hyperparameters.values
            point = [
                entry.value_to_prob(values.get(entry.name, entry.default))
                for entry in self.hyperparameters.space
            ]
            points = np.vstack([points, point])
            scores = np.append(scores, scores.max())
        return points, scores


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


class HyperbandOracle(RandomOracle):
    """Many trials for few epochs, the best third of them for three times as many.

    Li et al., "Hyperband", 2018 (1603.06560). A promoted trial goes on from its own
    snapshot, optimizer and all. A failed one leaves its place to the next best.
    """

    def first_until(self, number: int) -> int:
        return self._bracket(number).rungs[0]

    def promotable(self) -> Record | None:
        for bracket in brackets(self.search.trials, self.search.epochs):
            members = [
                record
                for record in self.records.values()
                if record.number in bracket.numbers
            ]
            found = self._promotable(bracket, members)
            if found is not None:
                return found
        return None

    def next_until(self, record: Record) -> int:
        later = self._bracket(record.number).rungs
        return next(rung for rung in later if rung > record.until)

    def _promotable(self, bracket: "Bracket", members: list[Record]) -> Record | None:
        if len(members) < len(bracket.numbers):
            return None
        for i, rung in enumerate(bracket.rungs[:-1]):
            if any(r.status == RUNNING and r.until <= rung for r in members):
                return None
            ahead = [r for r in members if r.until > rung and r.status != FAILED]
            waiting = [r for r in members if r.until == rung and r.status == PAUSED]
            if len(ahead) < bracket.sizes[i + 1] and waiting:
                best = max(waiting, key=lambda r: (self._gain(r), -r.number))
                return best
        return None

    def _gain(self, record: Record) -> float:
        return self.scored_by.gain(record.objectives[self.scored_by.name])

    def _bracket(self, number: int) -> "Bracket":
        found = brackets(self.search.trials, self.search.epochs)
        return next(bracket for bracket in found if number in bracket.numbers)


class Bracket(NamedTuple):
    """Successive halving of some trials.

    ``rungs`` are epochs, the last one all of them; ``sizes`` how many come to each.
    """

    numbers: range
    rungs: list[int]
    sizes: list[int]


def brackets(trials: int, epochs: int) -> list[Bracket]:
    """Hyperband's, from the one that halves most, over and over until all have one.

    >>> for bracket in brackets(trials=17, epochs=9):
    ...     print(bracket.numbers, bracket.rungs, bracket.sizes)
    range(0, 9) [1, 3, 9] [9, 3, 1]
    range(9, 14) [3, 9] [5, 1]
    range(14, 17) [9] [3]
    """
    most = int(math.log(epochs, FACTOR) + 1e-9)
    found: list[Bracket] = []
    for level in itertools.cycle(range(most, -1, -1)):
        first = found[-1].numbers.stop if found else 0
        if first >= trials:
            return found
        count = math.ceil((most + 1) / (level + 1) * FACTOR**level)
        numbers = range(first, min(first + count, trials))
        rungs = [math.ceil(epochs / FACTOR**i) for i in range(level, -1, -1)]
        sizes = [max(1, len(numbers) // FACTOR**i) for i in range(level + 1)]
        found.append(Bracket(numbers, rungs, sizes))
    return found


class TPEOracle(RandomOracle):
    """Optuna's tree-structured Parzen estimator (Bergstra et al., 2011).

    The study is made anew from the records for each proposal.
    """

    def propose(self, number: int) -> dict[str, Any] | None:
        if number == 0:
            return super().propose(number)
        study = self._study(number)
        asked = study.ask()
        values: dict[str, Any] = {}
        for entry in self.search.ranges:
            if space.is_open(entry, values):
                values[entry.name] = _suggested(asked, entry)
        return self.drawn(number) if self._duplicate(values) else values

    def _study(self, number: int) -> Any:
        optuna = import_optuna()
        with quiet(optuna):
            sampler = optuna.samplers.TPESampler(
                seed=seed_of(self.seed, number, "tpe"),
                n_startup_trials=min(10, max(3, self.search.trials // 3)),
                multivariate=True,
                group=True,
                constant_liar=True,
            )
            directions = [f"{one.direction}imize" for one in self.search.objectives]
            study = optuna.create_study(sampler=sampler, directions=directions)
            for record in self.records.values():
                study.add_trial(self._told(optuna, record))
        return study

    def _told(self, optuna: Any, record: Record) -> Any:
        """The record as Optuna knows it; a failed one is worse than all others."""
        state = optuna.trial.TrialState
        ranges = [e for e in self.search.ranges if e.name in record.values]
        facts: dict[str, Any] = {
            "params": record.values,
            "distributions": {e.name: _distribution(optuna, e) for e in ranges},
        }
        names = [one.name for one in self.search.objectives]
        if record.status == RUNNING:
            return optuna.trial.create_trial(state=state.RUNNING, **facts)
        if record.status == FAILED:
            if len(names) > 1:
                return optuna.trial.create_trial(state=state.FAIL, **facts)
            return optuna.trial.create_trial(state=state.PRUNED, **facts)
        scores = [record.objectives[name] for name in names]
        if record.status == PRUNED and len(names) == 1:
            return optuna.trial.create_trial(
                state=state.PRUNED,
                intermediate_values={record.epochs: scores[0]},
                **facts,
            )
        return optuna.trial.create_trial(state=state.COMPLETE, values=scores, **facts)


def import_optuna() -> Any:
    """Optuna, which is an extra.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ValueError(
            "tuner 'tpe' needs Optuna: pip install 'kzoo[tune]', or take --tuner random"
        ) from None
    return optuna


@contextmanager
def quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's word on each study and on what it calls experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _suggested(asked: Any, entry: Range) -> Any:
    if entry.kind == "choice":
        return asked.suggest_categorical(entry.name, list(entry.values))
    suggest = asked.suggest_int if entry.kind == "int" else asked.suggest_float
    return suggest(entry.name, entry.low, entry.high, log=entry.log)


def _distribution(optuna: Any, entry: Range) -> Any:
    kinds = optuna.distributions
    if entry.kind == "choice":
        return kinds.CategoricalDistribution(list(entry.values))
    if entry.kind == "int":
        return kinds.IntDistribution(int(entry.low), int(entry.high), log=entry.log)
    return kinds.FloatDistribution(entry.low, entry.high, log=entry.log)


ORACLES = {
    "random": RandomOracle,
    "grid": GridOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "tpe": TPEOracle,
}
