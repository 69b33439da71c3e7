"""After a sweep: the best trial over seeds and on the test split, a trial once more."""

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution as distributions
from kzoo import weights
from kzoo.datasets import Dataset
from kzoo.training.compiling import compiled
from kzoo.training.fit import config_of, fit_into, seeded
from kzoo.training.plan import Plan, plan
from kzoo.training.run import Run, logged, prepared
from kzoo.tuning import records
from kzoo.tuning.sweep import Sweep, open_sweep

log = logging.getLogger(__name__)

RETRAINED = "retrain.json"


def retrain(
    sweep: Sweep | str | os.PathLike[str], seeds: int = 5, dataset: Any = None
) -> dict[str, Any]:
    """Trains the best trial on all epochs, over seeds, and scores the test split.

    It is the one place where a sweep looks at the test split. Each seed is an ordinary
    run in ``retrain/``; the data keep the sweep's split.

    Args:
        sweep: a sweep, or its folder.
        seeds: 0 to seeds - 1.
        dataset: the sweep's, if it was in memory.

    Returns:
        ``trial``, ``metric``, ``test`` and ``validation`` (a list by seed each),
        ``mean`` and ``std`` of the test scores; the same in ``retrain.json``.

    Raises:
        ValueError: the data are not those of the sweep.
    """
    opened = open_sweep(sweep)
    best = opened.best
    found: dict[str, Any] = {"trial": best["trial"], "metric": opened.best_run.monitor}
    found |= {"validation": [], "test": []}
    for seed in range(seeds):
        planned = planned_by(best, dataset, seed)
        folder = opened.folder / "retrain" / f"trial_{best['trial']}_seed_{seed}"
        run = Run(folder)
        if not run.finished:
            run = again(planned, folder, best["distribution"])
        for split in ("validation", "test"):
            found[split].append(run.score(split, found["metric"]))
    found["mean"] = float(np.mean(found["test"]))
    found["std"] = float(np.std(found["test"], ddof=1)) if seeds > 1 else None
    weights.write_json(opened.folder / RETRAINED, found)
    return found


def replay(
    sweep: Sweep | str | os.PathLike[str], trial: int, dataset: Any = None
) -> tuple[dict[str, float], dict[str, float]]:
    """Trains a trial once more from nothing, for as many epochs as it had.

    On a CPU, on the same versions, the scores are the same to the last bit.

    Args:
        sweep: a sweep, or its folder.
        trial: its number.
        dataset: the sweep's, if it was in memory.

    Returns:
        The validation scores then and now.

    Raises:
        ValueError: no such trial, or it left no scores; or the data are others.
    """
    opened = open_sweep(sweep)
    id = records.trial_id(trial)
    run = Run(opened.folder / "trials" / id)
    if not run.finished:
        known = [row["trial"] for row in opened.trials if row["score"] != ""]
        raise ValueError(
            f"{opened.folder} has no trial {trial} with a score; there are "
            f"{', '.join(map(str, known)) or 'none'}"
        )
    config = run.config
    if config["backend"] != keras.config.backend():
        raise ValueError(
            f"trial {trial} ran on {config['backend']}, and this is "
            f"{keras.config.backend()}: seeds draw other weights there"
        )
    planned = planned_by(config, dataset, config["recipe"]["seed"])
    folder = opened.folder / "replay" / id
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier replay
    now = again(planned, folder, config["distribution"], len(run.history))
    return run.metrics["validation"], now.metrics["validation"]


def planned_by(config: Mapping[str, Any], dataset: Any, seed: int) -> Plan:
    """The run of a config, from another seed.

    Raises:
        ValueError: the data are not the same; or they are in nobody's memory.
    """
    known = config["dataset"]
    if dataset is None and known["name"] == "arrays":
        raise ValueError("the sweep was on arrays, which it does not hold: pass them")
    source = known["name"] if dataset is None else dataset
    start = (config.get("start") or {}).get("from")
    planned = plan(
        start or config["model"]["name"],
        source,
        data=None if isinstance(source, Dataset) else known["options"],
        settings={**config["model"]["hparams"], **config["recipe"], "seed": seed},
    )
    if planned.dataset.spec.fingerprint != known["fingerprint"]:
        raise ValueError(
            f"{known['name']} is not what the sweep was on: fingerprint "
            f"{known['fingerprint'][:12]} then, "
            f"{planned.dataset.spec.fingerprint[:12]} now"
        )
    return planned


def again(
    planned: Plan, folder: Path, distribution: str, until: int | None = None
) -> Run:
    """One run; with ``until``, a replay, which leaves the test split alone."""
    where = distributions.resolve(distribution)
    splits = ("test", "validation") if until is None else ("validation",)
    with seeded(planned.recipe.seed), where.scope(planned.layout):
        model = compiled(planned)
        config = config_of(planned, where)
        with prepared(folder, config, "resume") as run, logged(folder):
            return fit_into(run, planned, model, until=until, splits=splits)
