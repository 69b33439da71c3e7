"""Weights from other zoos and back, by one table of names a family and source.

The tables stand in ``kzoo/weights/names``. Both directions read the same one, so that
weights come back from a round trip as the same bits. What does not fit is refused with
its name, and nothing is loaded.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.hparams import identity, nearest
from kzoo.preprocessing import Preprocessing
from kzoo.registry import build_model, find_family
from kzoo.weights import assign, difference, weights_by_path
from kzoo.weights.names import SOURCES, Rule, Table

Arrays = Mapping[str, np.ndarray]

# How a framework calls the weights of a layer.
SUFFIXES = {
    "torch": {
        "kernel": "weight",
        "bias": "bias",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    "keras": {},  # as kzoo does
}


# PyTorch counts the batches that a normalisation has seen; nothing else does.
COUNTERS = re.compile(r"(.*\.)?num_batches_tracked")


@dataclass(frozen=True)
class Converted:
    """A model with weights from elsewhere.

    Attributes:
        model: a model of kzoo's.
        changes: a line for each tensor that was left aside, made afresh or changed.
        preprocessing: what the weights expect of the inputs.
    """

    model: keras.Model
    changes: tuple[str, ...]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Place:
    """Where one of kzoo's weights stands in the source, and how it lies there.

    ``source = kzoo.reshape(split).transpose(axes).reshape(shape)``. ``minus`` names a
    tensor of the source's that is taken off: a bias that kzoo keeps in a running mean.
    """

    name: str
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    minus: str = ""

    def from_source(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        permuted = tuple(self.split[axis] for axis in self.axes)
        back = np.argsort(self.axes)
        return array.reshape(permuted).transpose(back).reshape(shape)

    def to_source(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(
            array.reshape(self.split).transpose(self.axes).reshape(self.shape)
        )


def from_source(arrays: Arrays, name: str, source: str, **values: Any) -> Converted:
    """Builds a model of the zoo on another zoo's weights.

    Args:
        arrays: a state dict of the source's, by the source's names.
        name: one of ``kzoo.list_models()``.
        source: such as timm, torchvision or keras.
        **values: hyper-parameters to change from the variant's. With another
            ``num_classes`` the head stays as it was drawn; with other ``channels`` the
            first convolution is summed (one channel) or repeated and scaled.

    Returns:
        The model, what of the arrays did not go into it as it was, and the
        preprocessing.

    Raises:
        ValueError: the arrays do not fit: what both sides have, by the source's names.
    """
    table = find_table(name, source)
    model = build_model(name, **{**table.hparams, **values})
    targets = places(model, source)
    found = _current(arrays, table)
    changes: list[str] = []
    _leave_aside(found, targets, table, changes)
    fresh = _adapt_head(found, targets, table, changes)
    _adapt_channels(found, targets, model, table, changes)
    _check(found, {path: p for path, p in targets.items() if path not in fresh}, model)
    weights = weights_by_path(model)
    for path, place in targets.items():
        if path not in fresh:
            array = found[place.name].astype(weights[path].dtype)
            if place.minus:
                array = array - found[place.minus].astype(array.dtype)
            weights[path] = place.from_source(array, weights[path].shape)
    assign(model, weights, source)
    return Converted(model, tuple(changes), _preprocessing(table, model))


def _preprocessing(table: Table, model: keras.Model) -> Preprocessing:
    """The table's, for the model's image size and colours."""
    values = identity(model).hparams
    changes: dict[str, Any] = {}
    size = values.get("image_size")
    if size is not None:
        changes["image_size"] = tuple(size) if isinstance(size, list) else (size, size)
    for part in ("input_mean", "input_scale"):
        colours = getattr(table.preprocessing, part)
        channels = values.get("channels", len(colours))
        if channels == 1:
            changes[part] = (sum(colours) / len(colours),)
        else:
            changes[part] = tuple(colours[i % len(colours)] for i in range(channels))
    return dataclasses.replace(table.preprocessing, **changes)


def to_source(model: keras.Model, source: str) -> dict[str, np.ndarray]:
    """The model's weights by the source's names, as its state dict holds them.

    Raises:
        ValueError: a model that kzoo did not build, or a source that does not know it.
    """
    table = find_table(identity(model).name, source)
    weights = weights_by_path(model)
    arrays = {}
    for path, place in places(model, source).items():
        arrays[place.name] = place.to_source(weights[path])
        if place.minus:
            arrays[place.minus] = np.zeros_like(arrays[place.name])
        module, _, kind = place.name.rpartition(".")
        if table.framework == "torch" and kind == "running_mean":
            arrays[f"{module}.num_batches_tracked"] = np.zeros((), "int64")
    return arrays


def _current(arrays: Arrays, table: Table) -> dict[str, np.ndarray]:
    """The arrays by the names that the source gives them today; no counters."""
    found = {}
    for name, array in arrays.items():
        for old, new in table.renamed:
            name = re.sub(old, new, name)
        if not COUNTERS.fullmatch(name):
            found[name] = np.asarray(array)
    return found


def _leave_aside(
    found: dict[str, np.ndarray],
    targets: Mapping[str, Place],
    table: Table,
    changes: list[str],
) -> None:
    """Drops what only the source's models have."""
    wanted = {name for place in targets.values() for name in (place.name, place.minus)}
    for name in sorted(set(found) - wanted):
        if any(re.match(pattern, name) for pattern in table.aside):
            changes.append(f"{name} {found.pop(name).shape} is left aside")


