"""What a sweep leaves on disk: the best checkpoints, under a cap."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from kzoo.tuning.records import PAUSED, RUNNING, Record

# The weights, the best ones, the optimizer's two slots and an average.
STATES = 5
# Two snapshots and the one that is being written; the model's folder, old and new.
COPIES = 5


def size(folder: Path) -> int:
    """Bytes of all files under a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # another worker's, just deleted
            continue
    return total


def lacking(model: keras.Model, sweep: Path, cap_gb: float) -> str:
    """Why a trial of this model might not fit under the cap, or nothing."""
    needed, used = COPIES * STATES * 4 * model.count_params(), size(sweep)
    if used + needed <= cap_gb * 1e9:
        return ""
    return (
        f"the trial may take {needed / 1e9:.3g} GB beside the {used / 1e9:.3g} GB of "
        f"the sweep, and disk_gb is {cap_gb:g}"
    )


def tidy(folder: Path, found: Sequence[Record], kept: Sequence[Record]) -> None:
    """Deletes what is not needed any more: losers' models, ended trials' snapshots.

    Args:
        folder: ``trials/``.
        found: all trials; those that run or are paused keep what they have.
        kept: those whose models stay.
    """
    numbers = {record.number for record in kept}
    for record in found:
        if record.status in (RUNNING, PAUSED):
            continue
        for run in (folder / record.id, *folder.glob(f"{record.id}.execution_*")):
            shutil.rmtree(run / "snapshots", ignore_errors=True)
            if record.number not in numbers:
                shutil.rmtree(run / "model", ignore_errors=True)
