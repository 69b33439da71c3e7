"""Model folders: safe files that hold a model and nothing that runs.

    config.json  model.safetensors  preprocessing.json  [tokenizer.json]
    [adapter.safetensors]

A run of a plain Keras model has ``model.keras`` in place of ``model.safetensors``.
``model.safetensors`` holds the weights by their path, and is the same bytes for the
same weights. Nothing here imports Keras until a model is built, so that the files of a
folder can be checked first.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from kzoo import plugins, strict_json
from kzoo.distribution import current
from kzoo.hparams import identity
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import Tokenizer
from kzoo.weights.fit import cast_exactly, check_shapes, in_one_line, not_finite
from kzoo.weights.tensors import read_tensors, tensor_shapes

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    import keras

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
KERAS = "model.keras"
PREPROCESSING = "preprocessing.json"
TOKENIZER = "tokenizer.json"
ADAPTER = "adapter.safetensors"
FILES = {CONFIG, WEIGHTS, KERAS, PREPROCESSING, TOKENIZER, ADAPTER}


def save(
    model: "keras.Model",
    path: str | os.PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a model folder; one that is there already is replaced as a whole.

    Args:
        model: a model of kzoo's.
        path: the folder.
        preprocessing: what the model's inputs went through.
        facts: more for config.json, in plain JSON types, such as the task.

    Returns:
        The folder.

    Raises:
        ValueError: a model that kzoo did not build; or the path holds something else
            than a model folder.

    Example:
        >>> import kzoo, tempfile
        >>> folder = tempfile.mkdtemp() + "/mlp"
        >>> path = kzoo.save(kzoo.build_model("mlp"), folder)
        >>> sorted(file.name for file in path.iterdir())
        ['config.json', 'model.safetensors']
    """
    known = identity(model)
    config = {**(facts or {}), "model": known.to_json(), **plugin_of(known.name)}

    def write(aside: Path) -> None:
        save_file(weights_by_path(model), aside / WEIGHTS)
        if known.adapters:
            from kzoo.weights.adapters import save_adapter

            save_adapter(model, aside / ADAPTER)

    return _written(Path(path), config, write, preprocessing)


def save_plain(
    model: "keras.Model",
    path: str | os.PathLike[str],
    facts: Mapping[str, Any],
    preprocessing: Preprocessing | None = None,
) -> Path:
    """As :func:`save`, of a model that kzoo did not build: in Keras's own file.

    Args:
        model: any that Keras can save.
        path: the folder.
        facts: for config.json; its ``model`` has ``name`` and ``hparams``, those that
            the data fix.
        preprocessing: what the model's inputs went through.
    """
    from kzoo.weights.plain import write_keras

    return _written(
        Path(path),
        facts,
        lambda aside: write_keras(model, aside / KERAS),
        preprocessing,
    )


def _written(
    folder: Path,
    config: Mapping[str, Any],
    write: Callable[[Path], None],
    preprocessing: Preprocessing | None,
) -> Path:
    """A model folder in one step; ``write`` puts the weights into the one aside."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    other = {p.name for p in folder.iterdir()} - FILES if folder.exists() else set()
    if other:
        raise ValueError(
            f"{folder} holds something else than a model, such as {min(other)}; not "
            "overwritten"
        )
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside)
        write_json(aside / CONFIG, config)
        if preprocessing is not None:
            write_json(aside / PREPROCESSING, preprocessing.to_json())
            if preprocessing.tokenizer is not None:
                write_text(aside / TOKENIZER, preprocessing.tokenizer.json)
        before = aside.with_suffix(".old")
        if folder.exists():
            folder.rename(before)  # whole until the new one is in its place
        aside.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def load(path: str | os.PathLike[str]) -> "keras.Model":
    """The model of a model folder or of a run folder.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the weights do not fit the model: what the
            file has and what the model has, side by side. That is seen before memory is
            taken for the model. Weights that are NaN or infinite are a warning.

    Example:
        >>> import kzoo, tempfile
        >>> folder = kzoo.save(kzoo.build_model("mlp"), tempfile.mkdtemp() + "/mlp")
        >>> kzoo.load(folder).kzoo.name
        'mlp'
    """
    from kzoo.registry import build_model
    from kzoo.weights.adapters import add_adapters, checked_adapters, weight_shapes

    folder = model_folder(path)
    if (folder / KERAS).exists():
        from kzoo.weights.plain import read_keras

        return read_keras(folder / KERAS)
    name, hparams = load_identity(folder)
    config = read_json(folder / CONFIG)
    adapters = checked_adapters(config["model"].get("adapters"), str(folder / CONFIG))
    source = str(folder / WEIGHTS)
    if not plugins.origin_of(name):  # another's layers may need values to be built
        try:
            wanted = weight_shapes(name, hparams, adapters)
        except Exception as error:  # what its layers raise for values of a kind
            raise ValueError(f"{folder / CONFIG}: {in_one_line(error)}") from error
        check_shapes(tensor_shapes(folder / WEIGHTS), wanted, source, name)
    stored = read_tensors(folder / WEIGHTS)
    model = build_model(name, **hparams)
    if adapters:
        add_adapters(model, **adapters)
    assign(model, stored, source)
    for line in not_finite(stored):
        logger.warning("%s: %s: its answers are not to be trusted", source, line)
    return model


def load_identity(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Name and hyper-parameters of the model in this folder; builds nothing.

    Raises:
        FileNotFoundError: there is no model, or its config.json is missing.
        ValueError: config.json does not say; or its family's plug-in is not here.
    """
    config = model_folder(path) / CONFIG
    stored = read_json(config)
    known = stored.get("model")
    known = known if isinstance(known, dict) else {}
    name, hparams = known.get("name"), known.get("hparams")
    if not isinstance(name, str) or not isinstance(hparams, dict):
        raise ValueError(f"{config} does not say which model this is")
    check_plugin(stored, config.parent)
    return name, hparams


