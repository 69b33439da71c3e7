"""Where each weight of a model stands in another zoo's state dict.

The rules of ``kzoo/weights/names`` say what the source calls a weight; the framework
that it is written for, how a weight lies there.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.hparams import identity, nearest
from kzoo.registry import find_family
from kzoo.weights.names import SOURCES, Rule, Table

# How a framework calls the weights of a layer.
SUFFIXES = {
    "torch": {
        "kernel": "weight",
        "bias": "bias",
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "embeddings": "weight",
    },
    "keras": {},  # as kzoo does
}


@dataclass(frozen=True)
class Place:
    """Where one of kzoo's weights stands in the source, and how it lies there.

    ``source = kzoo.reshape(split).transpose(axes).reshape(shape)``. ``minus`` names a
    tensor of the source's that is taken off: a bias that kzoo keeps in a running mean.
    Of a tensor that holds several weights, ``whole`` is the shape and this one begins
    at ``start`` on the axis ``joined``.
    """

    name: str
    split: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    minus: str = ""
    joined: int = 0
    start: int = 0
    whole: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.whole:
            object.__setattr__(self, "whole", self.shape)

    def from_source(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The source's tensor -> kzoo's weight."""
        permuted = tuple(self.split[axis] for axis in self.axes)
        back = np.argsort(self.axes)
        return array[self._own()].reshape(permuted).transpose(back).reshape(shape)

    def to_source(self, array: np.ndarray, tensor: np.ndarray) -> None:
        """Writes kzoo's weight into the source's tensor."""
        own = array.reshape(self.split).transpose(self.axes).reshape(self.shape)
        tensor[self._own()] = own

    def _own(self) -> tuple[slice, ...]:
        """What of the source's tensor is this weight's."""
        if self.shape == self.whole:
            return ()
        end = self.start + self.shape[self.joined]
        return (*[slice(None)] * self.joined, slice(self.start, end))


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
    found: dict[str, Place] = {}
    biases = {}
    parts: dict[str, list[tuple[int, str]]] = {}
    for layer, indices in _numbered(model):
        for weight in layer.weights:
            path, _, kind = weight.path.rpartition("/")
            if kind == "seed_generator_state":
                continue
            rule, name, norm = _named(weight.path, rules, indices)
            if norm:
                biases[f"{norm}/moving_mean"] = f"{name}.bias"
            name = table.written(name, known.hparams)
            if not _of_a_weight(rule):
                name = f"{name}.{SUFFIXES[table.framework].get(kind, kind)}"
            if rule.part is not None:
                parts.setdefault(name, []).append((rule.part, weight.path))
            grid = known.hparams.get(str(rule.grid), rule.grid)
            found[weight.path] = _place(name, rule, layer, weight, table, grid)
    for path, bias in biases.items():
        found[path] = dataclasses.replace(found[path], minus=bias)
    for several in parts.values():
        found |= _joined({path: found[path] for _, path in sorted(several)})
    return found


def buffers(model: keras.Model, source: str) -> dict[str, np.ndarray]:
    """What the source's state dict holds beside weights, by its names.

    Raises:
        ValueError: a model that kzoo did not build, or a source that does not know it.
    """
    table = find_table(identity(model).name, source)
    found = {}
    for layer in model.layers:
        for buffer in table.buffers:
            indices = _match(buffer.layer, layer.name)
            if indices is not None:
                found[filled(buffer.source, indices)] = buffer.value(layer)
    return found


def _place(
    name: str, rule: Rule, layer: Any, weight: Any, table: Table, grid: int
) -> Place:
    shape = tuple(weight.shape)
    own = tuple(axis for axis in rule.axes if axis is not None)
    if len(own) == len(shape) and rule.axes:
        lies = tuple(1 if axis is None else shape[axis] for axis in rule.axes)
        return Place(name, shape, own, lies)
    if table.framework == "torch" and weight.path.endswith("/kernel"):
        return _torch_kernel(name, layer, shape, grid, rule.convolution)
    return Place(name, shape, tuple(range(len(shape))), shape)


def _joined(parts: Mapping[str, Place]) -> dict[str, Place]:
    """Weights that the source keeps in one tensor, side by side where they come out."""
    first = next(iter(parts.values()))
    axis = first.axes.index(len(first.split) - 1)
    whole = list(first.shape)
    whole[axis] = sum(place.shape[axis] for place in parts.values())
    found = {}
    start = 0
    for path, place in parts.items():
        found[path] = dataclasses.replace(
            place, joined=axis, start=start, whole=tuple(whole)
        )
        start += place.shape[axis]
    return found


def _holds(rule: Rule, values: Mapping[str, Any]) -> bool:
    return all(values.get(name) == value for name, value in rule.when.items())


def _of_a_weight(rule: Rule) -> bool:
    return "/" in rule.layer


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
    """The rule of a weight, the source's module or tensor, and where its bias goes."""
    layer = path.rpartition("/")[0]
    for rule in rules:
        own = _match(rule.layer, path if _of_a_weight(rule) else layer)
        if own is not None:
            known = {**indices, **own}
            return rule, filled(rule.source, known), filled(rule.bias_into, known)
    raise ValueError(f"no name of the layer {layer!r} is known there")


def _match(template: str, name: str) -> dict[str, int] | None:
    """The numbers of the template's indices in the name; None where it does not fit."""
    match = re.fullmatch(re.sub(r"\{(\w+)\}", r"(?P<\1>\\d+)", template), name)
    if match is None:
        return None
    return {index: int(text) for index, text in match.groupdict().items()}


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
