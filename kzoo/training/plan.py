"""From what a user asked for to what will run: every choice made, and checked.

Defaults < the variant's < the recipe's hyper-parameters < what the dataset fixes <
the user's; but a user's value against one that the dataset fixes is an error.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import hparams, index, weights
from kzoo.datasets import Dataset, load_dataset
from kzoo.datasets.few_labels import few_labels, with_unlabelled
from kzoo.datasets.text import as_taken
from kzoo.datasets.views import of_itself
from kzoo.hparams import HParams, declarations, identity, in_short, plain
from kzoo.layers.positions import Resampling
from kzoo.registry import build_model, find_family
from kzoo.tasks import Task, get_task
from kzoo.training.finetune import freeze, load_what_fits
from kzoo.training.monitor import Monitor, monitor_of
from kzoo.training.plain import (
    PlainHParams,
    check_fits,
    check_recipe,
    check_settings,
)
from kzoo.training.recipe import Recipe
from kzoo.training.recipes import NamedRecipe
from kzoo.training.schedules import peak_rate
from kzoo.training.settings import IN_MEMORY, named_recipe, sorted_settings
from kzoo.weights.adapters import add_adapters, merge_adapters
from kzoo.weights.plain import (
    architecture,
    copied,
    is_plain,
    name_of,
    values_digest,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A run before it starts.

    Attributes:
        name: the model's.
        hparams: the model's, complete.
        start: where the first weights come from: a folder, a model, or None = drawn.
        recipe_name: the named recipe behind ``recipe``, or "" where there is none.
        notes: what was decided for the user, a line each.
    """

    name: str
    hparams: HParams
    start: keras.Model | Path | None
    dataset: Dataset
    recipe: Recipe
    recipe_name: str
    notes: tuple[str, ...] = ()

    def check_labelled(self, workflow: str) -> None:
        """Raises a ``ValueError`` where a recipe of ``train`` alone was asked for."""
        if self.recipe.unlabelled != "none":
            raise ValueError(
                f"unlabelled={self.recipe.unlabelled!r} is for training; {workflow} "
                "learns from examples without labels in its own way"
            )

    @property
    def task(self) -> Task:
        return get_task(self.dataset.spec.task)

    @property
    def monitor(self) -> Monitor:
        """The metric that picks the epoch."""
        return monitor_of(self.task, self.recipe.monitor, self.dataset)

    @property
    def is_plain(self) -> bool:
        """Whether kzoo did not build the model that is trained."""
        return isinstance(self.hparams, PlainHParams)

    @property
    def layout(self) -> Mapping[str, tuple[str | None, ...]]:
        """How the model's variables lie on many devices."""
        return {} if self.is_plain else find_family(self.name).layout

    def to_json(self) -> dict[str, Any]:
        """Everything that decides the run, in plain JSON types."""
        return {
            "model": self.model_to_json(),
            "start": self._start_to_json(),
            "dataset": {
                "name": self.dataset.name,
                "options": dict(self.dataset.options),
                "fingerprint": self.dataset.spec.fingerprint,
            },
            "task": self.dataset.spec.task,
            "recipe_name": self.recipe_name,
            "recipe": self.recipe.to_json(),
        }

    def model_to_json(self) -> dict[str, Any]:
        """Name and hyper-parameters; of a plain model those that the data fix."""
        if not self.is_plain:
            return {"name": self.name, "hparams": self.hparams.to_json()}
        fixed = {key: plain(v) for key, v in self.dataset.spec.hparams.items()}
        return {
            "name": self.name,
            "hparams": fixed,
            "architecture": architecture(self._given()),
        }

    def _given(self) -> keras.Model:
        """The plain model that was given, or that of the folder."""
        return weights.load(self.start) if isinstance(self.start, Path) else self.start

    def _start_to_json(self) -> dict[str, str] | None:
        """Where the first weights come from, and their sha256."""
        if self.start is None:
            return None
        if isinstance(self.start, Path):
            file = weights.KERAS if self.is_plain else weights.WEIGHTS
            path = weights.model_folder(self.start) / file
            digest = hashlib.sha256(path.read_bytes())
            return {"from": str(self.start), "sha256": digest.hexdigest()}
        if self.is_plain:
            return {"from": IN_MEMORY, "sha256": values_digest(self.start)}
        digest = hashlib.sha256()
        for name, array in weights.weights_by_path(self.start).items():
            digest.update(name.encode() + array.tobytes())
        return {"from": IN_MEMORY, "sha256": digest.hexdigest()}

    def build(self) -> keras.Model:
        """The model, with its first weights.

        Raises:
            ValueError: the weights to start from do not fit; both sides are shown.
        """
        if self.is_plain:
            return copied(self._given())
        model = build_model(self.name, **self.hparams.to_json())
        if self.start is not None:
            self._load(model, self.start)
        if self.recipe.freeze:
            frozen = freeze(model, self.recipe.freeze)
            log.info("frozen: %s", in_short(frozen))
        if self.recipe.lora:
            add_adapters(model, self.recipe.lora)
        return model

    def _load(self, model: keras.Model, start: keras.Model | Path) -> None:
        source = weights.load(start) if isinstance(start, Path) else start
        if identity(source).adapters:
            source = merge_adapters(source)
        theirs, ours = identity(source).hparams, identity(model).hparams
        changed = {key for key in ours if theirs.get(key) != ours[key]}
        before, after = (known.get("num_classes") for known in (theirs, ours))
        fresh_head = before != after or self._other_classes(start)
        if fresh_head:
            log.info("a fresh head for %s classes instead of %s", after, before)
        load_what_fits(
            model,
            _with_positions(model, weights.weights_by_path(source)),
            str(start) if isinstance(start, Path) else IN_MEMORY,
            fresh_head=fresh_head,
            excused=(changed & set(self.dataset.spec.hparams)) - {"num_classes"},
        )

    def _other_classes(self, start: keras.Model | Path) -> bool:
        """Whether the start is known to tell other classes apart."""
        if not isinstance(start, Path):
            return False
        folder = weights.model_folder(start)
        if not (folder / weights.PREPROCESSING).exists():
            return False
        known = weights.load_preprocessing(folder).classes
        ours = self.dataset.spec.classes
        return bool(known) and bool(ours) and known != ours


