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
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from kzoo.distribution import current
from kzoo.hparams import identity, nearest
from kzoo.macs import shapes_only
from kzoo.registry import build_model
from kzoo.weights.fit import cast_exactly, check_shapes, in_short
from kzoo.weights.tensors import read_tensors

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
        ValueError: no dense layer is there, or none of a given name; adapters are
            already; or the rank is beyond the layers' sizes.

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
    if not chosen and not layers:
        raise ValueError(f"{model.name} has no dense layer to adapt but its head")
    names = [layer.name for layer in chosen]
    for name in layers:
        if name not in names:
            dense = [
                layer.name
                for layer in model.layers
                if isinstance(layer, keras.layers.Dense) and layer.name != HEAD
            ]
            raise ValueError(
                f"{model.name} has no dense layer {name!r} to adapt"
                f"{nearest(name, dense)}"
            )
    widest = max(max(layer.kernel.shape) for layer in chosen)
    if not 1 <= rank <= widest:
        raise ValueError(f"rank={rank} of adapters is not from 1 to {widest}")
    for layer in model.layers:
        if layer.name != HEAD and layer not in chosen:
            layer.trainable = False
    for layer in chosen:
        layer.enable_lora(rank)
        if layer.bias is not None:
            layer.bias.trainable = False
    # What was traced before knows no adapters.
    model.train_function = model.test_function = model.predict_function = None
    adapters = {"rank": rank, "layers": names}
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
    facts, arrays = _read_adapter(Path(path))
    values = {w.path: current().value(w) for w in model.weights}
    if facts["name"] != identity(model).name or facts["base"] != base_digest(values):
        raise ValueError(
            f"{path} belongs to {facts['name']} with other weights than these of "
            f"{identity(model).name}"
        )
    adapters = checked_adapters(facts["adapters"], str(path))
    wanted = weight_shapes(facts["name"], facts["hparams"], adapters)
    own = {name: shape for name, shape in wanted.items() if is_adapters(name)}
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    check_shapes(shapes, own, str(path), facts["name"])
    adapted = add_adapters(build_model(facts["name"], **facts["hparams"]), **adapters)
    for weight in adapted.weights:
        array = (arrays if weight.path in own else values)[weight.path]
        owner = f"{path}: {weight.path!r}"
        weight.assign(cast_exactly(np.asarray(array), str(weight.dtype), owner))
    return adapted


def _read_adapter(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What an adapter's file says it belongs to, and its arrays."""
    arrays = read_tensors(path)
    try:
        with safe_open(path, framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} holds no adapters: its facts are not JSON") from None
    kinds = {"name": str, "hparams": dict, "adapters": dict, "base": str}
    if not isinstance(facts, dict) or not all(
        isinstance(facts.get(key), kind) for key, kind in kinds.items()
    ):
        raise ValueError(f"{path} holds no adapters")
    return facts, arrays


def checked_adapters(value: Any, source: str) -> dict[str, Any]:
    """The arguments of :func:`add_adapters` as a file has them; empty where none are.

    Raises:
        ValueError: something else than a rank and the names of layers.

    >>> checked_adapters({"rank": 2, "layers": ["block_0"]}, "config.json")
    {'rank': 2, 'layers': ['block_0']}
    """
    if value is None or value == {}:
        return {}
    if not isinstance(value, dict):
        raise ValueError(
            f"{source}: adapters={in_short(value)} is not an object of rank and layers"
        )
    for key in value:
        if key not in ("rank", "layers"):
            raise ValueError(
                f"{source}: adapters have no {key!r}{nearest(key, ('rank', 'layers'))}"
            )
    rank, layers = value.get("rank"), value.get("layers")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(
            f"{source}: rank={in_short(rank)} of adapters is not an int of at least 1"
        )
    if (
        not isinstance(layers, list)
        or not layers
        or not all(isinstance(layer, str) for layer in layers)
    ):
        raise ValueError(
            f"{source}: layers={in_short(layers)} of adapters is not a list of names"
        )
    return {"rank": rank, "layers": layers}


def weight_shapes(
    name: str, hparams: Mapping[str, Any], adapters: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by path; takes no memory for them.

    Python's random numbers go on as if nothing was built.

    >>> weight_shapes("mlp", {"units": [10**4], "num_classes": 2}, {})["logits/kernel"]
    (10000, 2)
    """
    drawn = random.getstate()  # from which layers take the seeds of their weights
    try:
        with shapes_only():
            model = build_model(name, **hparams)
            if adapters:
                add_adapters(model, **adapters)
            return {weight.path: tuple(weight.shape) for weight in model.weights}
    finally:
        random.setstate(drawn)


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
