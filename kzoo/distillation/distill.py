"""``distill``: a student's run folder, from a teacher."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kzoo import distribution as distributions
from kzoo import hparams
from kzoo.distillation import teachers as sources
from kzoo.distillation.options import DistillOptions, same_data
from kzoo.distillation.report import REPORT, compare
from kzoo.distillation.sequences import check_writes, kept_in
from kzoo.models.distiller_options import METHODS
from kzoo.models.mutual import Mutual
from kzoo.registry import build_model
from kzoo.training.compiling import compile_by, dtype_policy
from kzoo.training.compiling import compiled as compiled_alone
from kzoo.training.fit import config_of, fit_into, seeded
from kzoo.training.plan import Plan, plan
from kzoo.training.recipe import Recipe
from kzoo.training.run import Run, logged, open_run, prepared, standing
from kzoo.training.tracking import check_tracker, tracked

log = logging.getLogger(__name__)


def distill(
    teacher: Any,
    student: Any,
    dataset: Any = None,
    method: str = "kd",
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
    """Trains a student with a teacher, and leaves an ordinary run folder of it.

    The epoch is chosen on the validation split by the student's own score. Where the
    teacher was trained on the same dataset, its split is the student's too, so that no
    test example was ever taught.

    Args:
        teacher: a run or model folder, a registry name (trained first by its own
            recipe, into ``{out}_teacher``), any ``keras.Model``, a list of these, or
            ``"self"``: the moving average of the student. With ``mutual`` they are
            peers, which begin where ``kzoo.train`` would; ``"self"`` is one of the
            student's own kind.
        student: a registry name; a run or model folder, to start from its weights.
        dataset: a dataset's name, arrays or a ``Dataset``; None = the teacher's, else
            the recipe's.
        method: one of ``METHODS``, or several joined by ``+``.
        out: the run folder; None = ``runs/{student}_{dataset}_{method}``.
        options: of the method, see :class:`DistillOptions`.
        recipe: as in ``kzoo.train``.
        data: options of the dataset.
        existing: what to do with a run that lies there, as in ``kzoo.train``.
        distribution: one of ``kzoo.distribution.KINDS``.
        callbacks: Keras callbacks to run along.
        track: a tracker that shows the run too: ``mlflow``, ``wandb`` or ``trackio``.
        **settings: the student's hyper-parameters and recipe fields by name.

    Returns:
        The student's run; ``plots/compression.png`` shows it beside the teacher.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together.
        FileNotFoundError: a folder without a model.

    Example:
        >>> import kzoo, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> teacher = kzoo.train("mlp", "digits", out=folder + "/teacher", epochs=1)
        >>> run = kzoo.distill(
        ...     teacher.folder, "mlp", out=folder + "/student", epochs=1, units=(8,))
        >>> run.config["distillation"]["method"]
        'kd'
    """
    check_tracker(track)
    chosen = hparams.replace(
        DistillOptions(), "distill", {**(options or {}), "method": method}
    )
    where = distributions.resolve(distribution)
    given = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
    dataset, data = same_data(given, dataset, data)
    planned = plan(student, dataset, recipe=recipe, data=data, settings=settings)
    where.check(planned.recipe.batch_size, planned.recipe.batch_norm)
    planned.check_labelled("distill")
    check_task(planned, chosen)
    kind = method.replace("+", "_")
    folder = Path(out or f"runs/{planned.name}_{planned.dataset.short_name}_{kind}")
    if planned.recipe.deterministic:
        distributions.enable_determinism()
    if chosen.generations > 1:
        given = [
            earlier_generations(given, planned, chosen, folder, distribution, track)
        ]
    train_teacher = sources.trained_beside(
        folder, planned.dataset, planned.recipe.seed, distribution
    )
    with tracked(track, folder, where) as trackers:
        with where.scope(planned.layout):
            peers = [peer_of(one, planned) for one in given if chosen.by_peers]
            found = [
                sources.find(one, train_teacher)
                for one in given
                if one != sources.SELF and not chosen.by_peers
            ]
            if chosen.by_texts:
                sources.check_author(found, planned.dataset)
            facts = {
                "method": method,
                "options": chosen.to_json(),
                "teachers": [one.to_json(planned.dataset) for one in found],
            }
            if peers:
                parts = ("model", "start")
                facts["peers"] = [{k: one.to_json()[k] for k in parts} for one in peers]
            config = config_of(planned, where) | {"distillation": facts}
            if standing(folder, config, existing) == "finished":
                log.info("%s is finished already", folder)
            else:
                request = (folder, config, existing)
                taught(request, planned, found, peers, chosen, [*callbacks, *trackers])
        run = Run(folder)
        wanted = chosen.report and found and where.is_chief
        if wanted and not (folder / REPORT).exists():
            compare(found[0].run or found[0].alone(), run, planned.dataset)
    return run


def taught(
    request: tuple[Path, Mapping[str, Any], str],
    planned: Plan,
    found: Sequence[sources.Found],
    peers: Sequence[Plan],
    chosen: DistillOptions,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Builds and trains the student, with its teachers or its peers.

    Args:
        request: the run folder, its config, and what to do with a run that lies there.
        planned: the student, its data and its recipe.
        found: the teachers.
        peers: networks that learn beside the student.
        chosen: options of the method.
        callbacks: Keras callbacks to run along.
    """
    with seeded(planned.recipe.seed):
        made = (
            together(planned, peers, chosen)
            if peers
            else compiled(planned, found, chosen)
        )
        with prepared(*request) as run, logged(run.folder):
            tell(found, planned)
            if chosen.by_texts:
                texts = kept_in(
                    run.folder, found[0].model, planned.dataset, chosen.num_beams
                )
                planned = dataclasses.replace(planned, dataset=texts)
            kept = None if chosen.by_texts else made.student
            fit_into(run, planned, made, kept=kept, callbacks=callbacks)


