"""Who proposes the next trial: random, grid, Bayesian, Hyperband, TPE."""

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
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


class BayesianOracle(RandomOracle):
    """A Gaussian process over what the trials came to, and its expected improvement.

    Snoek et al., "Practical Bayesian optimization", 2012 (1206.2944), over KerasTuner's
    unit cube, on scikit-learn's process: a length for each hyper-parameter, and noise.
    It models the places that trials have among each other, not their scores, which one
    that was stopped has no last one of.
    """

    def __init__(self, search: Search) -> None:
        super().__init__(search)
        self.startup = min(STARTUP, max(3, search.trials // 3))

    def propose(self, number: int) -> dict[str, Any] | None:
        records = list(self.records.values())
        ended = [record for record in records if record.status != RUNNING]
        if number == 0 or len(ended) < self.startup:
            return super().propose(number)
        running = [record for record in records if record.status == RUNNING]
        candidates = self._candidates(number, ended)
        if not candidates:
            return self.drawn(number)
        # Its matrices are small: threads would only wait for each other.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is near
            gains = self._expected_improvement(candidates, ended, running)
        return candidates[int(np.argmax(gains))]

    def _candidates(self, number: int, ended: list[Record]) -> list[dict[str, Any]]:
        """New points: anywhere, and near the best trials."""
        rng = np.random.default_rng(seed_of(self.seed, number, "bayesian"))
        size = len(self.hyperparameters.space)
        cubes = [rng.random((ANYWHERE, size))]
        order = np.argsort(-places(self._curves(ended)), kind="stable")
        for i in order[:BEST]:
            moved = rng.random((NEAR, size)) < 0.5
            steps = rng.normal(scale=NEIGHBOURHOOD, size=(NEAR, size)) * moved
            cubes.append((self._shares(ended[i].values) + steps).clip(0, 1 - 1e-9))
        found = [self._values(cube) for cube in np.concatenate(cubes)]
        return [values for values in found if not self._known(values)]

    def _known(self, values: dict[str, Any]) -> bool:
        return self._compute_values_hash(values) in self._tried_so_far

    def _expected_improvement(
        self,
        candidates: list[dict[str, Any]],
        ended: list[Record],
        running: list[Record],
    ) -> np.ndarray:
        """What each candidate may add to the best, on average; (candidates,)."""
        x = np.stack([self._vector(record.values) for record in ended])
        y = norm.ppf(places(self._curves(ended)))
        process = GaussianProcessRegressor(
            ConstantKernel(1.0, (0.1, 10.0))
            * Matern(np.full(x.shape[1], 0.5), (0.05, 10.0), nu=2.5)
            + WhiteKernel(0.1, (1e-3, 1.0)),
            n_restarts_optimizer=2,
            random_state=0,
        ).fit(x, y)
        if running:  # as if they had come to what is expected of them
            more = np.stack([self._vector(record.values) for record in running])
            process.set_params(kernel=process.kernel_, optimizer=None)
            y = np.append(y, process.predict(more))
            x = np.vstack([x, more])
            process.fit(x, y)
        best = process.predict(x).max()  # without the luck of a single trial
        points = np.stack([self._vector(values) for values in candidates])
        mean, deviation = process.predict(points, return_std=True)
        # Of the trial's expected place, not of one trial's luck.
        noise = process.kernel_.k2.noise_level
        deviation = np.sqrt(np.maximum(deviation**2 - noise, 1e-12))
        z = (mean - best) / deviation
        return deviation * (z * norm.cdf(z) + norm.pdf(z))

    def _curves(self, ended: list[Record]) -> list[list[float]]:
        """The best gain after each epoch; none of a trial that failed."""
        name, gain = self.scored_by.name, self.scored_by.gain
        return [
            []
            if record.status == FAILED
            else self.curves.get(record.id) or [gain(record.objectives[name])]
            for record in ended
        ]

    def _shares(self, values: dict[str, Any]) -> np.ndarray:
        """Where the values lie in the unit cube; the default's where one is closed."""
        return np.array(
            [
                entry.value_to_prob(values.get(entry.name, entry.default))
                for entry in self.hyperparameters.space
            ]
        )

    def _vector(self, values: dict[str, Any]) -> np.ndarray:
        """The shares, with a choice as one number for each of its values."""
        parts: list[float] = []
        for entry, share in zip(self.search.ranges, self._shares(values), strict=True):
            if entry.kind == "choice":
                value = values.get(entry.name, entry.default)
                parts += [float(value == one) for one in entry.values]
            else:
                parts.append(share)
        return np.array(parts)

    def _values(self, cube: np.ndarray) -> dict[str, Any]:
        """The values at a point of the unit cube, of what is open there."""
        values: dict[str, Any] = {}
        for entry, theirs, share in zip(
            self.search.ranges, self.hyperparameters.space, cube, strict=True
        ):
            if space.is_open(entry, values):
                values[entry.name] = _plain(theirs.prob_to_value(share))
        return values


STARTUP = 8  # random trials before the first that is not
ANYWHERE, BEST, NEAR, NEIGHBOURHOOD = 1000, 5, 100, 0.15


def places(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """The share of all that each trial is ahead of, in (0, 1); ties count half.

    Two are compared after the last epoch that both have come to.

    Args:
        curves: of each trial, greater is better; an empty one is behind all others.

    Example:
        >>> places([[0.2, 0.5, 0.6], [0.3, 0.4], []]).round(2).tolist()
        [0.83, 0.5, 0.17]
    """
    won = np.full((len(curves), len(curves)), 0.5)
    for i, one in enumerate(curves):
        for j, other in enumerate(curves[:i]):
            last = min(len(one), len(other))
            a, b = (curve[last - 1] if last else len(curve) for curve in (one, other))
            won[i, j] = 0.5 + 0.5 * np.sign(a - b)
            won[j, i] = 1 - won[i, j]
    return won.mean(axis=1)


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