def _adapt_head(
    found: dict[str, np.ndarray],
    targets: Mapping[str, Place],
    table: Table,
    changes: list[str],
) -> set[str]:
    """Drops a head of another size; the paths of the head that stays as drawn."""
    head = {path: place for path, place in targets.items() if path.startswith("logits")}
    if not head:  # pooled features
        modules = {r.source for r in table.rules if r.layer.startswith("logits")}
        for name in [name for name in found if name.rpartition(".")[0] in modules]:
            changes.append(f"{name} {found.pop(name).shape} is left aside: no head")
        return set()
    axis = 0 if table.framework == "torch" else -1
    sizes = set()
    for place in head.values():
        array = found.get(place.name)
        if array is None or not array.ndim:
            return set()
        resized = list(place.shape)
        resized[axis] = array.shape[axis]
        if tuple(resized) != array.shape:
            return set()
        sizes.add((array.shape[axis], place.shape[axis]))
    if len(sizes) > 1 or len(set(sizes.pop())) == 1:
        return set()  # of the same size; or not even of one, and refused
    for place in head.values():
        array = found.pop(place.name)
        changes.append(
            f"{place.name} {array.shape} is left aside: a fresh head {place.shape}"
        )
    return set(head)


def _adapt_channels(
    found: dict[str, np.ndarray],
    targets: Mapping[str, Place],
    model: keras.Model,
    table: Table,
    changes: list[str],
) -> None:
    """Brings the first convolution from the variant's colours to the model's."""
    known = identity(model)
    variant = find_family(known.name).variants[known.name].to_json()
    theirs, ours = variant.get("channels", 0), known.hparams.get("channels", 0)
    place = next(iter(targets.values()))
    axis = 1 if table.framework == "torch" else 2
    kernel = found.get(place.name)
    if ours == theirs or kernel is None or len(place.shape) != 4:
        return
    shape = list(place.shape)
    shape[axis] = theirs
    if kernel.shape != tuple(shape):
        return
    found[place.name] = with_channels(kernel, ours, axis)
    how = "summed" if ours == 1 else "repeated and scaled"
    changes.append(f"{place.name} {kernel.shape} is {how} to {place.shape}")


def with_channels(kernel: np.ndarray, channels: int, axis: int) -> np.ndarray:
    """A first convolution for other colours, with answers of the same size.

    Summed for one channel: the same answer as for a grey image in colours. Else the
    colours are repeated in turn and scaled by old / new.
    """
    if channels == 1:
        return kernel.sum(axis=axis, keepdims=True)
    turns = np.arange(channels) % kernel.shape[axis]
    scale = kernel.dtype.type(kernel.shape[axis] / channels)
    return kernel.take(turns, axis=axis) * scale


def _check(found: Arrays, targets: Mapping[str, Place], model: keras.Model) -> None:
    theirs = {name: tuple(array.shape) for name, array in found.items()}
    ours = {place.name: place.shape for place in targets.values()}
    ours |= {place.minus: place.shape for place in targets.values() if place.minus}
    if theirs != ours:
        raise ValueError(
            f"the weights do not fit {model.name}: {difference(theirs, ours)}"
        )
    for name, array in found.items():
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name!r} is of type {array.dtype}, not of weights")


def find_table(name: str, source: str) -> Table:
    """The table for this model.

    Raises:
        ValueError: an unknown model, or a source that has none of its family.
    """
    family = find_family(name)
    tables = SOURCES.get(family.name, {})
    if source not in tables:
        raise ValueError(
            f"no names of {family.name} in {source!r} are known"
            f"{nearest(source, tables)}"
        )
    return tables[source]


