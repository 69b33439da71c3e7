"""What is known of the trials: a JSON file each, written in one step, and their table.

    trials/0007.json          the record: status, values, score
    trials/0007/              the trial's run folder
    trials/0007.result.json   what the worker found
    trials/0007.error.txt     what went wrong, where something did

The records are all that a sweep needs to go on.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kzoo import weights
from kzoo.training.run import HISTORY, Run
from kzoo.tuning.objectives import Objective

RUNNING, PAUSED, COMPLETED, PRUNED, FAILED = (
    "running",
    "paused",
    "completed",
    "pruned",
    "failed",
)
ENDED = (PAUSED, COMPLETED, PRUNED, FAILED)
TABLE = "trials.csv"


@dataclass
class Record:
    """A trial.

    Attributes:
        number: counted from 0, in the order of their starts.
        status: ``running``; ``paused``, it may get more epochs; ``completed``, it had
            them all, or stopped early by itself; ``pruned``; or ``failed``.
        values: its hyper-parameters.
        seed: of its first execution.
        until: the epoch that it trains to.
        epochs: that it has trained.
        objectives: their values on the kept weights, the mean of its executions.
        loss: on the validation split; the lower one wins a tie.
        ended: its place in the order of the ends.
    """

    number: int
    status: str
    values: dict[str, Any]
    seed: int
    until: int
    epochs: int = 0
    objectives: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    ended: int | None = None

    @property
    def id(self) -> str:
        """As KerasTuner knows it."""
        return trial_id(self.number)

    def save(self, folder: Path) -> None:
        """Writes it, in one step."""
        weights.write_json(folder / f"{self.id}.json", asdict(self))


def trial_id(number: int) -> str:
    """The name of a trial's files.

    >>> trial_id(7)
    '0007'
    """
    return f"{number:04d}"


def load_records(folder: Path) -> list[Record]:
    """All records of a sweep, in order."""
    found = [
        load_record(folder, path.stem)
        for path in folder.glob("*.json")
        if path.stem.isdigit()
    ]
    return sorted(found, key=lambda record: record.number)


def load_record(folder: Path, id: str) -> Record:
    """One record."""
    return Record(**weights.read_json(folder / f"{id}.json"))


def seed_of(sweep_seed: int, *words: Any) -> int:
    """A seed from the sweep's, by hash: the same whoever asks, and in what order.

    >>> seed_of(0, 3, 0) == seed_of(0, 3, 0) != seed_of(0, 3, 1)
    True
    """
    text = "/".join(str(word) for word in (sweep_seed, *words))
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2**31


def ranked(found: Iterable[Record], objective: Objective) -> list[Record]:
    """Trials with a score, the best first."""
    scored = [record for record in found if record.objectives]
    return sorted(
        scored,
        key=lambda record: (
            -objective.gain(record.objectives[objective.name]),
            record.loss,
            record.number,
        ),
    )


def table(
    records: Sequence[Record], names: Sequence[str], objectives: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a trial: ``trial, status, score, epochs, seed``, the hyper-parameters.

    With several objectives, the score is the first one's, and the others stand last.
    """
    rows = []
    for record in records:
        row: dict[str, Any] = {"trial": record.number, "status": record.status}
        row["score"] = record.objectives.get(objectives[0], "")
        row |= {"epochs": record.epochs, "seed": record.seed}
        row |= {name: record.values.get(name, "") for name in names}
        row |= {name: record.objectives.get(name, "") for name in objectives[1:]}
        rows.append(row)
    return rows


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes a CSV file in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    weights.write_text(path, text.getvalue())


@dataclass(frozen=True)
class Result:
    """What a trial came to, from the worker to the oracle; see :class:`Record`."""

    objectives: dict[str, float]
    loss: float
    epochs: int
    pruned: bool

    def save(self, folder: Path, id: str) -> None:
        """Writes it, in one step."""
        weights.write_json(folder / f"{id}.result.json", asdict(self))


def load_result(folder: Path, id: str) -> Result:
    """What the worker left."""
    return Result(**weights.read_json(folder / f"{id}.result.json"))


def write_error(folder: Path, id: str, traceback: str) -> None:
    """What went wrong in a trial."""
    weights.write_text(folder / f"{id}.error.txt", traceback)


def last_line_of_error(folder: Path, id: str) -> str:
    """What went wrong, in a line."""
    path = folder / f"{id}.error.txt"
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "no traceback was left"


def history(run_folder: Path) -> list[dict[str, float]]:
    """The epochs of a trial, as far as they are written."""
    path = run_folder / HISTORY
    return Run(run_folder).history if path.exists() else []
