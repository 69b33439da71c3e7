"""Snapshots: everything that decides the rest of a run, safe from a kill at any moment.

    snapshots/step-00000120-8d1f0c3a9be24f17/
        manifest.json          what the files are, by sha256; the position
        state.safetensors      weights, optimizer, running metrics, seeds, best weights
        state.json             callbacks, Python's and numpy's generators, the history

A snapshot is written aside, synced, and renamed; the end of its name is the sha256 of
its manifest, which holds those of the other files. The last two are kept. Nothing in it
is code.
"""

import hashlib
import inspect
import json
import logging
import os
import random
import re
import shutil
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy
from keras.src.random.seed_generator import global_seed_generator

from kzoo import distribution
from kzoo.weights.fit import difference
from kzoo.weights.plain import is_plain

log = logging.getLogger(__name__)

MANIFEST, ARRAYS, FACTS = "manifest.json", "state.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{16})")
KEPT = 2


class SnapshotError(OSError):
    """A snapshot could not be written; the older ones are intact."""


@dataclass(frozen=True)
class State:
    """A run between two steps, as arrays and plain JSON.

    Attributes:
        step: training steps that are done.
        fingerprint: of what decides the run; a snapshot of another is not used.
    """

    step: int
    fingerprint: str
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)


def capture(
    model: keras.Model,
    callbacks: Mapping[str, keras.callbacks.Callback],
    step: int,
    fingerprint: str,
    facts: Mapping[str, Any],
    memory: dict[str, np.ndarray] | None = None,
) -> State:
    """Copies the state of a run that stands between two steps.

    Args:
        model: the compiled model that trains; on JAX its state must be synced, as
            ``Callback.model`` does.
        callbacks: those whose state belongs to the run, by a name each.
        step: training steps that are done.
        fingerprint: see :class:`State`.
        facts: more to keep, in plain JSON types.
        memory: where to copy to: the arrays of a state that is no longer needed. New
            memory of this size costs more than the copy into it.
    """
    where = distribution.current()
    arrays = {
        name: where.read(variable) for name, variable in _variables(model).items()
    }
    remembered: dict[str, Any] = {}
    for name, callback in callbacks.items():
        plain, kept = _callback_state(callback)
        remembered[name] = plain
        arrays |= {f"callback/{name}/{key}": value for key, value in kept.items()}
    for name, value in distribution.random_state().items():
        arrays[f"random/{name}"] = value
    return State(
        step=step,
        fingerprint=fingerprint,
        arrays={k: _copied(v, (memory or {}).get(k)) for k, v in arrays.items()},
        facts={**facts, "callbacks": remembered, "random": _random_state()},
    )


def _copied(array: np.ndarray, memory: np.ndarray | None) -> np.ndarray:
    if memory is None or (memory.shape, memory.dtype) != (array.shape, array.dtype):
        return np.array(array, order="C")
    np.copyto(memory, array)
    return memory


def restore(
    state: State,
    model: keras.Model,
    callbacks: Mapping[str, keras.callbacks.Callback],
) -> None:
    """Puts a run back where :func:`capture` found it.

    Raises:
        ValueError: the state is not of this model.
    """
    where = distribution.current()
    variables = _variables(model)
    ours = {k: where.shape(v) for k, v in variables.items()}
    theirs = {
        key: array.shape
        for key, array in state.arrays.items()
        if not key.startswith(("callback/", "random/"))
    }
    if ours != theirs:
        raise ValueError(
            "the snapshot is not of this model: "
            + difference(theirs, ours, ("the snapshot", "the model"))
        )
    for name, variable in variables.items():
        where.write(variable, state.arrays[name])
    for name, callback in callbacks.items():
        prefix = f"callback/{name}/"
        kept = {
            key.removeprefix(prefix): array
            for key, array in state.arrays.items()
            if key.startswith(prefix)
        }
        _restore_callback(callback, state.facts["callbacks"].get(name, {}), kept)
    distribution.set_random_state(
        {
            key.removeprefix("random/"): array
            for key, array in state.arrays.items()
            if key.startswith("random/")
        }
    )
    _set_random_state(state.facts["random"])


