"""Scores of a trained model on a split, each example once and in order."""

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kzoo import distribution as distributions
from kzoo import weights
from kzoo.datasets import Dataset, load_dataset
from kzoo.datasets.batches import share
from kzoo.datasets.few_labels import few_labels
from kzoo.datasets.loading import Prefetched
from kzoo.datasets.streams import is_stream
from kzoo.generation import generate
from kzoo.hparams import plain
from kzoo.registry import build_model, find_family
from kzoo.strict_json import finite_or_none
from kzoo.tasks import get_task
from kzoo.training.metrics import Answers, answers, class_scores, joined, scores
from kzoo.training.plan import as_asked
from kzoo.training.run import Run, check_scorable, open_run

log = logging.getLogger(__name__)


def evaluate(
    run: Run | str | os.PathLike[str],
    dataset: Any = None,
    *,
    split: str = "test",
    batch_size: int = 256,
    distribution: str = "none",
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Scores the model of a run.

    Args:
        run: a run, or its folder.
        dataset: what to score on; None = what the run was trained on, which must have
            the same bytes. Arrays go through the run's own preprocessing.
        split: ``train``, ``validation`` or ``test``.
        batch_size: examples at a time; it changes the speed alone.
        distribution: one of ``kzoo.distribution.KINDS``; the same.
        data: options of the dataset beside the run's own, such as the ``groups`` of
            arrays that were split by them.

    Returns:
        ``{"loss": ..., "accuracy": ...}`` and ``classes``, a list of scores by class;
        for a regression ``loss, r2, mse, mae``. None where the data do not define a
        score, such as R² of targets that are all the same.

    Raises:
        FileNotFoundError: the folder, or a file in it, is missing.
        ValueError: the data are not those of the run, or do not fit its model.

    Example:
        >>> import kzoo, tempfile
        >>> folder = tempfile.mkdtemp() + "/run"
        >>> run = kzoo.train("mlp", "digits", out=folder, epochs=1)
        >>> 0 < kzoo.evaluate(run)["accuracy"] <= 1
        True
    """
    where = distributions.resolve(distribution)
    opened = open_run(run)
    scored = run_data(opened, dataset, data)
    known = opened.config["model"]
    layout = {} if "architecture" in known else find_family(known["name"]).layout
    with where.scope(layout):
        model = weights.load(opened.folder)
        if scored.spec.task == "reconstruction":
            model = build_model("autoencoding", autoencoder=model)
        found = split_scores(model, scored, split, batch_size)
        return dict(finite_or_none(found))


def run_data(
    run: Run, dataset: Any, options: Mapping[str, Any] | None = None
) -> Dataset:
    """The data to score a run on, under the run's own preprocessing."""
    check_scorable(run, dataset)
    preprocessing = weights.load_preprocessing(run.folder)
    known = run.config["dataset"]
    name, theirs = (run.config["model"][key] for key in ("name", "hparams"))
    if dataset is None:
        data = load_dataset(known["name"], **{**known["options"], **(options or {})})
        recipe = run.config["recipe"]
        trained = data
        if recipe.get("labels_per_class"):
            data, partly = few_labels(data, recipe["labels_per_class"], recipe["seed"])
            trained = partly if recipe.get("unlabelled", "none") != "none" else data
        if trained.spec.fingerprint != known["fingerprint"]:
            raise ValueError(
                f"{known['name']} is no longer what {run.folder} was trained on: "
                f"fingerprint {known['fingerprint'][:12]} then, "
                f"{trained.spec.fingerprint[:12]} now"
            )
    else:
        own = _options(dataset, known, theirs, preprocessing.classes)
        data = load_dataset(dataset, **{**own, **(options or {})})
        fixed = as_asked(name, theirs, data).spec.hparams
        # Images are brought to the run's size, or the model takes any.
        resized = preprocessing.image_size or theirs.get("image_size") is None
        for key, value in fixed.items():
            if theirs.get(key) != plain(value) and not (
                key == "image_size" and resized
            ):
                raise ValueError(
                    f"{run.folder} was trained with {key}={theirs.get(key)}, the data "
                    f"have {value}"
                )
    data = as_asked(name, theirs, data)
    return dataclasses.replace(data, preprocessing=preprocessing)


def _options(
    source: Any,
    known: Mapping[str, Any],
    theirs: Mapping[str, Any],
    classes: Sequence[str],
) -> dict[str, Any]:
    """What to load the source with: the run's own splits, where it is the run's data.

    With another seed, examples that the run was trained on would be in its test split.
    """
    if isinstance(source, Dataset):
        return {}
    if isinstance(source, str):
        return dict(known["options"]) if source == known["name"] else {}
    options = dict(known["options"]) if known["name"] == "arrays" else {}
    if not (isinstance(source, Mapping) and is_stream(source.get("train"))):
        options.pop("steps", None)
    # Classes and tokens that only the training examples had.
    for key in ("num_classes", "vocab_size"):
        if theirs.get(key, 0) > 1:
            options[key] = theirs[key]
    if len(classes) == options.get("num_classes"):
        options["classes"] = classes  # in the order of the run's logits
    return options


def split_scores(
    model: keras.Model, dataset: Dataset, split: str, batch_size: int = 256
) -> dict[str, Any]:
    """The scores of :func:`evaluate`, of a model and a dataset at hand."""
    task = get_task(dataset.spec.task)
    found = split_answers(model, dataset, split, batch_size)
    result: dict[str, Any] = scores(task, found)
    if found.classes and found.outputs is not None:
        result["classes"] = class_scores(found.labels, found.outputs, found.classes)
    return result


def split_answers(
    model: keras.Model, dataset: Dataset, split: str, batch_size: int = 256
) -> Answers:
    """What the model says of each example of a split, in order, each once."""
    where = distributions.current()
    task, classes = get_task(dataset.spec.task), dataset.spec.classes
    raw = dataset.split(split).labels
    replicas = where.num_replicas
    size = -(-min(batch_size, len(raw)) // replicas) * replicas
    parts = []
    with Prefetched(dataset.eval_batches(split, size)) as batches:
        for batch in batches:
            mine = share(batch, where.shard)["inputs"]
            real = batch["index"] >= 0
            outputs = where.outputs(model, mine)[real]
            outputs = dataset.preprocessing.predictions(outputs)
            labels = raw[batch["index"][real]]
            if task.per_step:
                labels = np.where(batch["weights"] > 0, batch["labels"], -1)[real]
            parts.append(answers(task, labels, outputs, classes))
    found = joined(parts)
    tokenizer = dataset.preprocessing.tokenizer
    if tokenizer is None:
        return found
    if task.writes:
        written, references = texts(model, dataset, split, batch_size)
        return dataclasses.replace(found, written=written, references=references)
    if task.name == "language-modeling" and tokenizer.spells:
        ids = found.labels[found.counted].tolist()
        unknown = ids.count(tokenizer.unknown_token_id)
        characters = len(tokenizer.decode([ids])[0]) + unknown
        return dataclasses.replace(found, characters=characters)
    return found


def texts(
    model: keras.Model, dataset: Dataset, split: str, batch_size: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the model writes greedily for each example of a split, and what it should.

    A text may be as long as the longest of the split's own.
    """
    tokenizer = dataset.preprocessing.tokenizer
    assert tokenizer is not None
    end = dataset.spec.hparams["end_token_id"]
    labels = [row[row >= 0].tolist() for row in dataset.split(split).labels]

    def decoded(rows: list[list[int]]) -> tuple[str, ...]:
        bare = [row[:-1] if row and row[-1] == end else row for row in rows]
        return tuple(tokenizer.decode(bare))

    found = written(model, dataset, split, batch_size)
    return decoded(found), decoded(labels)


def written(
    model: keras.Model, dataset: Dataset, split: str, batch_size: int, **options: Any
) -> list[list[int]]:
    """The ids that the model writes for each source of a split.

    Args:
        model: with an encoder.
        dataset: of pairs; a text may be as long as the longest of the split's own.
        split: its name.
        batch_size: sources at a time.
        **options: of ``kzoo.generate``.
    """
    examples = dataset.split(split)
    sources = examples.rows(np.arange(len(examples)))["tokens"]
    pad, end = (dataset.spec.hparams[f"{name}_token_id"] for name in ("pad", "end"))
    prompts = [row[row != pad].tolist() or [pad] for row in sources]
    steps = examples.labels.shape[1]
    ids: list[list[int]] = []
    size = min(batch_size, len(prompts))
    for first in range(0, len(prompts), size):
        batch = prompts[first : first + size]
        full = batch + prompts[: size - len(batch)]  # of the one shape
        found = generate(model, full, max_new_tokens=steps, end_token_id=end, **options)
        ids += found[: len(batch)]
    return ids
