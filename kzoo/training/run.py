"""The folder of a run.

    config.json  history.csv  metrics.json  model/  snapshots/  plots/  tensorboard/
    log.txt

``config.json`` holds everything that decides the run. ``metrics.json`` is written last:
a run that has it is finished.
"""

import csv
import hashlib
import json
import logging
import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kzoo import distribution, weights
from kzoo.tasks import get_task
from kzoo.weights.fit import difference, in_short

if TYPE_CHECKING:
    import keras

CONFIG, METRICS, HISTORY = "config.json", "metrics.json", "history.csv"
LOCK = ".lock"
LOGS = "logs"  # of the launcher's processes, by rank

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A run on disk.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """What decided the run."""
        return weights.read_json(self.folder / CONFIG)

    @property
    def metrics(self) -> dict[str, Any]:
        """``{"test": {...}, "validation": {...}, ...}``."""
        return weights.read_json(self.folder / METRICS)

    @property
    def monitor(self) -> str:
        """The metric that picked the epoch."""
        first = get_task(self.config["task"]).metrics[0]
        return str(self.metrics.get("monitor", first))

    def score(self, split: str, metric: str | None = None) -> float:
        """A metric of a split, by default the monitor; NaN where it is not defined."""
        value = self.metrics[split][metric or self.monitor]
        return math.nan if value is None else float(value)

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch."""
        with open(self.folder / HISTORY, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            return [{k: float(v) for k, v in row.items() if v} for row in rows]

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return (self.folder / METRICS).exists()

    def load(self) -> "keras.Model":
        """The trained model."""
        return weights.load(self.folder)


def open_run(run: Run | str | os.PathLike[str]) -> Run:
    """The run in this folder.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        ValueError: the folder holds no run; or its family's plug-in is not here.
    """
    if isinstance(run, Run):
        return run
    folder = Path(run)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    opened = Run(folder)
    if not {"model", "dataset", "recipe"} <= set(opened.config):
        raise ValueError(f"{folder / CONFIG} is not that of a run")
    _check_types(opened.config, folder / CONFIG)
    if not (folder / "model").is_dir():
        raise FileNotFoundError(f"{folder} has no model: the run has not finished")
    weights.model_folder(folder / "model")
    weights.check_plugin(opened.config, folder)
    return opened


# The types of what a run's config.json is asked for.
_TYPES: Mapping[tuple[str, ...], type] = {
    ("task",): str,
    ("model",): dict,
    ("model", "name"): str,
    ("model", "hparams"): dict,
    ("dataset",): dict,
    ("dataset", "name"): str,
    ("dataset", "options"): dict,
    ("dataset", "fingerprint"): str,
    ("recipe",): dict,
}


def _check_types(config: Mapping[str, Any], file: Path) -> None:
    """Raises a ``ValueError`` for the first entry of another type."""
    for path, kind in _TYPES.items():
        inner: Any = config
        for key in path[:-1]:
            inner = inner[key]
        if path[-1] in inner and not isinstance(inner[path[-1]], kind):
            word = "an object" if kind is dict else "a text"
            raise ValueError(
                f"{file}: {'.'.join(path)} is not {word}: {in_short(inner[path[-1]])}"
            )


def check_scorable(run: Run, dataset: Any = None) -> None:
    """Raises a ``ValueError`` for a run that no data of its own can score."""
    if "pretraining" in run.config:
        raise ValueError(
            f"{run.folder} is a pre-trained encoder without a head: train it on labels "
            "first, or probe its features (kzoo.probe)"
        )
    if dataset is None and run.config["dataset"]["name"] == "arrays":
        raise ValueError(
            f"{run.folder} was trained on arrays, which it does not hold: pass "
            "them as dataset="
        )


# What a run may change without being another run.
_FREE = ("versions", "plugin", "recipe.snapshot_every")
_START = "start.sha256"  # of the first weights, where all else is the same
EXISTING = ("resume", "fresh", "extend")


def standing(folder: Path, config: Mapping[str, Any], existing: str) -> str:
    """What a request finds in its folder: ``new``, ``unfinished`` or ``finished``.

    Args:
        folder: the run folder that was asked for.
        config: of the request.
        existing: ``resume`` goes on with the same run; ``fresh`` moves whatever run is
            there aside; ``extend`` goes on with one that differs by more epochs.

    Raises:
        ValueError: the folder holds something else, or another run (with what differs).
    """
    # The first process looks and tells the others: what they see is already changing.
    look = partial(_standing, folder, config, existing)
    return distribution.current().from_chief(look)


def _standing(folder: Path, config: Mapping[str, Any], existing: str) -> str:
    if check_run_folder(folder, existing) or existing == "fresh":
        return "new"
    then, now = decisive(Run(folder).config), decisive(config)
    longer = {**now, "recipe.epochs": then.get("recipe.epochs")} == then
    longer = longer and now["recipe.epochs"] > then["recipe.epochs"]
    if then == now:
        return "finished" if Run(folder).finished else "unfinished"
    if longer and existing == "extend":
        return "unfinished"
    hint = (
        "add --extend (existing='extend') to train for more epochs"
        if longer
        else "choose another folder, or --fresh (existing='fresh') to move it aside"
    )
    if {key for key in {*then, *now} if then.get(key) != now.get(key)} == {_START}:
        hint = (
            "build the model under keras.utils.set_random_seed to start from the same "
            f"weights, or {hint}"
        )
    told = difference(then, now, ("the folder", "the request"))
    raise ValueError(f"{folder} holds another run: {told}; {hint}")


def check_file(path: Path) -> None:
    """Raises where a file cannot be written: no such folder, or a folder itself."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file")


