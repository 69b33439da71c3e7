"""A study: the student alone and by each method, under one budget, over seeds.

Every setting is chosen on validation scores; the test split speaks last, once a seed.
"""

import csv
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import distribution as distributions
from kzoo import weights
from kzoo.distillation.distill import distill
from kzoo.distillation.options import same_data
from kzoo.models.distiller_options import METHODS, DistillerHParams
from kzoo.training.fit import train
from kzoo.training.monitor import Monitor
from kzoo.training.recipe import Recipe
from kzoo.training.run import Run

log = logging.getLogger(__name__)

ALONE = "alone"
TABLE, ROWS = "study.csv", "runs.csv"

# What is tried of a method beside its defaults: factors of its weights, and
# temperatures where it has one. The student alone tries label smoothing, the soft
# targets that need no teacher.
FACTORS = (1.0, 0.3, 3.0, 0.1, 10.0)
TEMPERATURES = (4.0, 2.0, 8.0, 1.0, 16.0)
SMOOTHINGS = (0.0, 0.1, 0.05, 0.2, 0.02)


@dataclass(frozen=True)
class Entry:
    """A contestant.

    Attributes:
        name: ``alone``, or the method.
        options: of the method, as chosen.
        settings: of the recipe, as chosen.
    """

    name: str
    options: Mapping[str, Any]
    settings: Mapping[str, Any]


def study(
    teacher: Any,
    student: str,
    dataset: Any = None,
    methods: Sequence[str] = ("kd",),
    out: str | os.PathLike[str] = "runs/study",
    *,
    seeds: int = 5,
    tries: int = 1,
    options: Mapping[str, Any] | None = None,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    distribution: str = "none",
    **settings: Any,
) -> list[dict[str, Any]]:
    """Trains the student alone and by each method, and tells whether it matters.

    Each contestant, plain ``kd`` and the student alone among them, gets the same number
    of tries, seeds and epochs. The best try is the one with the best validation score
    at seed 0.

    Args:
        teacher: as in ``distill``. A registry name is trained anew for each seed, on
            the seed's split; a run folder teaches all of them, on its own split.
        student: a registry name.
        dataset: as in ``distill``.
        methods: to compare; ``kd`` joins them if it is not there.
        out: a folder with ``{method}/seed_{i}``, a run each; ``runs.csv``, a row a run;
            and ``study.csv``, a row a contestant. The same call goes on with them.
        seeds: 0 to seeds - 1.
        tries: settings tried of each contestant.
        options: of all methods.
        recipe: as in ``kzoo.train``.
        data: options of the dataset.
        distribution: one of ``kzoo.distribution.KINDS``, for each run.
        **settings: of the student and the recipe, for all.

    Returns:
        A row a contestant: ``method, weights, teacher_saw, validation, test,
        test_std, against_alone, p_alone, against_kd, p_kd``. The differences are of
        the test score, paired by seed, and p is that of the paired t-test.
    """
    if seeds < 2:
        raise ValueError(f"seeds={seeds}: a spread needs two at least")
    names = [ALONE, *dict.fromkeys(("kd", *methods))]
    for name in names[1:]:
        DistillerHParams(method=name)  # unknown ones are told before anything runs
    folder, where = Path(out), distributions.resolve(distribution)
    shared = {"recipe": recipe, "data": dict(data or {}), "distribution": distribution}
    rows = []
    trainer = _Trainer(teacher, student, dataset, folder, dict(options or {}), shared)
    for name in names:
        chosen = trainer.best(name, candidates(name, tries), settings)
        for seed in range(seeds):
            run = trainer.run(chosen, folder / name / f"seed_{seed}", seed, settings)
            rows.append(_row(name, seed, chosen, run))
    table = summary(rows)
    if where.is_chief:
        _write(folder / ROWS, rows)
        _write(folder / TABLE, table)
    return table


def candidates(name: str, tries: int) -> list[Entry]:
    """So many settings of a contestant, its defaults first."""
    if name == ALONE:
        values = SMOOTHINGS[:tries]
        found = [Entry(name, {}, {"label_smoothing": value}) for value in values]
    else:
        parts = [METHODS[part] for part in name.split("+")]
        own = tuple(part.weight for part in parts)
        found = []
        for factor, heat in zip(FACTORS, TEMPERATURES, strict=True):
            options: dict[str, Any] = {"weights": tuple(factor * w for w in own)}
            if len(parts) == 1 and parts[0].temperature:
                # Its temperature means more than its weight.
                scale = parts[0].temperature / TEMPERATURES[0]
                options = {"temperature": heat * scale}
            found.append(Entry(name, options, {}))
        found = found[:tries]
    if len(found) < tries:
        raise ValueError(f"tries={tries}: there are {len(found)} settings at most")
    return found


