"""What kzoo's default sweep finds, and for how many epochs, beside KerasTuner's own.

    python benchmarks/tuning.py run 0 1 2 3 4         the sweeps of these seeds
    python benchmarks/tuning.py half 0 1 2 3 4        kzoo's, half of the epochs
    python benchmarks/tuning.py table                 what they came to, as Markdown
    python benchmarks/tuning.py names run 0 1 2 3 4   on names; all of the above can
    python benchmarks/tuning.py resample              what pruning saves on these curves
    python benchmarks/tuning.py memory                resident memory over 50 trials
    python benchmarks/tuning.py kill                  a sweep killed 20 times

The data are digits with 10 labels a class, or names with 20: as many to train as to
choose by. All sides search the same declared space; KerasTuner's proposals are trained
by kzoo's code, from the same list of seeds. Sweeps lie in runs/benchmarks/tuning and
stay: the same command goes on with them.
"""

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

import kzoo
from kzoo import weights
from kzoo.distillation import few_labels
from kzoo.training import Run
from kzoo.training.evaluate import split_scores
from kzoo.tuning import records, space
from kzoo.tuning.disk import size
from kzoo.tuning.pruning import PRUNERS, best_so_far, pruner
from kzoo.tuning.request import Request
from kzoo.tuning.tuner import SweepTuner, Trials

RUNS = Path("runs/benchmarks/tuning")
TRIALS = 30


@dataclass(frozen=True)
class Case:
    """What is searched.

    The recipes are for many times the examples: their average of the weights would
    hardly move in these few steps, nor do batches of 256 make sense.
    """

    model: str
    labels: int
    epochs: int
    space: dict[str, str]
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        few = {"epochs": self.epochs, "ema": 0.0, "snapshot_every": "3600s"}
        return few | self.fixed

    @property
    def budget(self) -> int:
        return TRIALS * self.epochs


CASES = {
    "digits": Case("cnn_tiny", 10, 20, {"batch_size": "8..64:log"}),
    "names": Case(
        "lstm",
        20,
        10,
        {
            "batch_size": "16..64:log",
            "embedding_dim": "16..64:log",
            "units": "16..64:log",
        },
        {"num_layers": 1, "warmup_steps": 20},
    ),
}
THEIRS = {
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
}
# By name, kzoo's: the default and what else was tried.
OURS = {
    "default": {},
    "random_median": {"tuner": "random", "prune": "median"},
    "tpe_median": {"tuner": "tpe", "prune": "median"},
    "tpe_halving": {"tuner": "tpe", "prune": "halving"},
    "bayesian_halving": {"tuner": "bayesian", "prune": "halving"},
    "hyperband": {"tuner": "hyperband", "prune": "none"},
}


def data(seed: int) -> kzoo.datasets.Dataset:
    return few_labels(kzoo.load_dataset(NAME, seed=seed), CASE.labels, seed)[0]


def request(seed: int, **changes: object) -> Request:
    words = {"settings": CASE.settings, "space": CASE.space, "seed": seed}
    return Request(CASE.model, data(seed), **words, **changes)


class TheirTuner(SweepTuner):
    """KerasTuner's loop and oracle, over kzoo's training."""

    def run_trial(self, trial, *args, **kwargs):
        number = int(trial.trial_id)
        values = dict(trial.hyperparameters.values)
        if not self._known(number, values):
            record = records.Record(number, "running", values, 0, CASE.epochs)
            run, _ = self.execute(record, 0, self.trials.seeds(number)[0], [])
            history = [row["val_accuracy"] for row in run.history]
            row = {"values": values, "history": history}
            weights.write_json(self.trials.folder / f"{number:04d}.trial.json", row)
        path = self.trials.folder / f"{number:04d}.trial.json"
        score = max(json.loads(path.read_text())["history"])
        self.oracle.update_trial(trial.trial_id, {"accuracy": score})

    def _known(self, number, values):
        """Whether the random search has this very trial: it is the same training.

        From the same seed, KerasTuner's Bayesian search begins with the same 24 points.
        """
        name = f"{number:04d}"
        seed = self.trials.request.seed
        there = OUT / "keras_tuner_random" / f"seed_{seed}" / "trials"
        path = there / f"{name}.trial.json"
        if self.trials.folder.resolve() == there.resolve() or not path.exists():
            return False
        if json.loads(path.read_text())["values"] != values:
            return False
        shutil.copytree(there / name, self.trials.folder / name, dirs_exist_ok=True)
        shutil.copy(path, self.trials.folder)
        return True