def prepare_variables(model: keras.Model, batch: tuple[np.ndarray, ...]) -> None:
    """Makes the variables that Keras would make in the first step.

    Optimizer slots and running metrics have none before it; a snapshot needs them.
    """
    model._symbolic_build(data_batch=batch)  # as fit does; it computes nothing
    model.reset_metrics()


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable that decides the rest, by name.

    The names do not change with other models that this process built.
    """
    if is_plain(model):  # which may have two weights of one path
        found = {f"weights/{i}": weight for i, weight in enumerate(model.weights)}
    else:
        found = {f"weights/{weight.path}": weight for weight in model.weights}
    known = {id(variable) for variable in found.values()}
    # Seeds: layers stand in the order of the graph, and a name that Keras counts up
    # (seed_generator_70) is not used.
    seeds = [v for v in model.variables if id(v) not in known]
    found |= {f"seed/{i}": variable for i, variable in enumerate(seeds)}
    found["seed/global"] = global_seed_generator().state
    for kind, variables in (
        ("optimizer", model.optimizer.variables),
        ("metric", model.metrics_variables),
    ):
        found |= {f"{kind}/{i}": variable for i, variable in enumerate(variables)}
    return found


# A callback's attributes that are the run's, not its own: Keras sets them anew.
_FOREIGN = frozenset({"params", "_params", "_model", "model", "validation_data"})


def _callback_state(
    callback: keras.callbacks.Callback,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Numbers, texts and lists of arrays among a callback's attributes.

    That is what Keras's own remember: the best value, patience, cooldown, weights. What
    the constructor takes is left alone: it is the caller's, and Keras's callbacks turn
    some of it over on their first epoch (``min_delta``).
    """
    given = set(inspect.signature(type(callback).__init__).parameters) | _FOREIGN
    plain: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    for name, value in vars(callback).items():
        if name in given:
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            plain[name] = value
        elif isinstance(value, tuple) and all(
            isinstance(item, int | float) for item in value
        ):
            plain[name] = {"tuple": list(value)}
        elif isinstance(value, list) and all(
            isinstance(item, np.ndarray) for item in value
        ):
            plain[name] = {"arrays": len(value)}
            arrays |= {f"{name}/{i}": item for i, item in enumerate(value)}
    return plain, arrays


