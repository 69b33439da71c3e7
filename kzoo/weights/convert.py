"""Weights from other zoos and back, by one table of names a family and source.

The tables stand in ``kzoo/weights/names``. Both directions read the same one, so that
weights come back from a round trip as the same bits. What does not fit is refused with
its name, and nothing is loaded.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kzoo.hparams import identity
from kzoo.layers.positions import Resampling
from kzoo.preprocessing import Preprocessing
from kzoo.registry import build_model, find_family
from kzoo.weights import assign, weights_by_path
from kzoo.weights.fit import difference
from kzoo.weights.names import Table
from kzoo.weights.places import Place, buffers, find_table, places
from kzoo.weights.prefixes import common_prefix, fitting_prefix, stripped
from kzoo.weights.tensors import is_floating

Arrays = Mapping[str, np.ndarray]

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
    changes: list[str] = []
    arrays = _unwrapped(arrays, targets, table, model, changes)
    found = _current(arrays, table, identity(model).hparams)
    _add_ones(found, targets, table)
    _drop_copies(found, table)
    _leave_aside(found, targets, table, changes)
    _drop_buffers(found, model, source)
    fresh = _adapt_head(found, targets, table, changes)
    fresh |= _may_lack(found, targets, table, changes)
    _adapt_channels(found, targets, model, table, changes)
    _adapt_tables(found, targets, model, changes)
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
    expected = table.expected(values)
    changes: dict[str, Any] = {}
    size = values.get("image_size")
    if size is not None:
        changes["image_size"] = tuple(size) if isinstance(size, list) else (size, size)
    for part in ("input_mean", "input_scale"):
        colours = getattr(expected, part)
        if colours is None:  # of tokens
            continue
        channels = values.get("channels", len(colours))
        if channels == 1:
            changes[part] = (sum(colours) / len(colours),)
        else:
            changes[part] = tuple(colours[i % len(colours)] for i in range(channels))
    return dataclasses.replace(expected, **changes)


def to_source(model: keras.Model, source: str) -> dict[str, np.ndarray]:
    """The model's weights by the source's names, as its state dict holds them.

    Raises:
        ValueError: a model that kzoo did not build, or a source that does not know it.
    """
    if identity(model).adapters:
        raise ValueError(f"{model.name} has adapters: kzoo.merge_adapters first")
    table = find_table(identity(model).name, source)
    weights = weights_by_path(model)
    arrays: dict[str, np.ndarray] = {}
    for path, place in places(model, source).items():
        tensor = np.zeros(place.whole, weights[path].dtype)
        place.to_source(weights[path], arrays.setdefault(place.name, tensor))
        if place.minus:
            arrays[place.minus] = np.zeros_like(arrays[place.name])
        module, _, kind = place.name.rpartition(".")
        if table.framework == "torch" and kind == "running_mean":
            arrays[f"{module}.num_batches_tracked"] = np.zeros((), "int64")
    for name in [name for name in arrays if _left_out(name, table)]:
        if (arrays[name] == 1).all():
            del arrays[name]
    copies = {copy: arrays[name] for copy, name in table.copies.items()}
    return {**arrays, **copies, **buffers(model, source)}


def _current(
    arrays: Arrays, table: Table, values: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The arrays by the names that the source gives them today; no counters."""
    found = {}
    for given, array in table.renumbered(arrays).items():
        name = table.written(table.today(given), values)
        if not COUNTERS.fullmatch(name):
            found[name] = np.asarray(array)
    return found


def _unwrapped(
    arrays: Arrays,
    targets: Mapping[str, Place],
    table: Table,
    model: keras.Model,
    changes: list[str],
) -> Arrays:
    """The arrays without the prefix that wrappers put before their names."""
    wanted = {place.name for place in targets.values()}

    def fits(prefix: str) -> int:
        renamed = {name.removeprefix(prefix): array for name, array in arrays.items()}
        return len(wanted & _current(renamed, table, values).keys())

    values = identity(model).hparams
    prefix = fitting_prefix(arrays, fits)
    if prefix:
        count = sum(name.startswith(prefix) for name in arrays)
        changes.append(
            f"{count} of {len(arrays)} names begin with {prefix!r}: left out"
        )
    return stripped(arrays, prefix)


def _add_ones(
    found: dict[str, np.ndarray], targets: Mapping[str, Place], table: Table
) -> None:
    """Adds the factors that the source leaves out."""
    for place in targets.values():
        if _left_out(place.name, table):
            found.setdefault(place.name, np.ones(place.whole, "float32"))


def _left_out(name: str, table: Table) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in table.ones)


def _drop_copies(found: dict[str, np.ndarray], table: Table) -> None:
    """Drops what the source's network reads at two names; a copy must be one."""
    for copy, name in table.copies.items():
        if copy in found and name in found:
            if not np.array_equal(found[copy], found[name]):
                raise ValueError(f"{copy!r} is not the same as {name!r}, as it must be")
            del found[copy]