class _Trainer:
    """Runs of one study."""

    def __init__(
        self,
        teacher: Any,
        student: str,
        dataset: Any,
        folder: Path,
        options: dict[str, Any],
        shared: dict[str, Any],
    ) -> None:
        self.teacher = teacher
        self.student = student
        self.folder = folder
        self.options = options
        data = shared.pop("data")
        self.dataset, data = same_data([teacher], dataset, data)
        self.shared = {**shared, "data": data}

    def best(self, name: str, tried: list[Entry], settings: Mapping[str, Any]) -> Entry:
        """The candidate with the best validation score at seed 0."""
        if len(tried) == 1:
            return tried[0]
        found = []
        for i, entry in enumerate(tried):
            place = self.folder / name / "tries" / f"try_{i}"
            found.append(self.run(entry, place, 0, settings))
        values = [_value(run) for run in found]
        best = values.index(max(values))
        log.info("%s: try %s of %s is the best", name, best, len(tried))
        return tried[best]

    def run(
        self, entry: Entry, place: Path, seed: int, settings: Mapping[str, Any]
    ) -> Run:
        """The run of this entry; a finished one stays, another goes on."""
        changes = {**settings, **entry.settings, "seed": seed}
        if entry.name == ALONE:
            log.info("%s, seed %s", entry.name, seed)
            return train(
                self.student, self.dataset, out=place, **self.shared, **changes
            )
        return distill(
            # A peer begins untrained.
            self.teacher if entry.name == "mutual" else self._teacher(seed),
            self.student,
            self.dataset,
            entry.name,
            place,
            options={**self.options, **entry.options, "report": False},
            **self.shared,
            **changes,
        )

    def _teacher(self, seed: int) -> Any:
        """The teacher of a seed: a registry name gets a run of its own."""
        from kzoo import index

        if str(self.teacher) not in index.entries():
            return self.teacher
        place = self.folder / "teacher" / f"seed_{seed}"
        log.info("the teacher %s, seed %s", self.teacher, seed)
        same = {name: self.shared[name] for name in ("data", "distribution")}
        return train(self.teacher, self.dataset, out=place, seed=seed, **same)


def _value(run: Run) -> tuple[float, ...]:
    """What the best try has the greatest of: the monitor, where it is defined."""
    return Monitor(run.monitor, "").value(run.metrics["validation"])[:2]


def _row(name: str, seed: int, entry: Entry, run: Run) -> dict[str, Any]:
    teachers = run.config.get("distillation", {}).get("teachers", [])
    saw = [one["saw"] and one["saw"]["name"] for one in teachers]
    return {
        "method": name,
        "seed": seed,
        "metric": run.monitor,
        "validation": run.score("validation"),
        "test": run.score("test"),
        "best_epoch": run.metrics["best_epoch"],
        "settings": " ".join(
            f"{k}={v}" for k, v in {**entry.options, **entry.settings}.items()
        ),
        "teacher_saw": " ".join(str(one) for one in saw) or "nothing",
        "folder": str(run.folder),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a contestant, from rows of ``method, seed, validation, test``."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    tests = {
        name: np.array([row["test"] for row in rows if row["method"] == name])
        for name in names
    }
    found = []
    for name in names:
        mine = [row for row in rows if row["method"] == name]
        line: dict[str, Any] = {
            "method": name,
            "seeds": len(mine),
            "validation": float(np.mean([row["validation"] for row in mine])),
            "test": float(tests[name].mean()),
            "test_std": float(tests[name].std(ddof=1)),
        }
        for key in ("settings", "teacher_saw"):
            if key in mine[0]:
                line[key] = mine[0][key]
        for other in (ALONE, "kd"):
            if other in tests:
                gain, p = paired(tests[name], tests[other])
                line |= {f"against_{other}": gain, f"p_{other}": p}
        found.append(line)
    return found


def paired(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Mean difference of pairs, and p of the two-sided paired t-test.

    p is 1 where all pairs are equal, and 0 where all differ by the same.

    Example:
        >>> gain, p = paired(np.array([3.0, 4.0, 6.0]), np.array([1.0, 3.0, 3.0]))
        >>> round(gain, 3), round(p, 4)
        (2.0, 0.0742)
    """
    from scipy import stats

    difference = np.asarray(first, "float64") - np.asarray(second, "float64")
    gain = float(difference.mean())
    if np.ptp(difference) == 0:
        return gain, float(gain == 0)
    return gain, float(stats.ttest_1samp(difference, 0.0).pvalue)


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    weights.write_json(path.with_suffix(".json"), list(rows))
