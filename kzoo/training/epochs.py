"""What happens after each epoch: validation, the best weights, the record."""

import logging
import math
import shutil
import sys
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution
from kzoo.datasets import Dataset
from kzoo.training.evaluate import split_scores
from kzoo.training.monitor import Monitor
from kzoo.training.resume import Snapshots
from kzoo.training.run import HISTORY, Run, append_row
from kzoo.weights import write_text

log = logging.getLogger(__name__)

# A line an epoch for log.txt; a terminal that shows progress already leaves it out.
EPOCHS = logging.getLogger("kzoo.epochs")


class Validation(keras.callbacks.Callback):
    """Scores the validation split, keeps the best weights, stops early.

    The score is the monitor's, ties go to the lower loss. With EMA on, the averaged
    weights are scored and kept.

    Args:
        monitor: the metric that picks the epoch.
        patience: epochs without a better one before the end; 0 = never.
        kept: the model that is scored; the one that trains, or one inside it.
        dataset: of the run.

    Attributes:
        best_epoch: counted from 1; 0 before the first validation.
        best_weights: the kept model's weights of that epoch, in their order.
    """

    def __init__(
        self, monitor: Monitor, patience: int, kept: keras.Model, dataset: Dataset
    ) -> None:
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.kept = kept
        self.dataset = dataset
        self.best_epoch = 0
        self.best_value: tuple[float, float, float] | None = None
        self.best_weights: list[np.ndarray] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        # In the units of the targets, as val_loss is.
        logs["loss"] *= (self.dataset.preprocessing.target_scale or 1.0) ** 2
        with averaged(self.model), distribution.current().settled(self.kept):
            scores = split_scores(self.kept, self.dataset, "validation")
            scores.pop("classes", None)
            value = self.monitor.value(scores)
            better = self.best_value is None or value > self.best_value
            if better:
                self.best_value, self.best_epoch = value, epoch + 1
                self.best_weights = [
                    distribution.current().value(weight) for weight in self.kept.weights
                ]
        names = dict.fromkeys(("loss", self.monitor.metric, *scores))
        logs.update({f"val_{name}": scores[name] for name in names})
        logs["best"] = float(better)
        EPOCHS.info("%s", self._line(epoch + 1, logs))
        if self.patience and epoch + 1 - self.best_epoch >= self.patience:
            log.info("no better epoch since %s: stopping early", self.best_epoch)
            self.model.stop_training = True

    def _line(self, epoch: int, logs: Mapping[str, float]) -> str:
        """What an epoch came to, for the log."""
        names = dict.fromkeys(("loss", self.monitor.metric))
        shown = [f"{name} {logs[f'val_{name}']:.4g}" for name in names]
        return (
            f"epoch {epoch}/{self.params['epochs']}: loss {logs['loss']:.4g}; "
            f"validation {', '.join(shown)}{'; kept' if logs['best'] else ''}"
        )

    @property
    def verdict(self) -> str:
        """Which epoch is kept, by what, and why by this metric."""
        assert self.best_value is not None
        score, metric = self.monitor.score(self.best_value), self.monitor.metric
        said = f"validation {metric} {score:.4g} is the best"
        if math.isnan(score):
            said = f"validation {metric} is not defined, and its loss is the least"
        return f"epoch {self.best_epoch} is kept: {said} ({self.monitor.reason})"

    def restore_best(self) -> None:
        """Gives the kept model the weights of the best epoch."""
        for weight, value in zip(self.kept.weights, self.best_weights, strict=True):
            weight.assign(value)


class Finite(keras.callbacks.Callback):
    """Ends the run after an epoch whose outputs were not all numbers; put it first."""

    def __init__(self, taken: Snapshots) -> None:
        super().__init__()
        self.taken = taken

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        self.taken.check_finite(logs, (epoch + 1) * self.taken.steps_per_epoch)
        logs.pop("finite", None)  # always 1 from here on


class Record(keras.callbacks.Callback):
    """Writes history.csv and TensorBoard's events, a row an epoch."""

    def __init__(self, folder: Path, steps_per_epoch: int) -> None:
        super().__init__()
        self.folder = folder
        self.steps_per_epoch = steps_per_epoch
        self.started = time.perf_counter()
        self.earlier: list[dict[str, float]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.board = _board(self.folder / "tensorboard")
        for row in self.earlier:
            self._show(row)
        self.earlier = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = (epoch + 1) * self.steps_per_epoch
        row: dict[str, float] = {"epoch": epoch + 1, "step": step}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        row["learning_rate"] = float(rate)
        row["seconds"] = round(time.perf_counter() - self.started, 3)
        append_row(self.folder / HISTORY, row)
        self._show(row)
        self.board.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.board.close()

    def rewind(self, history: str) -> None:
        """Back to an earlier record: later rows of a killed run never were."""
        write_text(self.folder / HISTORY, history)
        shutil.rmtree(self.folder / "tensorboard", ignore_errors=True)
        self.earlier = Run(self.folder).history

    def _show(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name not in ("epoch", "step"):
                self.board.add_scalar(name, value, int(row["step"]))


def _board(folder: Path) -> Any:
    """TensorBoard's own writer, which unlike Keras's callback needs no TensorFlow."""
    if keras.config.backend() != "tensorflow":
        # TensorBoard's switch: its own file code, not seconds of importing TensorFlow.
        sys.modules.setdefault(
            "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf")
        )
    from tensorboard.summary import Writer

    folder.mkdir(exist_ok=True)
    return Writer(str(folder))


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """The model with its averaged weights, where the optimizer keeps an average."""
    # Under mixed_float16 Keras wraps it in one that scales the loss.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not getattr(optimizer, "use_ema", False):
        yield
        return
    variables = model.trainable_variables
    current = [keras.ops.copy(variable.value) for variable in variables]
    averages = optimizer._model_variables_moving_average  # no public name
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(keras.ops.copy(average.value))
    try:
        yield
    finally:
        for variable, value in zip(variables, current, strict=True):
            variable.assign(value)
