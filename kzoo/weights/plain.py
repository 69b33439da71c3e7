"""Models that kzoo did not build: kept as Keras's own ``.keras`` files.

Such a model has no hyper-parameters to be built from, so the file holds its layers as
well. It is read in Keras's safe mode, which runs no code that the file brings along.
"""

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.distribution import current
from kzoo.hparams import Identity
from kzoo.keras_files import without_identity
from kzoo.weights import KERAS


def is_plain(model: Any) -> bool:
    """Whether this is a Keras model that kzoo did not build."""
    known = getattr(model, "kzoo", None)
    return isinstance(model, keras.Model) and not isinstance(known, Identity)


def write_keras(model: keras.Model, path: Path) -> None:
    """Writes the model's layers and weights, not its optimizer or loss.

    Raises:
        ValueError: Keras cannot write this model.
    """
    optimizer = model.optimizer if model.compiled else None
    if optimizer is not None:
        model.compiled, model.optimizer = False, None
    try:
        model.save(path)
    except Exception as error:  # what a layer's own get_config raises
        raise ValueError(f"Keras cannot save {model.name}: {_line(error)}") from error
    finally:
        if optimizer is not None:
            model.compiled, model.optimizer = True, optimizer


def read_keras(path: Path) -> keras.Model:
    """The model of a ``.keras`` file, not compiled.

    Raises:
        ValueError: it is damaged, holds code, or a class that is not here.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zip, JSON, HDF5 and layers raise each their own
        told = f"Keras cannot load {path}: {_line(error)}"
        if "Could not locate" in told:
            told += "; import the module that has it first, or name it by --plugin"
        raise ValueError(told) from error


def copied(model: keras.Model) -> keras.Model:
    """The model as its file gives it back; the given one stays as it is.

    Raises:
        ValueError: Keras cannot save or load it, which no run should find at its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / KERAS
        write_keras(model, path)
        try:
            copy = read_keras(path)
        except ValueError as error:
            reason = str(error).removeprefix(f"Keras cannot load {path}: ")
            raise ValueError(
                f"{model.name} cannot be loaded once it is saved: {reason}"
            ) from error
    return copy


def architecture(model: keras.Model) -> str:
    """sha256 of the layers and the shapes of their weights.

    Names that Keras counts up, such as ``dense_3``, do not change it.
    """
    text = json.dumps(without_identity(model.get_config()), sort_keys=True, default=str)
    layers = [model, *model._flatten_layers(include_self=False)]
    for i, name in enumerate(dict.fromkeys(layer.name for layer in layers)):
        text = text.replace(json.dumps(name), f'"#{i}"')
    shapes = [(list(weight.shape), str(weight.dtype)) for weight in model.weights]
    told = [type(model).__name__, text, shapes]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def values_digest(model: keras.Model) -> str:
    """sha256 of the weights' values, in order."""
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.asarray(current().value(weight), order="C").tobytes())
    return digest.hexdigest()


def name_of(model: keras.Model) -> str:
    """The model's name, without the number that Keras gives to one without a name."""
    own = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(model).__name__).lower()
    return own if re.fullmatch(rf"{own}(_\d+)?", model.name) else str(model.name)


def _line(error: BaseException) -> str:
    """The first line of what went wrong that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
