"""What of a command line is checked before Keras is imported, which takes seconds.

Each check is one that the library makes itself, in a module that needs no Keras. A
family of a plug-in is the exception: it declares its hyper-parameters with Keras.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kzoo import index, weights
from kzoo.cli.backend import backend_name
from kzoo.datasets import check_dataset
from kzoo.datasets.dataset import check_split
from kzoo.datasets.splits import SPLITS
from kzoo.distribution.resolve import checked as checked_distribution
from kzoo.hparams import Declaration, checked
from kzoo.training.recipe import Recipe
from kzoo.training.run import check_file, check_run_folder, check_scorable, open_run
from kzoo.training.settings import named_recipe, sorted_settings
from kzoo.training.tracking import check_tracker

Declared = Mapping[str, Declaration]


def check_model(model: str | os.PathLike[str]) -> tuple[str, Declared]:
    """The model's name and what it declares, of a name or of a folder to start from.

    The folder of a plain Keras model has no name of the zoo's, and declares nothing.

    Raises:
        ValueError: an unknown model, or a folder of something else.
        FileNotFoundError: there is no such folder, or no model in it.
    """
    folder = Path(model)
    if str(model) not in index.entries() and folder.exists():
        name, _ = weights.load_identity(folder)
        plain = (weights.model_folder(folder) / weights.KERAS).exists()
        return ("", {}) if plain else (name, index.declared(name))
    if folder.name != str(model):
        raise FileNotFoundError(f"there is no folder {folder}")
    return str(model), index.declared(str(model))


def check_request(
    model: str,
    dataset: str | None,
    *,
    recipe: str | Recipe | None = None,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Raises what ``plan`` would, as far as names, declarations and paths tell.

    Args:
        model: a name, or a folder to start from.
        dataset: its name; None = the recipe's.
        recipe: its name, or its fields; None = the model's own.
        data: options of the dataset.
        settings: hyper-parameters and recipe fields by name.
    """
    name, declared = check_model(model)
    named, _ = named_recipe(name, dataset, recipe)
    source = dataset or named.dataset
    theirs = named.options if source == named.dataset else {}
    check_dataset(source, {**theirs, **data})
    _, changes = sorted_settings(name or model, declared, settings, named.recipe)
    check_values(name, declared, changes)


def check_place(parsed: argparse.Namespace, existing: str = "resume") -> None:
    """Raises where ``--out``, ``--distribution`` or ``--track`` cannot be used."""
    check_tracker(parsed.track)
    if parsed.out is not None:
        check_run_folder(Path(parsed.out), existing)
    checked_distribution(parsed.distribution, backend_name(parsed.backend))


def output_file(given: str | None, default: str) -> Path:
    """The file that a command writes: ``--out``, which is replaced, or its default.

    Raises:
        ValueError: it is no file, or the default is there already, unasked.
        FileNotFoundError: there is no such folder.
    """
    if given is None:
        if Path(default).exists():
            raise ValueError(
                f"{default} is there already: name another file by --out, or the same "
                "one to replace it"
            )
        return Path(default)
    if not given.strip():
        raise ValueError(f"--out {given!r} names no file")
    check_file(Path(given))
    return Path(given)


def check_scored(folder: str, split: str) -> None:
    """Raises where a run cannot be scored on this split of its own data."""
    run = open_run(folder)
    check_scorable(run)
    check_split(split, SPLITS)
    dataset = run.config["dataset"]
    check_dataset(dataset["name"], dataset["options"])


def check_values(name: str, declared: Declared, values: Mapping[str, Any]) -> None:
    """Raises a ``ValueError`` for a value that its declaration does not allow."""
    for key, value in values.items():
        try:
            checked(declared[key], value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def check_distribution(kind: str, backend: str | None) -> None:
    """Raises a ``ValueError`` for a distribution that the backend does not have."""
    checked_distribution(kind, backend_name(backend))