def check_run_folder(folder: Path, existing: str = "resume") -> bool:
    """Whether there is nothing in the folder yet, not even the folder.

    Raises:
        ValueError: a file, or a folder that holds something else than a run.
        PermissionError: nothing can be written there.
    """
    if existing not in EXISTING:
        raise ValueError(f"existing={existing!r} is not one of {', '.join(EXISTING)}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file")
    ancestor = next(path for path in (folder, *folder.parents, Path()) if path.exists())
    if not ancestor.is_dir():
        raise ValueError(f"{folder} cannot be made: {ancestor} is a file")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written: {ancestor} is read-only")
    if not folder.exists() or not any(visible(folder)):
        return True
    if not (folder / CONFIG).exists():
        raise ValueError(f"{folder} is not empty and holds no run; choose another")
    return False


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a run, flat: ``{"recipe.epochs": 40, ...}``."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value

    walk("", config)
    return {key: value for key, value in flat.items() if not key.startswith(_FREE)}


def fingerprint(config: Mapping[str, Any]) -> str:
    """sha256 of what decides a run's steps; more epochs leave it as it is."""
    told = {k: v for k, v in decisive(config).items() if k != "recipe.epochs"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@contextmanager
def prepared(folder: Path, config: Mapping[str, Any], existing: str) -> Iterator[Run]:
    """The run folder with its config, the chief of this run its only writer.

    Raises:
        ValueError: another process writes there.
    """
    with ExitStack() as stack:

        def prepare() -> str:
            stack.enter_context(_prepared(folder, config, existing))
            return ""

        distribution.current().from_chief(prepare)
        yield Run(folder)


@contextmanager
def _prepared(folder: Path, config: Mapping[str, Any], existing: str) -> Iterator[None]:
    if existing == "fresh" and folder.exists() and any(visible(folder)):
        with locked(folder):
            move_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        # Another process may have been quicker.
        found = _standing(folder, config, "resume" if existing == "fresh" else existing)
        stored = Run(folder).config if found != "new" else None
        if stored is not None and decisive(stored) != decisive(config):  # extended
            epochs = stored["recipe"]["epochs"]
            if (folder / METRICS).exists():
                (folder / METRICS).rename(folder / f"metrics.{epochs}.json")
        if found != "finished":
            weights.write_json(folder / CONFIG, dict(config))
        yield


def visible(folder: Path) -> list[Path]:
    """What a folder holds beside the lock and the launcher's logs."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, LOGS)]


def move_aside(folder: Path) -> None:
    """Renames it after the time, and logs the new name."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = folder.with_name(f"{folder.name}.{stamp}")
    number = 1
    while aside.exists():
        aside = folder.with_name(f"{folder.name}.{stamp}.{number}")
        number += 1
    folder.rename(aside)
    if (aside / LOGS).exists():  # those that are being written are the new run's
        folder.mkdir()
        (aside / LOGS).rename(folder / LOGS)
    log.info("the run that was there is now %s", aside)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer a folder; the lock goes with its process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    path = folder / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise ValueError(f"{folder} is being written by process {owner}") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)  # the file stays: deleting it would race


class _Recorder(logging.Handler):
    """Keeps what is logged in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def recorded() -> Iterator[list[logging.LogRecord]]:
    """What kzoo logs meanwhile, for a run whose folder is not there yet."""
    handler = _Recorder()
    with _listening(handler):
        yield handler.records


@contextmanager
def logged(folder: Path, before: Sequence[logging.LogRecord] = ()) -> Iterator[None]:
    """What kzoo logs meanwhile goes to the run's log.txt too, if this is its chief.

    Args:
        folder: of the run.
        before: what was logged before there was a folder.
    """
    if not distribution.current().is_chief:
        yield
        return
    # File names need not be UTF-8.
    handler = logging.FileHandler(
        folder / "log.txt", encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for record in before:
        handler.emit(record)
    with _listening(handler):
        yield


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("kzoo")
    level = logger.level
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Adds a row to a CSV file, with the header first."""
    new = not path.exists() or not path.stat().st_size
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
