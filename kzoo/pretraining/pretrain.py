"""``pretrain``: a run folder of an encoder that learned without labels."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution as distributions
from kzoo import hparams
from kzoo.datasets import Dataset
from kzoo.models.family import ImageHParams
from kzoo.models.masked_image import MaskedImage
from kzoo.models.reconstruction import Reconstruction
from kzoo.pretraining.objectives import Objective, find_objective, of_trainer
from kzoo.registry import build_model
from kzoo.training import plots
from kzoo.training.compiling import compile_by, dtype_policy
from kzoo.training.fit import config_of, fit_into, seeded
from kzoo.training.pictures import reconstructions
from kzoo.training.plan import Plan, plan, starting_point
from kzoo.training.recipe import Recipe
from kzoo.training.run import Run, logged, prepared, recorded, standing
from kzoo.training.tracking import check_tracker, tracked

log = logging.getLogger(__name__)


def pretrain(
    model: Any,
    dataset: Any = None,
    objective: str = "contrastive",
    out: str | os.PathLike[str] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    existing: str = "resume",
    distribution: str = "none",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    track: str | None = None,
    **settings: Any,
) -> Run:
    """Trains an encoder on inputs alone, and leaves a run folder of it.

    ``kzoo.train(run.folder, dataset)`` gives it a head and fine-tunes it. No label is
    looked at, and no test example: the epoch is chosen by the objective's loss on the
    validation split.

    Args:
        model: a registry name; a run or model folder, to start from its weights.
        dataset: a dataset's name, arrays or a ``Dataset``; None = the recipe's.
        objective: one of ``OBJECTIVES``.
        out: the run folder; None = ``runs/{model}_{dataset}_{objective}``.
        options: of the objective.
        recipe: as in ``kzoo.train``; None = the objective's own.
        data: options of the dataset.
        existing: what to do with a run that lies there, as in ``kzoo.train``.
        distribution: one of ``kzoo.distribution.KINDS``.
        callbacks: Keras callbacks to run along.
        track: a tracker that shows the run too: ``mlflow``, ``wandb`` or ``trackio``.
        **settings: the encoder's hyper-parameters and recipe fields by name.

    Returns:
        The run; ``run.load()`` is the encoder, whose output are pooled features.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together.

    Example:
        >>> import kzoo, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = kzoo.pretrain(
        ...     "mlp", "digits", "denoising", folder + "/pre", epochs=1, units=(16,))
        >>> run.load().output_shape
        (None, 16)
        >>> tuned = kzoo.train(run.folder, "digits", out=folder + "/run", epochs=1)
        >>> tuned.config["start"]["from"] == str(run.folder)
        True
    """
    check_tracker(track)
    found = find_objective(objective)
    chosen = hparams.replace(found.options, objective, options or {})
    where = distributions.resolve(distribution)
    _, base, encoder = starting_point(model)
    fixed: dict[str, Any] = {}

    def adapted(loaded: Dataset) -> Dataset:
        if isinstance(encoder, ImageHParams) and loaded.spec.inputs != "images":
            raise ValueError(
                f"{base} is for images; {loaded.name} has {loaded.spec.inputs}"
            )
        sizes = {**loaded.spec.hparams, **settings}
        known = {k: v for k, v in sizes.items() if k in vars(encoder)}
        sized = hparams.replace(encoder, base, known)
        made, theirs = found.adapted(loaded, chosen, sized)
        fixed.update(theirs)
        return made

    with recorded() as of_data:
        planned = plan(
            model,
            dataset,
            recipe=found.recipe if recipe is None else recipe,
            data=data,
            settings=settings,
            adapted=adapted,
        )
    planned.check_labelled("pretrain")
    chosen = hparams.replace(chosen, objective, fixed)
    name = f"{planned.name}_{planned.dataset.short_name}_{objective}"
    folder = Path(out or f"runs/{name}")
    facts = {"objective": objective, "options": chosen.to_json()}
    config = config_of(planned, where) | {"pretraining": facts}
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
            trainer = compiled(planned, found, chosen)
        early = of_data + of_model
        with prepared(folder, config, existing) as run, logged(folder, early):
            return fit_into(
                run,
                planned,
                trainer,
                saved=trainer.encoder,
                callbacks=[*callbacks, *trackers],
                splits=("validation",),
                drawn=lambda run: draw(run, planned, trainer),
            )


def compiled(planned: Plan, objective: Objective, options: Any) -> keras.Model:
    """The trainer around the encoder, with optimizer, loss and running metrics."""
    with dtype_policy(planned.recipe.precision):
        encoder = planned.build()
        trainer = build_model(
            objective.trainer, encoder=encoder, **of_trainer(objective, options)
        )
    if hasattr(trainer, "gathered"):
        trainer.gathered = distributions.current().gathered
    return compile_by(planned, trainer, encoder)


def draw(run: Run, planned: Plan, trainer: keras.Model) -> None:
    """The run's plots/: curves, and what a decoder makes of ten validation images."""
    where = distributions.current()
    dataset, folder = planned.dataset, run.folder / "plots"
    shown = None
    images = isinstance(trainer, MaskedImage) or (
        isinstance(trainer, Reconstruction) and len(trainer.hparams.target_shape) == 3
    )
    if images:
        count = min(10, len(dataset.splits["validation"]))
        batch = next(iter(dataset.eval_batches("validation", count)))["inputs"]
        given = batch if isinstance(trainer, MaskedImage) else batch["inputs"]
        given = keras.tree.map_structure(keras.ops.convert_to_tensor, given)
        made = np.asarray(keras.ops.convert_to_numpy(trainer.reconstructed(given)))
        shown = batch["targets"], batch["inputs"], made
    if not where.is_chief:
        return
    folder.mkdir(exist_ok=True)
    plots.curves(folder / "curves.png", run.history, planned.monitor.metric)
    if shown is not None:
        reconstructions(folder / "reconstructions.png", *shown)