def plugin_of(name: str) -> dict[str, Any]:
    """For config.json: where the model's family came from, if not from kzoo."""
    origin = plugins.origin_of(name)
    return {"plugin": dict(origin)} if origin else {}


def check_plugin(config: Mapping[str, Any], folder: Path) -> None:
    """Raises a ``ValueError`` where the family of a config.json is not here."""
    origin, name = config.get("plugin"), config["model"]["name"]
    if not isinstance(origin, dict) or not origin:
        return
    from kzoo.registry import is_registered

    if not is_registered(name):
        raise ValueError(plugins.missing(name, origin, str(folder)))


def load_preprocessing(path: str | os.PathLike[str]) -> Preprocessing:
    """What the inputs of this folder's model went through.

    Raises:
        FileNotFoundError: the folder has none.
        ValueError: a file of it is damaged, or says something else.
    """
    folder = model_folder(path)
    text = folder / TOKENIZER
    tokenizer = Tokenizer(text.read_text("utf-8")) if text.exists() else None
    try:
        return Preprocessing.from_json(read_json(folder / PREPROCESSING), tokenizer)
    except ValueError as error:
        raise ValueError(f"{folder / PREPROCESSING}: {error}") from None


def model_folder(path: str | os.PathLike[str]) -> Path:
    """The folder itself, or the model inside a run folder.

    Raises:
        FileNotFoundError: neither is there.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    for candidate in (folder, folder / "model"):
        if (candidate / WEIGHTS).exists() or (candidate / KERAS).exists():
            return candidate
    raise FileNotFoundError(
        f"{folder} holds no {WEIGHTS}, nor does {folder / 'model'}: "
        "not a model folder, or a run that has not finished"
    )


def weights_by_path(model: "keras.Model") -> dict[str, np.ndarray]:
    """Every weight of the model as an array, by its path."""
    arrays = {w.path: current().value(w) for w in model.weights}
    return {path: np.asarray(arrays[path], order="C") for path in sorted(arrays)}


def assign(model: "keras.Model", arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Gives every weight of the model its array, or changes none.

    Raises:
        ValueError: the arrays do not fit; the message shows both sides.
    """
    weights = {weight.path: weight for weight in model.weights}
    wanted = {path: tuple(weight.shape) for path, weight in weights.items()}
    found = {path: tuple(array.shape) for path, array in arrays.items()}
    check_shapes(found, wanted, source, model.name)
    cast = {
        path: cast_exactly(arrays[path], str(weight.dtype), f"{source}: {path!r}")
        for path, weight in weights.items()
    }
    for path, weight in weights.items():
        weight.assign(cast[path])


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; errors name the file."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=lambda word: None)  # NaN of old runs
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, in one step; numbers that are not finite are null."""
    write_text(path, strict_json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file in one step: never half of it under this name."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