def _restore_callback(
    callback: keras.callbacks.Callback,
    plain: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    for name, value in plain.items():
        if isinstance(value, dict) and "tuple" in value:
            value = tuple(value["tuple"])
        elif isinstance(value, dict):
            # Copies: the callback may change them, and the next capture reuses these.
            value = [arrays[f"{name}/{i}"].copy() for i in range(value["arrays"])]
        setattr(callback, name, value)


def _random_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def _set_random_state(stored: Mapping[str, Any]) -> None:
    version, numbers, gauss = stored["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = stored["numpy"]
    np.random.set_state((kind, np.array(keys, "uint32"), *rest))


class Writer:
    """Writes snapshots in a thread of its own, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread: threading.Thread | None = None
        self._error: SnapshotError | None = None

    def submit(self, state: State) -> None:
        """Writes this state, once the one before it is written.

        Raises:
            SnapshotError: the one before it could not be written.
        """
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(state,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Returns when nothing is being written; raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, state: State) -> None:
        try:
            write(self.folder, state)
            prune(self.folder)
        except Exception as error:  # in a thread nobody would hear of it
            why = getattr(error, "strerror", None) or error
            self._error = SnapshotError(
                f"the snapshot of step {state.step} could not be written to "
                f"{self.folder}: {why}; older ones are intact"
            )


def write(folder: Path, state: State, prefix: str = "step") -> Path:
    """Writes a snapshot; under its name it is whole or not there."""
    aside = folder / f".writing-{state.step:08d}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        files = {}
        for name, content in ((ARRAYS, state.arrays), (FACTS, dict(state.facts))):
            files[name] = _write_synced(aside / name, content)
        manifest = _write_synced(
            aside / MANIFEST,
            {"step": state.step, "fingerprint": state.fingerprint, "files": files},
        )
        _sync(aside)
        final = folder / f"{prefix}-{state.step:08d}-{manifest['sha256'][:16]}"
        if final.exists():  # the same state, written before
            return final
        aside.rename(final)
        _sync(folder)
        return final
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def prune(folder: Path) -> None:
    """Deletes all but the last snapshots, and what a killed writer left."""
    for path in listed(folder)[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


def clean(folder: Path) -> None:
    """Deletes what a killed writer left half-written."""
    for path in folder.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)


def listed(folder: Path) -> list[Path]:
    """The snapshots of a folder, the newest first, unchecked."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def newest(folder: Path, fingerprint: str) -> State | None:
    """The newest snapshot that is whole and of this run; None if there is none.

    The log says which was taken, and why a newer one was not.
    """
    for path in listed(folder):
        try:
            state = read(path)
        except (ValueError, OSError) as error:
            log.warning("snapshot %s is not used: %s", path.name, error)
            continue
        if state.fingerprint != fingerprint:
            log.warning("snapshot %s is not used: it is of another run", path.name)
            continue
        log.info("going on from snapshot %s", path.name)
        return state
    return None


def read(path: Path) -> State:
    """Reads a snapshot whose every byte is as it was written.

    Raises:
        ValueError: it is not.
        OSError: a file is missing or cannot be read.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise ValueError(f"{path.name} is not the name of a snapshot")
    manifest_bytes = (path / MANIFEST).read_bytes()
    if _sha256(manifest_bytes)[:16] != named[2]:
        raise ValueError(f"{MANIFEST} is damaged")
    manifest = json.loads(manifest_bytes)
    contents = {}
    for name, known in manifest["files"].items():
        contents[name] = (path / name).read_bytes()
        if _sha256(contents[name]) != known["sha256"]:
            raise ValueError(
                f"{name} is damaged: {len(contents[name])} bytes of {known['bytes']}, "
                "or other ones"
            )
    return State(
        step=manifest["step"],
        fingerprint=manifest["fingerprint"],
        arrays=safetensors.numpy.load(contents[ARRAYS]),
        facts=json.loads(contents[FACTS]),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_synced(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Writes arrays or plain JSON, by the file's name; its sha256 and size in bytes."""
    digest, size = hashlib.sha256(), 0
    parts = _json if path.suffix == ".json" else _safetensors
    with open(path, "wb") as file:
        for part in parts(content):
            for start in range(0, len(part), _CHUNK):
                chunk = part[start : start + _CHUNK]
                digest.update(chunk)
                size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"sha256": digest.hexdigest(), "bytes": size}


_CHUNK = 2**18  # bytes; what is hashed is still in the cache when it is written


def _json(content: Mapping[str, Any]) -> Iterator[memoryview]:
    yield memoryview(json.dumps(content).encode())


def _safetensors(arrays: Mapping[str, np.ndarray]) -> Iterator[memoryview]:
    """A file of the safetensors format, piece by piece, from where the arrays lie.

    The library's own writer costs the training that goes on meanwhile three times as
    much: it fills new memory and leaves the hash to a second reading.
    """
    header, end = {}, 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _dtype_name(array.dtype),
            "shape": array.shape,
            "data_offsets": (end, end + array.nbytes),
        }
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(struct.pack("<Q", len(text)) + text)
    for array in arrays.values():
        yield np.ascontiguousarray(array).reshape(-1).view("uint8").data


def _dtype_name(dtype: np.dtype) -> str:
    if dtype.kind not in "fiub" or not dtype.isnative:
        raise TypeError(f"a snapshot holds no arrays of {dtype}")
    return "BOOL" if dtype.kind == "b" else f"{dtype.kind.upper()}{8 * dtype.itemsize}"


def _sync(folder: Path) -> None:
    """A rename lasts once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
