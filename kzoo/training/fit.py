"""Training: Keras's ``fit``, on batches from a seed, into a run folder."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import __version__, weights
from kzoo import distribution as distributions
from kzoo.training import pictures, plots, snapshots
from kzoo.training.compiling import compiled
from kzoo.training.epochs import Finite, Record, Validation
from kzoo.training.evaluate import split_answers, split_scores
from kzoo.training.feeding import VaryingLengths, training_batches
from kzoo.training.plan import Plan, plan
from kzoo.training.recipe import Recipe
from kzoo.training.resume import Snapshots, heeding_signals, legs
from kzoo.training.run import (
    HISTORY,
    METRICS,
    Run,
    fingerprint,
    logged,
    prepared,
    recorded,
    standing,
)
from kzoo.training.snapshots import prepare_variables
from kzoo.training.tracking import check_tracker, tracked

log = logging.getLogger(__name__)


def train(
    model: Any,
    dataset: Any = None,
    /,
    *,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    existing: str = "resume",
    distribution: str = "none",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str | None = None,
    **settings: Any,
) -> Run:
    """Trains a model and leaves a run folder.

    The epoch is chosen on the validation split; the test split is touched once, at the
    end. The same seed gives the same bits on a CPU.

    Args:
        model: a registry name; a run or model folder, or a ``keras.Model``, to start
            from its weights. One that kzoo did not build is trained as a copy, and must
            end in logits; how it was compiled does not matter.
        dataset: a dataset's name, arrays or a ``Dataset``; None = the recipe's.
        recipe: a recipe's name or a :class:`Recipe`; None = the model's own.
        data: options of the dataset.
        out: the run folder; None = ``runs/{model}_{dataset}``.
        existing: what to do with a run that lies there: ``resume`` goes on with the
            same one, or returns it if it is finished; ``fresh`` moves it aside;
            ``extend`` goes on with one that had fewer epochs.
        distribution: one of ``kzoo.distribution.KINDS``.
        callbacks: Keras callbacks to run along.
        track: a tracker that shows the run too: ``mlflow``, ``wandb`` or ``trackio``.
        **settings: hyper-parameters and recipe fields by name.

    Returns:
        The run: ``run.metrics["test"]``, ``run.history``, ``run.load()``.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together; nothing
            was written then.
        FileNotFoundError: a folder to start from has no model.
        kzoo.training.NonFiniteLossError: the loss is no longer a number.

    Example:
        >>> import kzoo, tempfile
        >>> run = kzoo.train(
        ...     "mlp", "digits", out=tempfile.mkdtemp() + "/run", epochs=2, seed=1)
        >>> run.config["recipe"]["epochs"]
        2
    """
    check_tracker(track)
    where = distributions.resolve(distribution)
    with recorded() as of_data:
        planned = plan(
            model,
            dataset,
            recipe=recipe,
            data=data,
            settings=settings,
            any_model=True,
        )
    folder = Path(out or f"runs/{planned.name}_{planned.dataset.short_name}")
    config = config_of(planned, where)
    with (
        seeded(planned.recipe.seed),
        where.scope(planned.layout),
        tracked(track, folder, where) as trackers,
    ):
        if standing(folder, config, existing) == "finished":
            log.info("%s is finished already", folder)
            return Run(folder)
        if planned.recipe.deterministic:
            distributions.enable_determinism()
        with recorded() as of_model:
            ready = compiled(planned)
        early = of_data + of_model
        with prepared(folder, config, existing) as run, logged(folder, early):
            return fit_into(run, planned, ready, callbacks=[*callbacks, *trackers])


def config_of(planned: Plan, where: distributions.Distribution) -> dict[str, Any]:
    """A run's config.json: what decides it, and where it ran.

    Raises:
        ValueError: the recipe cannot be shared among so many.
    """
    where.check(planned.recipe.batch_size, planned.recipe.batch_norm)
    return {
        **planned.to_json(),
        "distribution": where.kind,
        "replicas": where.num_replicas,
        "backend": keras.config.backend(),
        "versions": {"kzoo": __version__, "keras": keras.version()},
        **weights.plugin_of(planned.name),
    }


def fit_into(
    run: Run,
    planned: Plan,
    trained: keras.Model,
    *,
    kept: keras.Model | None = None,
    saved: keras.Model | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    until: int | None = None,
    splits: Sequence[str] = ("test", "validation"),
    drawn: Callable[[Run], None] | None = None,
) -> Run:
    """Trains a compiled model, and leaves model, metrics and plots in the run folder.

    Args:
        run: a run folder, empty but for its config, or with snapshots to go on from.
        planned: the data and the recipe.
        trained: what ``fit`` is called on.
        kept: the model inside ``trained`` that is scored and saved; None = its
            ``student``, or ``trained`` itself where it has none.
        saved: the model inside ``kept`` that is saved, such as an encoder; None = its
            ``autoencoder``, or ``kept`` itself where it has none.
        callbacks: Keras callbacks to run along.
        until: an epoch to pause after: what it leaves is finished, and another call
            goes on from there, as if there had been no pause. None = the recipe's last.
        splits: to score at the end. Without ``test`` no plots are drawn, and the test
            examples stay untouched.
        drawn: draws more plots, once the best weights are back.
    """
    kept = kept or getattr(trained, "student", trained)
    saved = saved or getattr(kept, "autoencoder", kept)
    where = distributions.current()
    recipe, dataset, task = planned.recipe, planned.dataset, planned.task
    epochs = min(until or recipe.epochs, recipe.epochs)
    where.adapt(trained, recipe.batch_norm)
    started = time.perf_counter()
    steps = dataset.steps_per_epoch(recipe.batch_size)
    monitor = planned.monitor
    validation = Validation(monitor, recipe.early_stopping, kept, dataset)
    record = Record(run.folder, steps) if where.is_chief else None
    remembered = {"validation": validation}
    for i, callback in enumerate(callbacks):
        if getattr(callback, "remembered", True):
            remembered[f"{i}-{type(callback).__name__}"] = callback
    taken = Snapshots(
        run.folder / "snapshots",
        recipe.snapshot_every,
        fingerprint(run.config),
        remembered,
        steps_per_epoch=steps,
        epochs=epochs,
        history=run.folder / HISTORY,
    )
    state = taken.newest()
    if record is not None:
        record.rewind(state.facts["history"] if state else "")
    if state is not None:
        with training_batches(dataset, recipe) as batches:
            prepare_variables(trained, batches[0])
        snapshots.restore(state, trained, remembered)
    step = state.step if state else 0
    for note in planned.notes:
        log.info(note)
    log.info(
        "%s on %s, %s steps an epoch%s",
        planned.name,
        dataset.name,
        steps,
        f", from step {step}" if step else "",
    )
    told = [record] if record is not None else []
    with heeding_signals(taken):
        for leg in legs(step, steps, epochs):
            if state is not None and state.facts["stopped"]:
                break
            taken.begin(leg, state)
            # A list of our own, so that callbacks are told more than Keras tells them.
            along = keras.callbacks.CallbackList(
                [Finite(taken), validation, *told, *callbacks, taken],
                add_history=True,
                model=trained,
                epochs=epochs,
                steps=steps,
                batch_size=recipe.batch_size,
                first_step=leg.first_step,
            )
            with training_batches(dataset, recipe, leg.first_step) as batches:
                trained.fit(
                    where.fed(
                        VaryingLengths(batches) if dataset.varying_lengths else batches
                    ),
                    steps_per_epoch=leg.steps,
                    initial_epoch=leg.epoch,
                    epochs=leg.end,
                    callbacks=along,
                    shuffle=False,
                    verbose=0,
                )
            state = taken.pending
    log.info("%s", validation.verdict)
    validation.restore_best()
    spec = dataset.spec
    facts: dict[str, Any] = {"task": task.name, "inputs": spec.inputs}
    facts["classes"] = list(spec.classes)
    if where.is_chief:
        preprocessing = dataset.preprocessing
        if planned.is_plain:
            facts["model"] = planned.model_to_json()
            weights.save_plain(saved, run.folder / "model", facts, preprocessing)
        else:
            weights.save(
                saved, run.folder / "model", preprocessing=preprocessing, facts=facts
            )
    metrics: dict[str, Any] = {
        split: split_scores(kept, dataset, split) for split in splits
    }
    metrics |= {"best_epoch": validation.best_epoch, "monitor": monitor.metric}
    if "test" in splits:
        draw(run, kept, planned)
    if drawn is not None:
        drawn(run)
    if where.is_chief:
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        weights.write_json(run.folder / METRICS, metrics)
    where.from_chief(str)  # the others return once all is written
    shown = metrics[splits[0]]
    log.info("%s: %s", splits[0], {k: v for k, v in shown.items() if k != "classes"})
    return run


def draw(run: Run, model: keras.Model, planned: Plan) -> None:
    """The run's plots/."""
    task, dataset = planned.task, planned.dataset
    # Every process takes part in the answers; one draws them.
    drawn = bool({"confusion", "predicted"} & set(task.plots))
    found = split_answers(model, dataset, "test") if drawn else None
    if not distributions.current().is_chief:
        return
    folder = run.folder / "plots"
    folder.mkdir(exist_ok=True)
    plots.curves(folder / "curves.png", run.history, planned.monitor.metric)
    if "reconstructions" in task.plots:
        pictures.draw(folder, model.autoencoder, dataset)
    if found is None:
        return
    if "confusion" in task.plots:
        path = folder / "confusion.png"
        plots.confusion(path, found.labels, found.predicted, found.classes)
    if "predicted" in task.plots:
        plots.predicted(folder / "predicted.png", found.labels, found.predicted)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Keras's, Python's and numpy's seeds set; the caller's own streams come back."""
    python, numpy = random.getstate(), np.random.get_state()
    distributions.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