def compiled(
    planned: Plan, found: Sequence[sources.Found], options: DistillOptions
) -> keras.Model:
    """The distiller with its optimizer, the task's loss and its running metrics.

    The student's first weights are those that ``kzoo.train`` would draw. Where texts
    teach, it is the student itself.
    """
    if options.by_texts:
        return compiled_alone(planned)
    recipe = planned.recipe
    with dtype_policy(recipe.precision):
        student = planned.build()
    steps = planned.dataset.steps_per_epoch(recipe.batch_size)
    changes: dict[str, Any] = {"total_steps": steps * recipe.epochs}
    teachers = [one.model for one in found]
    if found:
        logits = any(METHODS[name].taps == "logits" for name in options.methods)
        changes |= sources.adaptation(found, planned.dataset, logits)
    else:
        teachers = [student]
        changes["teacher_ema"] = options.teacher_ema or 0.99
    distiller = build_model(
        "distiller",
        teacher=teachers if len(teachers) > 1 else teachers[0],
        student=student,
        **options.of_distiller(**changes),
    )
    distiller.gathered = distributions.current().gathered
    return compile_by(planned, distiller, student)


def peer_of(peer: Any, planned: Plan) -> Plan:
    """How a network begins that learns beside the student, on the student's data."""
    if peer == sources.SELF:
        return planned
    return plan(peer.folder if isinstance(peer, Run) else peer, planned.dataset)


def together(
    planned: Plan, peers: Sequence[Plan], options: DistillOptions
) -> keras.Model:
    """The student and its peers in one trainer, with optimizer, loss and metrics."""
    with dtype_policy(planned.recipe.precision):
        networks = [one.build() for one in (planned, *peers)]
    return compile_by(planned, Mutual(options, networks), networks[0])


def check_task(planned: Plan, options: DistillOptions) -> None:
    """Raises a ``ValueError`` if the method says nothing on the task's outputs."""
    if options.by_texts:
        check_writes(planned.dataset)
    compared = ("logits", "peers")
    on_logits = [name for name in options.methods if METHODS[name].taps in compared]
    if planned.task.loss != "cross_entropy" and on_logits:
        others = [name for name, one in METHODS.items() if one.taps not in compared]
        raise ValueError(
            f"{on_logits[0]} compares probabilities of classes, and "
            f"{planned.dataset.name} is {planned.task.name}; methods on features are "
            f"{', '.join(others)}"
        )


def earlier_generations(
    given: Sequence[Any],
    planned: Plan,
    options: DistillOptions,
    folder: Path,
    distribution: str,
    track: str | None,
) -> Run:
    """The last student before this one, each in ``{out}_generation_{i}``.

    Its weights are drawn from the seed plus its number.
    """
    teacher: Any = list(given)
    for i in range(1, options.generations):
        place = folder.with_name(f"{folder.name}_generation_{i}")
        log.info("generation %s of %s", i, options.generations)
        values = {**options.to_json(), "generations": 1}
        settings = {**planned.hparams.to_json(), **planned.recipe.to_json()}
        settings["seed"] = planned.recipe.seed + i
        teacher = distill(
            teacher,
            planned.name,
            planned.dataset,
            str(values.pop("method")),
            place,
            options=values,
            distribution=distribution,
            track=track,
            **settings,
        )
    return open_run(teacher)


def tell(found: Sequence[sources.Found], planned: Plan) -> None:
    """Logs who teaches, and warns if a teacher may have seen test examples."""
    for one in found:
        log.info("the teacher is %s", one.source)
        fact = one.to_json(planned.dataset)
        same_name = one.saw is not None and one.saw["name"] == planned.dataset.name
        if same_name and not fact["same_split"]:
            log.warning(
                "%s was trained on another split of %s: it may have seen the test "
                "examples",
                one.source,
                planned.dataset.name,
            )