def _with_positions(
    model: keras.Model, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The weights with tables of positions brought to the model's size.

    Raises:
        ValueError: a table that is too short.
    """
    for layer in model.layers:
        if not isinstance(layer, Resampling) or layer.table.path not in arrays:
            continue
        path, shape = layer.table.path, tuple(layer.table.shape)
        table = arrays[path]
        # Of another width or rank it is another network's, and told as such.
        fits = len(shape) == 2 == table.ndim and table.shape[1] == shape[1]
        if fits and len(table) != shape[0]:
            arrays = {**arrays, path: layer.resampled(table)}
            log.info("%s is brought from %s to %s", path, len(table), shape[0])
    return arrays


def plan(
    model: Any,
    dataset: Any = None,
    *,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    adapted: Callable[[Dataset], Dataset] | None = None,
    any_model: bool = False,
) -> Plan:
    """Resolves a request.

    Args:
        model: a registry name, a run or model folder, or a model of kzoo's.
        dataset: a name, arrays or a ``Dataset``; None = the recipe's.
        recipe: a name of ``RECIPES`` or a ``Recipe``; None = the one for the model and
            the dataset.
        data: options of the dataset.
        settings: hyper-parameters and recipe fields by name.
        adapted: makes the dataset that is trained on of the one that is named, and
            checks that the model serves it; None = as it is.
        any_model: whether a plain Keras model will do, which kzoo did not build.

    Raises:
        ValueError: anything unknown, illegal, or that does not go together.
        FileNotFoundError: a folder without a model.
    """
    start, name, known = starting_point(model)
    is_plain_model = isinstance(known, PlainHParams)
    if is_plain_model:
        if not any_model:
            raise ValueError(
                f"{name} is a plain Keras model: kzoo.train takes it, and what needs "
                "hyper-parameters or taps takes a model that kzoo built"
            )
        check_settings(name, settings or {})
    named, recipe_name = named_recipe("" if is_plain_model else name, dataset, recipe)
    chosen, changes = sorted_settings(
        name, declarations(type(known)), settings or {}, named.recipe
    )
    source = named.dataset if dataset is None else dataset
    options = dict(data or {})
    if not isinstance(source, Dataset):
        same = isinstance(source, str) and source == named.dataset
        theirs = named.options if same else {}
        options = {"seed": chosen.seed, **theirs, **options}
    loaded = load_dataset(source, **options)
    loaded = _same_tokens(start, source, options, loaded).augmented(
        *chosen.augmentation, mixup=chosen.mixup, cutmix=chosen.cutmix
    )
    if chosen.labels_per_class:
        loaded, partly = few_labels(loaded, chosen.labels_per_class, chosen.seed)
        if chosen.unlabelled != "none":
            loaded = with_unlabelled(
                partly, chosen.unlabelled, chosen.strong_augmentation
            )
    loaded = loaded.weighted(chosen.class_weights)
    if is_plain_model:
        check_recipe(name, chosen)
        model = weights.load(start) if isinstance(start, Path) else start
        check_fits(name, model, loaded)
    elif adapted is None:
        values = {**known.to_json(), **named.hparams, **changes}
        loaded = as_asked(name, values, as_taken(loaded, *_pairs_of(name, known)))
        check_served(name, loaded)
    else:
        loaded = adapted(loaded)
    given = "given" if isinstance(recipe, Recipe) else "the defaults"
    task = get_task(loaded.spec.task)
    if chosen.loss == "focal" and task.loss != "cross_entropy":
        raise ValueError(
            f"loss='focal' is for classes; {loaded.name} is {task.name}, whose loss is "
            f"{task.loss}"
        )
    monitor = monitor_of(task, chosen.monitor, loaded)
    notes = [
        f"recipe: {recipe_name or given}",
        f"monitor: {monitor.metric} ({monitor.reason})",
    ]
    if not isinstance(recipe, Recipe) and "warmup_steps" not in (settings or {}):
        asked = chosen.warmup_steps
        chosen = _with_room(chosen, loaded)
        if chosen.warmup_steps != asked:
            notes.append(f"warmup_steps: {chosen.warmup_steps} instead of {asked}")
    if is_plain_model and getattr(model, "optimizer", None) is not None:
        notes.append("optimizer, loss and metrics: the recipe's, not the model's own")
    if chosen.learning_rate_scaling != "none":
        notes.append(
            f"learning_rate: {peak_rate(chosen):g} instead of {chosen.learning_rate:g} "
            f"({chosen.learning_rate_scaling}, batch {chosen.batch_size} for "
            f"{chosen.base_batch_size})"
        )
    return Plan(
        name=name,
        hparams=known
        if is_plain_model
        else _fitted(name, known, start, named, loaded, changes),
        start=start,
        dataset=loaded,
        recipe=chosen,
        recipe_name=recipe_name,
        notes=tuple(notes),
    )


def _same_tokens(
    start: keras.Model | Path | None,
    source: Any,
    options: Mapping[str, Any],
    loaded: Dataset,
) -> Dataset:
    """Texts under the tokeniser of the model to start from, unless another is asked."""
    if not isinstance(start, Path) or not isinstance(source, str):
        return loaded
    if "tokenizer" not in loaded.options or "tokenizer" in options:
        return loaded
    known = weights.model_folder(start) / weights.TOKENIZER
    ours = loaded.preprocessing.tokenizer
    if not known.exists() or ours is None or known.read_text("utf-8") == ours.json:
        return loaded
    log.info("tokenizer: that of %s", start)
    return load_dataset(source, **{**options, "tokenizer": str(known)})


def _with_room(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with a warm-up of a quarter of its steps at most.

    A named recipe's is meant for its own number of epochs.
    """
    most = recipe.epochs * dataset.steps_per_epoch(recipe.batch_size) // 4
    changed = {"warmup_steps": min(recipe.warmup_steps, most)}
    return hparams.replace(recipe, "recipe", changed)


def _pairs_of(name: str, known: HParams) -> tuple[Collection[str], bool]:
    """The names of the model's inputs, and whether it tells two segments apart."""
    values = known.to_json()
    segments = "segment_ids" in values and values["num_segments"] > 1
    return input_names(index.entries()[name]), segments


def as_asked(name: str, known: Mapping[str, Any], dataset: Dataset) -> Dataset:
    """The dataset without labels where the model gives back what it is shown.

    Args:
        name: the model's.
        known: its hyper-parameters, which may say how inputs are spoilt.
        dataset: any; for other models it is returned as it is.
    """
    entry = index.entries().get(name)  # None of a plain Keras model
    if entry is None or "reconstruction" not in entry["tasks"]:
        return dataset
    spoilt = {key: known[key] for key in ("noise", "dropped") if key in known}
    return of_itself(dataset, **spoilt)


def input_names(entry: Mapping[str, Any]) -> Collection[str]:
    """Of a model in the index that has several inputs."""
    shapes = entry["macs_input"]
    return tuple(shapes) if isinstance(shapes, dict) else ()


def check_served(name: str, dataset: Dataset) -> None:
    """Raises a ``ValueError`` that names the models which do, if this one does not."""
    spec = dataset.spec

    def serves(entry: dict[str, Any]) -> bool:
        declared = {declaration["name"] for declaration in entry["hparams"]}
        # Two texts apart go into models of two texts alone, and nothing else does.
        apart = "first" in input_names(entry)
        given = spec.inputs == "first and second"
        fitting = spec.inputs == "pairs of texts" or apart == given
        fixed = set(fixed_by(dataset, declared)) - {"segment_ids"}
        return spec.task in entry["tasks"] and fixed <= declared and fitting

    entries = index.entries()
    if not serves(entries[name]):
        able = [other for other, entry in sorted(entries.items()) if serves(entry)]
        raise ValueError(
            f"{name} does not serve {dataset.name}, which is {spec.task} of "
            f"{spec.inputs}; models that do: {in_short(able) or 'none'}"
        )
    if spec.task == "summarization" and find_spec("rouge_score") is None:
        raise ValueError(
            "summaries are scored by ROUGE, which needs rouge-score: pip install "
            "'kzoo[text]'"
        )


def fixed_by(dataset: Dataset, declared: Collection[str]) -> dict[str, Any]:
    """The hyper-parameters that the data fix, for a model that declares these.

    A family of vectors alone has no ``image_size`` that could be left empty.
    """
    fixed = dict(dataset.spec.hparams)
    if dataset.spec.inputs == "vectors" and not {"image_size", "vocab_size"} & set(
        declared
    ):
        fixed.pop("image_size", None)
    return fixed


def starting_point(model: Any) -> tuple[keras.Model | Path | None, str, HParams]:
    """Where weights come from, the model's name and its hyper-parameters.

    Raises:
        ValueError: an unknown model, or one that kzoo did not build.
        FileNotFoundError: a folder without a model.
    """
    if is_plain(model):
        return model, _plain_name(model), PlainHParams()
    if isinstance(model, keras.Model):
        known = identity(model)
        return model, known.name, _hparams_of(known.name, known.hparams)
    if not isinstance(model, str | os.PathLike):
        raise ValueError(
            f"expected a model's name, a folder or a keras.Model, got {model!r}"
        )
    folder = Path(model)
    if str(model) not in index.entries() and folder.exists():
        name, stored = weights.load_identity(folder)
        if (weights.model_folder(folder) / weights.KERAS).exists():
            return folder, name, PlainHParams()
        return folder, name, _hparams_of(name, stored)
    if not isinstance(model, str) or Path(model).name != model:
        raise FileNotFoundError(f"there is no folder {folder}")
    return None, str(model), find_family(str(model)).variants[str(model)]


def _plain_name(model: keras.Model) -> str:
    """The model's name, unless a model of the zoo has it."""
    name = name_of(model)
    return f"own_{name}" if name in index.entries() else name


def _hparams_of(name: str, values: Mapping[str, Any]) -> HParams:
    return hparams.from_json(type(find_family(name).smallest), name, values)


def _fitted(
    name: str,
    known: HParams,
    start: keras.Model | Path | None,
    named: NamedRecipe,
    dataset: Dataset,
    changes: Mapping[str, Any],
) -> HParams:
    """The model's hyper-parameters with everybody's word heard."""
    fixed = fixed_by(dataset, declarations(type(known)))
    for key in changes:
        if key in fixed and plain(changes[key]) != plain(fixed[key]):
            raise ValueError(
                f"{dataset.name} fixes {key}={fixed[key]!r}; got {changes[key]!r}"
            )
    theirs: dict[str, Any] = {}
    if start is None:
        declared = declarations(type(known))
        theirs = {k: v for k, v in named.hparams.items() if k in declared}
    return hparams.replace(known, name, {**theirs, **fixed, **changes})
