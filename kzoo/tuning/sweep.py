"""A sweep on disk.

sweep.json     everything that decides the sweep
trials.csv     a row a trial
best.json      the best trial's config, for ``kzoo train --config``
trials/        a record and a run folder a trial
retrain/       the best trial again, over seeds
plots/  tensorboard/  log.txt
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo import weights
from kzoo.training.run import Run, decisive, visible
from kzoo.tuning import records
from kzoo.tuning.report import BEST
from kzoo.weights.fit import difference

SWEEP = "sweep.json"

# What a sweep may change without being another one.
_FREE = (
    "trials",
    "options.keep",
    "options.disk_gb",
    "options.failures",
    "options.wait_seconds",
)


@dataclass(frozen=True)
class Sweep:
    """A sweep on disk.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """What decided the sweep."""
        return dict(weights.read_json(self.folder / SWEEP))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """The rows of ``trials.csv``, with numbers as numbers."""
        config = self.config
        found = records.load_records(self.folder / "trials")
        return records.table(found, list(config["space"]), list(config["objectives"]))

    @property
    def best(self) -> dict[str, Any]:
        """``best.json``: the best trial's config, and which trial it is."""
        return dict(weights.read_json(self.folder / BEST))

    @property
    def best_run(self) -> Run:
        """The best trial's run folder."""
        return Run(self.folder / "trials" / records.trial_id(self.best["trial"]))


def open_sweep(sweep: Sweep | str | os.PathLike[str]) -> Sweep:
    """The sweep in this folder.

    Raises:
        FileNotFoundError: there is none.
    """
    opened = sweep if isinstance(sweep, Sweep) else Sweep(Path(sweep))
    if not (opened.folder / SWEEP).exists():
        raise FileNotFoundError(f"{opened.folder} holds no sweep")
    return opened


def check_standing(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` with a diff if the folder holds something else."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    if not folder.exists():
        return
    if not (folder / SWEEP).exists():
        if visible(folder):
            raise ValueError(
                f"{folder} is not empty and holds no sweep; choose another"
            )
        return
    then, now = (
        {k: v for k, v in decisive(one).items() if not k.startswith(_free(one))}
        for one in (Sweep(folder).config, config)
    )
    if then != now:
        told = difference(then, now, ("the folder", "the request"))
        raise ValueError(
            f"{folder} holds another sweep: {told}; choose another folder, or --fresh "
            "(existing='fresh') to move it aside"
        )


def _free(config: Mapping[str, Any]) -> tuple[str, ...]:
    """A grid's points depend on the number of trials."""
    return _FREE[1:] if config["tuner"] == "grid" else _FREE
