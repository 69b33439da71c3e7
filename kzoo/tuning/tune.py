"""``tune``: a sweep over a model's hyper-parameters and its recipe's."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kzoo import distribution as distributions
from kzoo import hparams, weights
from kzoo.training.recipe import Recipe
from kzoo.training.run import locked, logged, move_aside, visible
from kzoo.tuning.options import TuneOptions
from kzoo.tuning.oracles import ORACLES
from kzoo.tuning.report import Reporter
from kzoo.tuning.request import Request
from kzoo.tuning.sweep import SWEEP, Sweep, check_standing
from kzoo.tuning.tuner import SweepTuner, Trials
from kzoo.tuning.workers import be_chief, be_worker, role, run_workers

log = logging.getLogger(__name__)


class SweepError(RuntimeError):
    """Too many trials failed; the sweep was given up."""


def tune(
    model: Any,
    dataset: Any = None,
    /,
    *,
    trials: int = 30,
    tuner: str = "bayesian",
    prune: str | None = None,
    objective: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    workers: int = 1,
    space: Mapping[str, str | Sequence[Any]] | None = None,
    out: str | os.PathLike[str] | None = None,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    existing: str = "resume",
    distribution: str = "none",
    watch: Callable[[list[dict[str, Any]]], None] | None = None,
    **settings: Any,
) -> Sweep:
    """Searches the hyper-parameters of a model and its recipe, and leaves a sweep.

    Use it when a model's own recipe is not good enough, or there is none for the data.
    A trial is scored on the validation split; the test split stays untouched until
    :func:`retrain`. The first trial is the recipe as it is, so that a sweep does not
    end below it. The same seed gives the same trials on a CPU, and the same call goes
    on with a sweep that was killed.

    Args:
        model: as in ``kzoo.train``.
        dataset: as in ``kzoo.train``.
        trials: how many, at most; more of them extend a sweep that is there.
        tuner: ``bayesian``, ``random``, ``grid``, ``hyperband`` or ``tpe`` (Optuna's).
        prune: ``none``; ``median``, which stops what is below the median of the trials
            before; or ``halving``, which lets a third go on, several times. None =
            halving for ``bayesian`` and ``random``, none for the others.
        objective: a metric of the task, ``weights``, ``macs`` or ``latency``; several
            joined by commas, of which the first one scores. None = the task's first.
        epochs: of a trial; None = the recipe's.
        seed: of the split, the proposals, and by hash of each trial.
        workers: processes on this machine, with one device each.
        space: narrower or other ranges by name, as texts (``"1e-4..1e-2:log"``,
            ``"adamw,sgd"``) or lists of values.
        out: the sweep's folder; None = ``runs/{model}_{dataset}_sweep``.
        recipe: as in ``kzoo.train``.
        data: options of the dataset.
        options: see :class:`TuneOptions`.
        existing: ``resume`` or ``fresh``, as in ``kzoo.train``.
        distribution: one of ``kzoo.distribution.KINDS``; under one of several processes
            all of them train each trial together.
        watch: called with the table's rows after each change.
        **settings: hyper-parameters and recipe fields that do not move.

    Returns:
        The sweep: ``sweep.trials``, ``sweep.best``, ``sweep.best_run``.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together; nothing
            was written then.
        SweepError: too many trials failed.

    Example:
        >>> import kzoo, tempfile
        >>> sweep = kzoo.tune(
        ...     "mlp", "digits", out=tempfile.mkdtemp() + "/sweep", trials=2, epochs=1,
        ...     batch_size=256, units=(8,))
        >>> [row["status"] for row in sweep.trials]
        ['completed', 'completed']
    """
    if epochs is not None:
        settings = {**settings, "epochs": epochs}
    where = distributions.resolve(distribution)
    if where.shard[1] > 1 and (workers > 1 or role() != "alone"):
        raise ValueError(
            f"distribution {distribution!r} trains each trial in all "
            f"{where.shard[1]} processes; workers share the trials instead"
        )
    request = Request(
        model=model,
        dataset=dataset,
        recipe=recipe,
        data=dict(data or {}),
        settings=settings,
        trials=trials,
        tuner=tuner,
        prune=prune,
        objective=objective,
        seed=seed,
        space=dict(space or {}),
        options=hparams.replace(TuneOptions(), "tune", options or {}),
        distribution=where.kind,
    )
    if workers > 1:
        request.to_json()  # a process of its own can make the same
    if workers < 1:
        raise ValueError(f"workers={workers}: one at least")
    if existing not in ("resume", "fresh"):
        raise ValueError(f"existing={existing!r} is not one of resume, fresh")
    part = role()
    base = request.base()
    folder = Path(out or f"runs/{base.name}_{base.dataset.short_name}_sweep")
    search = request.search(base, folder)
    oracle = ORACLES[tuner](search)
    trained = Trials(
        request, base.dataset, search.objectives, search.folder, search.ranges
    )
    if part == "worker":
        be_worker(oracle, trained, request.options.wait_seconds)
        return Sweep(folder)
    config = request.config(base, search)
    with ExitStack() as stack:

        def begin() -> str:
            stack.enter_context(begun(folder, config, existing))
            return ""

        where.from_chief(begin)
        if not where.is_chief:
            SweepTuner(oracle, trained).search()
        else:
            oracle.reload()
            reporter = Reporter(folder, oracle, request.options, watch)
            oracle.watch = reporter.update
            if part == "chief":
                be_chief(oracle)
            elif workers > 1:
                run_workers(oracle, request, folder, workers)
            else:
                SweepTuner(oracle, trained).search()
            oracle.finish()
            reporter.draw()
        gave_up = where.from_chief(lambda: oracle.gave_up or "")
    if gave_up:
        raise SweepError(gave_up)
    return Sweep(folder)


@contextmanager
def begun(folder: Path, config: Mapping[str, Any], existing: str) -> Iterator[None]:
    """The sweep's folder with its config, this process its only writer.

    Raises:
        ValueError: the folder holds something else, or another process writes there.
    """
    if existing == "fresh" and folder.exists() and visible(folder):
        with locked(folder):
            move_aside(folder)
    check_standing(folder, config)
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    with locked(folder), logged(folder):
        weights.write_json(folder / SWEEP, dict(config))
        yield
