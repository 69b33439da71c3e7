"""Low-rank adapters (LoRA): few weights beside a model that stays as it is.

Hu et al., "LoRA: low-rank adaptation of large language models", 2021 (2106.09685). The
adapters are Keras's own, in every dense layer but the head. They lie unmerged in
model.safetensors, and alone in adapter.safetensors, with the head; the model's identity
lists them.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kzoo.distribution import current
from kzoo.hparams import identity
from kzoo.registry import build_model

HEAD = "logits"
_FACTS = "kzoo"  # the key of the file's metadata


def add_adapters(
    model: keras.Model, rank: int, layers: Sequence[str] = ()
) -> keras.Model:
    """Freezes the model but for its head, and gives its dense layers adapters.

    They begin as zero: the model says what it said before.

    Args:
        model: a model of kzoo's, changed in place; compile it afterwards.
        rank: of each adapter.
        layers: names of dense layers; empty = all but the head.

    Raises:
        ValueError: no dense layer is there, or adapters are already.

    Example:
        >>> import kzoo
        >>> model = add_adapters(kzoo.build_model("bert_tiny"), rank=4)
        >>> model.kzoo.adapters["rank"]
        4
    """
    known = identity(model)
    if known.adapters:
        raise ValueError(f"{model.name} has adapters already: merge them first")
    chosen = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
        and layer.name != HEAD
        and (not layers or layer.name in layers)
    ]
    if not chosen:
        raise ValueError(f"{model.name} has no dense layer to adapt but its head")
    for layer in model.layers:
        if layer.name != HEAD and layer not in chosen:
            layer.trainable = False
    for layer in chosen:
        layer.enable_lora(rank)
        if layer.bias is not None:
            layer.bias.trainable = False
    # What was traced before knows no adapters.
    model.train_function = model.test_function = model.predict_function = None
    adapters = {"rank": rank, "layers": [layer.name for layer in chosen]}
    model.kzoo = dataclasses.replace(known, adapters=adapters)
    return model


def merge_adapters(model: keras.Model) -> keras.Model:
    """A model without adapters that says the same: each is added to its kernel.

    Args:
        model: with adapters; it is left as it is.

    Raises:
        ValueError: there are none.

    Example:
        >>> import kzoo
        >>> from kzoo.weights.adapters import add_adapters
        >>> model = add_adapters(kzoo.build_model("mlp"), rank=2)
        >>> len(model.weights), len(kzoo.merge_adapters(model).weights)
        (10, 6)
    """
    known = identity(model)
    if not known.adapters:
        raise ValueError(f"{model.name} has no adapters to merge")
    merged = build_model(known.name, **known.hparams)
    values = {w.path: current().value(w) for w in model.weights}
    for name in known.adapters["layers"]:
        a, b = (values.pop(f"{name}/lora_kernel_{part}") for part in "ab")
        scale = model.get_layer(name).lora_alpha / known.adapters["rank"]
        kernel = values[f"{name}/kernel"]
        added = scale * (a.astype("float64") @ b.astype("float64"))
        values[f"{name}/kernel"] = (kernel + added).astype(kernel.dtype)
    for weight in merged.weights:
        weight.assign(values[weight.path])
    return merged


def save_adapter(model: keras.Model, path: str | os.PathLike[str]) -> Path:
    """Writes the adapters and the head alone, and which model they belong to.

    Args:
        model: with adapters.
        path: of the .safetensors file.

    Raises:
        ValueError: there are no adapters.
    """
    known = identity(model)
    if not known.adapters:
        raise ValueError(f"{model.name} has no adapters to save")
    own = {w.path for w in model.weights if is_adapters(w.path)}
    values = {w.path: np.ascontiguousarray(current().value(w)) for w in model.weights}
    facts = {**known.to_json(), "base": base_digest(values)}
    arrays = {path: values[path] for path in sorted(own)}
    save_file(arrays, path, metadata={_FACTS: json.dumps(facts, sort_keys=True)})
    return Path(path)


def load_adapter(model: keras.Model, path: str | os.PathLike[str]) -> keras.Model:
    """A copy of the model with the adapters and the head of a file.

    Args:
        model: what the adapters were trained beside; it is left as it is.
        path: what :func:`save_adapter` wrote.

    Raises:
        ValueError: a damaged file, or one that belongs to other weights.

    Example:
        >>> import kzoo, tempfile
        >>> from kzoo.weights.adapters import add_adapters, save_adapter
        >>> base = kzoo.build_model("mlp")
        >>> folder = kzoo.save(base, tempfile.mkdtemp() + "/base")
        >>> model = add_adapters(kzoo.load(folder), rank=2)
        >>> file = save_adapter(model, folder.parent / "adapter.safetensors")
        >>> kzoo.load_adapter(base, file).kzoo.adapters["rank"]
        2
    """
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not {"name", "hparams", "adapters", "base"} <= set(facts):
        raise ValueError(f"{path} holds no adapters")
    values = {w.path: current().value(w) for w in model.weights}
    if facts["name"] != identity(model).name or facts["base"] != base_digest(values):
        raise ValueError(
            f"{path} belongs to {facts['name']} with other weights than these of "
            f"{identity(model).name}"
        )
    adapted = add_adapters(
        build_model(facts["name"], **facts["hparams"]), **facts["adapters"]
    )
    for weight in adapted.weights:
        own = is_adapters(weight.path)
        weight.assign(arrays[weight.path] if own else values[weight.path])
    return adapted


def is_adapters(path: str) -> bool:
    """Whether a weight is an adapter's or the head's."""
    return "/lora_kernel_" in path or path.startswith(f"{HEAD}/")


def base_digest(values: dict[str, np.ndarray]) -> str:
    """sha256 of all weights that adapters leave alone."""
    digest = hashlib.sha256()
    for path in sorted(values):
        if not is_adapters(path):
            digest.update(path.encode() + np.ascontiguousarray(values[path]).tobytes())
    return digest.hexdigest()