def theirs(name: str, seed: int) -> None:
    """KerasTuner's sweep of so many whole trials."""
    asked = request(seed)
    folder = OUT / f"keras_tuner_{name}" / f"seed_{seed}"
    if (folder / "done.json").exists():
        return
    base = asked.base()
    search = asked.search(base, folder)
    search.folder.mkdir(parents=True, exist_ok=True)
    oracle = THEIRS[name](
        objective=keras_tuner.Objective("accuracy", "max"),
        max_trials=TRIALS,
        seed=seed + 1,  # it takes 0 for no seed
        hyperparameters=space.declare(search.ranges, keras_tuner.HyperParameters()),
    )
    oracle.verbose = 0
    trials = Trials(asked, base.dataset, search.objectives, search.folder)
    TheirTuner(oracle, trials).search()
    histories = [
        json.loads(path.read_text())["history"]
        for path in sorted(search.folder.glob("*.trial.json"))
    ]
    finish(folder, histories, asked)


def ours(name: str, seed: int, budget: int) -> None:
    """kzoo's, trial after trial until it has used so many epochs."""
    asked = request(seed)
    folder = OUT / f"kzoo_{name}" / f"seed_{seed}"
    trials, used = TRIALS, 0
    if (folder / "done.json").exists():
        histories = load(f"kzoo_{name}", seed)["histories"]
        trials, used = len(histories), sum(map(len, histories))
    while used < budget:
        sweep = kzoo.tune(
            CASE.model,
            asked.dataset,
            trials=trials,
            seed=seed,
            out=folder,
            options={"keep": 1},
            space=CASE.space,
            **CASE.settings,
            **OURS[name],
        )
        used = sum(row["epochs"] for row in sweep.trials)
        trials += 5
    histories = [
        [row["val_accuracy"] for row in records.history(path)]
        for path in sorted((folder / "trials").glob("[0-9]*[0-9]"))
    ]
    finish(folder, histories, asked)


def finish(folder: Path, histories: list[list[float]], asked: Request) -> None:
    """Keeps the curve of the sweep, and the winner's test score."""
    best = max(
        (path for path in folder.glob("trials/*/model")),
        key=lambda path: (
            Run(path.parent).metrics["validation"]["accuracy"],
            -Run(path.parent).metrics["validation"]["loss"],
        ),
    ).parent
    test = split_scores(weights.load(best), asked.dataset, "test")["accuracy"]
    told = {"histories": histories, "best": best.name, "test": test}
    weights.write_json(folder / "done.json", told)


def best_after(histories: list[list[float]]) -> np.ndarray:
    """The best validation accuracy after each epoch of the whole sweep."""
    return np.maximum.accumulate(np.concatenate([np.array(h) for h in histories]))


def load(side: str, seed: int) -> dict:
    return json.loads((OUT / side / f"seed_{seed}" / "done.json").read_text())


