"""What the zoo has, read from a file, so that asking costs no Keras.

``models/index.json`` has one line a model, sorted by name: tasks, hyper-parameters,
trainable weights, multiply-accumulates, paper. ``scripts/derive_index.py`` derives it
and a test derives every line again. ``models/results.json`` holds what benchmarks
measured, and is written by them only.
"""

import copy
import fnmatch
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kzoo import plugins
from kzoo.hparams import Declaration, nearest
from kzoo.tasks import get_task

INDEX = Path(__file__).parent / "models" / "index.json"
RESULTS = Path(__file__).parent / "models" / "results.json"

_added: dict[str, dict[str, Any]] = {}


def entries() -> Mapping[str, dict[str, Any]]:
    """Every model's entry by name: the file's, then those registered here.

    Plug-ins that were named or are installed are imported first.
    """
    plugins.load()
    return _stored() | _added


@cache
def _stored() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(INDEX.read_text())}


def add(entry: dict[str, Any]) -> None:
    """Lists one more model, for this process."""
    _added[entry["name"]] = entry


def list_models(
    pattern: str = "*",
    *,
    task: str | None = None,
    max_parameters: float | None = None,
) -> list[str]:
    """Names of the zoo's models, sorted.

    Args:
        pattern: with the shell's wildcards, as in ``"*resnet*"``.
        task: only models that serve this task.
        max_parameters: only models with at most so many trainable weights.

    Raises:
        ValueError: an unknown task.

    Example:
        >>> import kzoo
        >>> kzoo.list_models("cnn*", max_parameters=1e6)
        ['cnn', 'cnn_1d', 'cnn_tiny']
    """
    if task is not None:
        get_task(task)
    return sorted(
        name
        for name, entry in entries().items()
        if fnmatch.fnmatchcase(name, pattern)
        and (task is None or task in entry["tasks"])
        and (max_parameters is None or entry["trainable_parameters"] <= max_parameters)
    )


def describe(name: str, /, **values: Any) -> dict[str, Any]:
    """What there is to know of a model, in plain JSON types.

    Without hyper-parameters it is read from the index; with some the model is built,
    without allocating its weights, and counted.

    Args:
        name: a model's name.
        **values: hyper-parameters to change.

    Returns:
        ``name, family, tasks, trainable_parameters, macs, macs_input, paper, hparams``
        (a list of declarations; ``default`` is this model's value) and ``results``,
        the measured scores. ``macs`` is None where the multiply-accumulates of a layer
        are not known; ``macs_unknown`` names it. For a family from
        outside kzoo, ``plugin`` is where it came from.

    Raises:
        ValueError: an unknown name or hyper-parameter, or a value that is not legal.

    Example:
        >>> import kzoo
        >>> kzoo.describe("mlp_xor")["trainable_parameters"]
        17
    """
    known = _stored() if name in _stored() else entries()
    if name not in known:
        raise ValueError(unknown_model(name, known))
    entry = copy.deepcopy(known[name])  # the caller may change it
    if values:
        from kzoo.registry import index_entry

        entry = index_entry(name, **values)
    scores = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    entry["results"] = [score for score in scores if score["model"] == name]
    return entry


def declared(name: str) -> dict[str, Declaration]:
    """The declarations of a model's hyper-parameters by name, without its family.

    Raises:
        ValueError: an unknown model.
    """
    known = entries()
    if name not in known:
        raise ValueError(unknown_model(name, known))
    found = [Declaration.from_json(entry) for entry in known[name]["hparams"]]
    return {declaration.name: declaration for declaration in found}


def unknown_model(name: str, known: Iterable[str]) -> str:
    """The one line that a misspelt model gets."""
    return f"unknown model {name!r}{nearest(name, known)}"