def places(model: keras.Model, source: str) -> dict[str, Place]:
    """The model's weights by path -> where each is in the source.

    Raises:
        ValueError: a model that kzoo did not build, or a source that does not know it.
    """
    known = identity(model)
    table = find_table(known.name, source)
    rules = [rule for rule in table.rules if _holds(rule, known.hparams)]
    suffixes = SUFFIXES[table.framework]
    found: dict[str, Place] = {}
    biases = {}
    for layer, indices in _numbered(model):
        for weight in layer.weights:
            path, _, kind = weight.path.rpartition("/")
            if kind == "seed_generator_state":
                continue
            rule, module, norm = _named(path, rules, indices)
            if norm:
                biases[f"{norm}/moving_mean"] = f"{module}.bias"
            name = f"{module}.{suffixes.get(kind, kind)}"
            if table.framework == "torch" and kind == "kernel":
                grid = known.hparams.get(str(rule.grid), rule.grid)
                place = _torch_kernel(name, layer, weight.shape, grid, rule.convolution)
            else:
                axes = tuple(range(len(weight.shape)))
                place = Place(name, weight.shape, axes, weight.shape)
            found[weight.path] = place
    for path, bias in biases.items():
        found[path] = dataclasses.replace(found[path], minus=bias)
    return found


def _holds(rule: Rule, values: Mapping[str, Any]) -> bool:
    return all(values.get(name) == value for name, value in rule.when.items())


def _numbered(model: keras.Model) -> Iterator[tuple[Any, dict[str, int]]]:
    """Each layer that holds weights, with its block's and its part's number."""
    layers = [layer for layer in model.layers if layer.weights]
    blocks: dict[str, int] = {}
    parts: dict[str, dict[str, int]] = {}
    numbers: list[dict[str, int]] = []
    for layer in layers:
        match = re.match(r"(stage_\d+_block_\d+)_([^_]+)", layer.name)
        if match is None:
            numbers.append({})
            continue
        block, part = match.groups()
        n = blocks.setdefault(block, len(blocks))
        of_block = parts.setdefault(block, {})
        m = of_block.setdefault(part, len(of_block))
        numbers.append({"n": n, "m": m})
    for layer, number in zip(layers, numbers, strict=True):
        yield layer, {**number, "blocks": len(blocks)}


def _named(
    path: str, rules: list[Rule], indices: Mapping[str, int]
) -> tuple[Rule, str, str]:
    """The rule of a layer, the source's module, and where its bias goes."""
    for rule in rules:
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>\\d+)", rule.layer)
        match = re.fullmatch(pattern, path)
        if match is not None:
            own = {name: int(text) for name, text in match.groupdict().items()}
            known = {**indices, **own}
            return rule, filled(rule.source, known), filled(rule.bias_into, known)
    raise ValueError(f"no name of the layer {path!r} is known there")


def filled(template: str, indices: Mapping[str, int]) -> str:
    """The template with its sums worked out.

    >>> filled("layer{i+1}.{2*n+i+3}{j:b}", {"i": 1, "n": 2, "j": 2})
    'layer2.8d'
    """

    def value(match: re.Match[str]) -> str:
        total = 0
        for term in match["sum"].split("+"):
            factors = [
                int(factor) if factor.isdigit() else indices[factor]
                for factor in term.split("*")
            ]
            total += int(np.prod(factors))
        first = match["letter"]
        return chr(ord(first) + total) if first else str(total)

    return re.sub(r"\{(?P<sum>[\w+*]+)(:(?P<letter>\w))?\}", value, template)


def _torch_kernel(
    name: str, layer: Any, shape: tuple[int, ...], grid: int, convolution: bool
) -> Place:
    """How PyTorch lays a kernel out: what comes out first, then what goes in."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, channels, multiplier = shape
        target = (channels * multiplier, 1, height, width)
        return Place(name, shape, (2, 3, 0, 1), target)
    if len(shape) == 4:
        height, width, channels, filters = shape
        return Place(name, shape, (3, 2, 0, 1), (filters, channels, height, width))
    rows, units = shape  # a dense layer, on an image of grid x grid or on 1 x 1
    split = (grid, grid, rows // grid**2, units)
    target = (units, rows // grid**2, grid, grid)
    flat = (units, rows)
    return Place(name, split, (3, 2, 0, 1), target if convolution else flat)
