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
from keras.src.trainers.data_adapters.data_adapter_utils import (
    convert_to_tf_tensor_spec,
)
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from kzoo import __version__, weights
from kzoo import distribution as distributions
from kzoo.datasets import Dataset
from kzoo.datasets.loading import Prefetched
from kzoo.losses.task import TaskLoss, cross_entropy, own_losses, squared_error
from kzoo.registry import build_model
from kzoo.tasks import Task
from kzoo.training import pictures, plots, snapshots
from kzoo.training.epochs import Finite, Record, Validation
from kzoo.training.evaluate import split_answers, split_scores
from kzoo.training.finetune import depths
from kzoo.training.plan import Plan, plan
from kzoo.training.recipe import Recipe
from kzoo.training.resume import Snapshots, every, heeding_signals, legs
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
from kzoo.training.schedules import optimizer
from kzoo.training.snapshots import prepare_variables

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
    **settings: Any,
) -> Run:
    """Trains a model and leaves a run folder.

    The epoch is chosen on the validation split; the test split is touched once, at the
    end. The same seed gives the same bits on a CPU.

    Args:
        model: a registry name; a run or model folder, or a model of kzoo's, to start
            from its weights.
        dataset: a dataset's name, arrays or a ``Dataset``; None = the recipe's.
        recipe: a recipe's name or a :class:`Recipe`; None = the model's own.
        data: options of the dataset.
        out: the run folder; None = ``runs/{model}_{dataset}``.
        existing: what to do with a run that lies there: ``resume`` goes on with the
            same one, or returns it if it is finished; ``fresh`` moves it aside;
            ``extend`` goes on with one that had fewer epochs.
        distribution: one of ``kzoo.distribution.KINDS``.
        callbacks: Keras callbacks to run along.
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
    where = distributions.resolve(distribution)
    planned = plan(model, dataset, recipe=recipe, data=data, settings=settings)
    folder = Path(out or f"runs/{planned.name}_{planned.dataset.short_name}")
    config = config_of(planned, where)
    every(planned.recipe.snapshot_every)
    with seeded(planned.recipe.seed), where.scope(planned.layout):
        if standing(folder, config, existing) == "finished":
            log.info("%s is finished already", folder)
            return Run(folder)
        if planned.recipe.deterministic:
            distributions.enable_determinism()
        with recorded() as early:
            ready = compiled(planned)
        with prepared(folder, config, existing) as run, logged(folder, early):
            return fit_into(run, planned, ready, callbacks=callbacks)


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
    }


def compiled(planned: Plan) -> keras.Model:
    """The model, or a trainer around it, with optimizer, loss and running metrics."""
    with dtype_policy(planned.recipe.precision):
        model = planned.build()
        trained = model
        if planned.task.name == "reconstruction":
            trained = build_model("autoencoding", autoencoder=model)
        elif planned.recipe.unlabelled != "none":
            trained = build_model(
                "self_training",
                student=model,
                confidence=planned.recipe.confidence,
                unlabelled_weight=planned.recipe.unlabelled_weight,
            )
    return compile_by(planned, trained, model)


def compile_by(planned: Plan, trained: keras.Model, model: keras.Model) -> keras.Model:
    """Compiles by the plan: its optimizer, the task's loss and running metrics.

    Args:
        planned: the data and the recipe.
        trained: what ``fit`` is called on.
        model: of kzoo's; ``trained`` itself, or the one inside it that learns.
    """
    recipe = planned.recipe
    steps = planned.dataset.steps_per_epoch(recipe.batch_size)
    staged = recipe.layer_decay < 1 or recipe.unfreeze_epochs
    trained.compile(
        optimizer=optimizer(recipe, steps, depths(model) if staged else None),
        loss=task_loss(planned.task, recipe),
        **running_metrics(planned.task),
        jit_compile="auto" if recipe.jit is None else recipe.jit,
        steps_per_execution=recipe.steps_per_execution,
    )
    return trained


def task_loss(task: Task, recipe: Recipe) -> TaskLoss:
    """The training loss of a task."""
    if task.loss == "outputs":
        return TaskLoss(own_losses)
    if task.loss == "squared_error":
        return TaskLoss(squared_error)
    return TaskLoss(cross_entropy, label_smoothing=recipe.label_smoothing)


def running_metrics(task: Task) -> dict[str, list[keras.metrics.Metric]]:
    """What is shown while an epoch runs, beside the loss: arguments of ``compile``."""
    # The share of finite outputs tells in which step a run diverged: each batch counts
    # alike, whatever its weights.
    shown = {"metrics": [MeanOf(finite, name="finite")]}
    if task.loss == "cross_entropy":
        shown["weighted_metrics"] = [MeanOf(right, name="accuracy")]
    return shown


class MeanOf(keras.metrics.Mean):
    """The weighted mean of a function of labels and outputs.

    Keras's own wrapper would weigh it by a mask that the outputs carry, too.
    """

    def __init__(self, function: Callable[[Any, Any], Any], name: str) -> None:
        super().__init__(name=name)
        self.function = function

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        super().update_state(self.function(y_true, y_pred), sample_weight)


def finite(labels: Any, outputs: Any) -> Any:
    """1 where all outputs of an example are numbers, else 0: (batch,)."""
    ops = keras.ops
    outputs = ops.reshape(outputs, (ops.shape(outputs)[0], -1))
    return ops.cast(ops.all(ops.isfinite(outputs), axis=-1), "float32")


def right(labels: Any, logits: Any) -> Any:
    """1 where the likeliest class is the label's, else 0: one value a label."""
    ops = keras.ops
    if logits.shape[-1] == 1:
        picked = ops.cast(logits[..., 0] > 0, "int32")
        labels = ops.cast(labels, "float32") > 0.5  # mixed ones lie between
    else:
        picked = ops.argmax(logits, axis=-1)
    if len(labels.shape) == len(logits.shape) and logits.shape[-1] > 1:
        labels = ops.argmax(labels, axis=-1)
    labels = ops.reshape(labels, ops.shape(picked))
    return ops.cast(ops.equal(ops.cast(labels, picked.dtype), picked), "float32")