def _drop_buffers(
    found: dict[str, np.ndarray], model: keras.Model, source: str
) -> None:
    """Drops what is no weight and follows from the model, once it does."""
    for name, value in buffers(model, source).items():
        if name in found and not np.array_equal(found.pop(name), value):
            raise ValueError(f"{name!r} is not that of {model.name} in {source}")


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
    if not any(path.startswith("logits") for path in targets):  # features come out
        modules = {r.source for r in table.rules if _of_head(r.layer, r.source, table)}
        for name in [name for name in found if name.rpartition(".")[0] in modules]:
            changes.append(f"{name} {found.pop(name).shape} is left aside: no head")
        return set()
    head = {
        path: place
        for path, place in targets.items()
        if _of_head(path, place.name, table)
    }
    if table.base and head and not any(p.name in found for p in head.values()):
        changes += [f"{p.name} {p.shape} is a fresh head" for p in head.values()]
        return set(head)
    axis = 0 if table.framework == "torch" else -1
    fresh = _resized(found, head, axis)
    for path, place in head.items():
        if path not in fresh:
            continue
        array = found.pop(place.name)
        changes.append(
            f"{place.name} {array.shape} is left aside: a fresh head {place.shape}"
        )
    return fresh


def _may_lack(
    found: Arrays, targets: Mapping[str, Place], table: Table, changes: list[str]
) -> set[str]:
    """The paths of what the file lacks and may lack."""
    fresh = set()
    for path, place in targets.items():
        optional = any(re.match(pattern, place.name) for pattern in table.optional)
        if optional and place.name not in found:
            changes.append(f"{place.name} is missing: {place.shape} is as it was drawn")
            fresh.add(path)
    return fresh


def _of_head(path: str, name: str, table: Table) -> bool:
    """Whether kzoo's layer, or what the source calls it, belongs to the head."""
    outside = table.base and not name.startswith(f"{table.base}.")
    return bool(outside) or path.startswith("logits")


def _resized(found: Arrays, head: Mapping[str, Place], axis: int) -> set[str]:
    """Weights of the layers that differ in the number of classes, and in that alone."""
    sizes: dict[str, set[tuple[int, int]]] = {}
    for path, place in head.items():
        array = found.get(place.name)
        if array is None or not array.ndim:
            return set()
        resized = list(place.shape)
        resized[axis] = array.shape[axis]
        if tuple(resized) != array.shape:
            return set()
        pair = (array.shape[axis], place.shape[axis])
        sizes.setdefault(path.rpartition("/")[0], set()).add(pair)
    if any(len(pairs) > 1 for pairs in sizes.values()):
        return set()  # not even of one size, and refused
    others = {layer for layer, [(theirs, ours)] in sizes.items() if theirs != ours}
    return {path for path in head if path.rpartition("/")[0] in others}


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


def _adapt_tables(
    found: dict[str, np.ndarray],
    targets: Mapping[str, Place],
    model: keras.Model,
    changes: list[str],
) -> None:
    """Brings tables of positions from the size that they were trained at."""
    for layer in model.layers:
        if not isinstance(layer, Resampling):
            continue
        place = targets[layer.table.path]
        table = found.get(place.name)
        if table is None or table.shape == place.whole:
            continue
        rows, width = table.size // place.split[-1], place.split[-1]
        theirs = dataclasses.replace(
            place, split=(rows, width), shape=table.shape, whole=table.shape
        )
        expected = list(place.whole)
        expected[expected.index(place.split[0])] = rows
        if table.shape != tuple(expected):
            continue  # not even of one width, and refused
        ours = layer.resampled(theirs.from_source(table, (rows, width)))
        found[place.name] = np.zeros(place.whole, table.dtype)
        place.to_source(ours, found[place.name])
        changes.append(f"{place.name} {table.shape} is resampled to {place.whole}")


def _check(found: Arrays, targets: Mapping[str, Place], model: keras.Model) -> None:
    theirs = {name: tuple(array.shape) for name, array in found.items()}
    ours = {place.name: place.whole for place in targets.values()}
    ours |= {place.minus: place.whole for place in targets.values() if place.minus}
    if theirs and not theirs.keys() & ours.keys():
        raise ValueError(_no_name_fits(theirs, ours, model.name))
    if theirs != ours:
        raise ValueError(
            f"the weights do not fit {model.name}: {difference(theirs, ours)}"
        )
    for name, array in found.items():
        if not is_floating(array.dtype):
            raise ValueError(f"{name!r} is of type {array.dtype}, not of weights")
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} holds NaN or infinity: no weights of a network")


def _no_name_fits(theirs: Iterable[str], ours: Iterable[str], name: str) -> str:
    """Both sides by an example, and what all names of the file begin with."""
    theirs, ours = list(theirs), list(ours)
    prefix = common_prefix(theirs)
    begin = f", which all begin with {prefix!r}," if prefix else ""
    return (
        f"the weights do not fit {name}: none of the file's {len(theirs)} names{begin} "
        f"is one of the model's {len(ours)}: {theirs[0]!r} in the file, {ours[0]!r} in "
        "the model"
    )