def table(sides: list[str]) -> None:
    """One row a side: what it found with all the epochs, and when it had random's."""
    seeds = [
        seed
        for seed in range(50)
        if all((OUT / side / f"seed_{seed}" / "done.json").exists() for side in sides)
    ]
    print(f"{len(seeds)} seeds: {seeds}\n")
    random = {s: best_after(load("keras_tuner_random", s)["histories"]) for s in seeds}
    print(
        "| sweep | trials | validation, % | test of the winner, % "
        "| epochs to random's best: median | by seed |"
    )
    print("|---|---|---|---|---|---|")
    for side in sides:
        found, tests, needed, counts = [], [], [], []
        for seed in seeds:
            done = load(side, seed)
            curve = best_after(done["histories"])[: CASE.budget]
            reached = np.flatnonzero(curve >= random[seed][-1])
            needed.append(int(reached[0]) + 1 if len(reached) else None)
            found.append(100 * curve[-1])
            tests.append(100 * done["test"])
            counts.append(len(done["histories"]))
        ordered = sorted(CASE.budget + 1 if n is None else n for n in needed)
        median = ordered[len(ordered) // 2]
        print(
            f"| {side} | {np.mean(counts):.0f} | {np.mean(found):.2f} "
            f"| {np.mean(tests):.2f} ± {np.std(tests, ddof=1):.2f} "
            f"| {median if median <= CASE.budget else 'not reached'} | {needed} |"
        )
    theirs = [int(np.argmax(random[s] >= random[s][-1])) + 1 for s in seeds]
    used = CASE.budget
    print(f"\nKerasTuner's random search used {used} epochs; half is {used // 2}.")
    print("It found its best itself after", theirs)


NAMES = ("straight", "killed")
SMALL = {"units": (16,), "activation": "relu", "epochs": 2, "snapshot_every": "3"}


def memory(trials: int = 50) -> None:
    """Resident memory and disk after each trial of a sweep."""
    resident, disk = [], []
    folder = OUT / f"memory_{keras.config.backend()}"
    cap = 1e-3  # GB

    def watch(rows: list[dict]) -> None:
        if rows[-1]["status"] != "running":
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            disk.append(size(folder) / 1e6)

    kzoo.tune(
        "mlp",
        "digits",
        trials=trials,
        out=folder,
        existing="fresh",
        options={"disk_gb": cap},
        watch=watch,
        **SMALL,
    )
    after, last = resident[4], max(resident[5:])
    print(f"{keras.config.backend()}, {trials} trials")
    print(
        f"resident after the fifth {after:.0f} MB, at most {last:.0f} MB later:", end=""
    )
    print(f" {last / after - 1:+.1%}; at the end {resident[-1]:.0f} MB")
    print(f"disk at most {max(disk):.2f} MB, the cap is {1e3 * cap:.2f} MB")


def kill(kills: int = 20, trials: int = 8) -> None:
    """The table of a sweep that is killed at random moments, and of one that is not.

    Each attempt is a process of its own, forked from one that has only imported.
    """
    folder = OUT / f"kill_{keras.config.backend()}"
    shutil.rmtree(folder, ignore_errors=True)
    words = {"trials": trials, **SMALL, "epochs": 4}

    def start(name: str) -> int:
        process = os.fork()
        if process:
            return process
        try:
            kzoo.tune("mlp", "digits", out=folder / name, **words)
        finally:
            os._exit(int(sys.exc_info()[0] is not None))

    started = time.monotonic()
    assert os.waitpid(start("straight"), 0)[1] == 0
    whole = time.monotonic() - started
    rng = np.random.default_rng(0)
    done = 0
    while True:
        process = start("killed")
        if done < kills:
            # Anywhere in what an attempt does, its beginning included.
            time.sleep(rng.uniform(0.05, 0.4) * whole)
            os.kill(process, signal.SIGKILL)
            done += 1
            os.waitpid(process, 0)
        elif os.waitpid(process, 0)[1] == 0:
            break
        else:
            sys.exit("the sweep did not go on")
    tables = [(folder / name / "trials.csv").read_text() for name in NAMES]
    found = records.load_records(folder / "killed" / "trials")
    print(f"{keras.config.backend()}: {done} kills, {len(found)} trials")
    print("ends, in the order of the trials:", [record.ended for record in found])
    print("the same table" if tables[0] == tables[1] else "ANOTHER TABLE")
    if tables[0] != tables[1]:
        sys.exit(1)


def resample(draws: int = 300) -> None:
    """What pruning saves, from the curves of KerasTuner's random searches alone.

    Trials are drawn anew from all recorded curves: 30 whole ones set the mark, others
    go on, pruned, until one of them reaches it.
    """
    curves = np.array(
        [
            best_so_far(history)
            for path in sorted(OUT.glob("keras_tuner_random/seed_*/done.json"))
            for history in json.loads(path.read_text())["histories"]
        ]
    )
    print(f"{len(curves)} curves of {CASE.epochs} epochs; {draws} draws\n")
    half, whole = CASE.budget // 2, CASE.budget
    print(f"| pruning | epochs to the mark, median | within {half} | {whole} |")
    print("|---|---|---|---|")
    for name in PRUNERS:
        needed = np.array([_needed(curves, pruner(name), i) for i in range(draws)])
        within = [f"{np.mean(needed <= most):.0%}" for most in (half, whole)]
        print(f"| {name} | {np.median(needed):.0f} | {' | '.join(within)} |")


def _needed(curves: np.ndarray, prunes, seed: int) -> int:
    rng = np.random.default_rng(seed)
    mark = curves[rng.choice(len(curves), TRIALS)].max()
    seen: list[np.ndarray] = []
    used = 0
    while used < CASE.budget:
        curve = curves[rng.integers(len(curves))]
        lengths = range(1, CASE.epochs + 1)
        stops = (i for i in lengths if prunes(curve[:i], seen, CASE.epochs))
        seen.append(curve[: next(stops, CASE.epochs)])
        reached = np.flatnonzero(seen[-1] >= mark)
        if len(reached):
            return used + int(reached[0]) + 1
        used += len(seen[-1])
    return 2 * CASE.budget


if __name__ == "__main__":
    words = sys.argv[1:]
    NAME = words.pop(0) if words and words[0] in CASES else "digits"
    CASE = CASES[NAME]
    OUT = RUNS / NAME
    what, *rest = words or ["table"]
    if what in ("memory", "kill", "resample"):
        {"memory": memory, "kill": kill, "resample": resample}[what]()
    elif what in ("run", "half"):
        wanted = [word for word in rest if not word.isdigit()]
        for seed in [int(word) for word in rest if word.isdigit()]:
            for name in THEIRS:
                if not wanted or f"keras_tuner_{name}" in wanted:
                    theirs(name, seed)
            for name in OURS:
                if not wanted or f"kzoo_{name}" in wanted:
                    ours(
                        name, seed, CASE.budget // 2 if what == "half" else CASE.budget
                    )
    else:
        table(rest or sorted(path.name for path in OUT.iterdir()))