class TrainingSequence(keras.utils.PyDataset):
    """The endless training batches, this process's rows of them."""

    def __init__(self, dataset: Dataset, recipe: Recipe, start_step: int = 0) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.batches = Prefetched(
            dataset.train_batches(
                recipe.batch_size,
                recipe.seed,
                start_step=start_step,
                shard=distributions.current().shard,
            )
        )

    def close(self) -> None:
        """Ends the threads that make batches ahead."""
        self.batches.close()

    @property
    def num_batches(self) -> None:
        return None  # endless

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        try:
            batch = self.batches[index]
        except Exception as error:
            self.failure = error
            raise
        return batch["inputs"], batch["labels"], batch["weights"]


@contextmanager
def training_batches(
    dataset: Dataset, recipe: Recipe, start_step: int = 0
) -> Iterator[TrainingSequence]:
    """The training batches, as long as they are needed.

    A batch that could not be made raises its own exception, which TensorFlow would put
    into one of its kind, traceback and all.
    """
    batches = TrainingSequence(dataset, recipe, start_step)
    try:
        yield batches
    except Exception as error:
        if batches.failure and type(error).__module__.startswith("tensorflow."):
            raise batches.failure from None
        raise
    finally:
        batches.close()


class VaryingLengths(PyDatasetAdapter):
    """Batches whose sequences differ in length from one to the next.

    On TensorFlow, Keras takes the shapes of the first two batches for those of all.
    """

    def get_tf_dataset(self) -> Any:
        def of_any_length(array: np.ndarray) -> Any:
            shape = [None, None, *array.shape[2:]][: array.ndim]
            return keras.KerasTensor(shape, dtype=str(array.dtype))

        specs = keras.tree.map_structure(of_any_length, self.py_dataset[0])
        self._output_signature = keras.tree.map_structure(
            convert_to_tf_tensor_spec, specs
        )
        return super().get_tf_dataset()


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
    validation = Validation(task, recipe, kept, dataset)
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
    validation.restore_best()
    spec = dataset.spec
    facts = {"task": task.name, "inputs": spec.inputs, "classes": list(spec.classes)}
    if where.is_chief:
        weights.save(
            saved,
            run.folder / "model",
            preprocessing=dataset.preprocessing,
            facts=facts,
        )
    metrics: dict[str, Any] = {
        split: split_scores(kept, dataset, split) for split in splits
    }
    metrics["best_epoch"] = validation.best_epoch
    if "test" in splits:
        draw(run, kept, dataset, task)
    if drawn is not None:
        drawn(run)
    if where.is_chief:
        metrics["seconds"] = round(time.perf_counter() - started, 1)
        weights.write_json(run.folder / METRICS, metrics)
    where.from_chief(str)  # the others return once all is written
    shown = metrics[splits[0]]
    log.info("%s: %s", splits[0], {k: v for k, v in shown.items() if k != "classes"})
    return run


def draw(run: Run, model: keras.Model, dataset: Dataset, task: Task) -> None:
    """The run's plots/."""
    # Every process takes part in the answers; one draws them.
    drawn = bool({"confusion", "predicted"} & set(task.plots))
    found = split_answers(model, dataset, "test") if drawn else None
    if not distributions.current().is_chief:
        return
    folder = run.folder / "plots"
    folder.mkdir(exist_ok=True)
    plots.curves(folder / "curves.png", run.history, task)
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


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
