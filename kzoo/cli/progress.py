"""The line that tells how a training goes."""

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from kzoo import distribution

REFRESH_SECONDS = 0.5


class ProgressLine(keras.callbacks.Callback):
    """Epoch, loss, metric, examples a second and time left, in one line.

    It looks at the clock when a step begins and reads the metrics twice a second at
    most: reading them waits for the device, and a callback at the end of each step
    would do so every time.
    """

    remembered = False  # its clock is this process's

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.steps = int(self.params["steps"])
        self.epochs = int(self.params["epochs"])
        self.batch_size = int(self.params["batch_size"])
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            auto_refresh=False,
        )
        self.line: TaskID = self.progress.add_task(
            "epoch 1", total=self.steps * self.epochs, told=""
        )
        self.progress.start()
        self.epoch = 0
        self.first_step = int(self.params["first_step"])
        self.first_epoch, skipped = divmod(self.first_step, self.steps)
        self.skipped = skipped
        self.last_time = time.perf_counter()
        self.last_step = self.first_step
        self.validated = ""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        now = time.perf_counter()
        if now - self.last_time < REFRESH_SECONDS:
            return
        inside = batch + (self.skipped if self.epoch == self.first_epoch else 0)
        step = self.epoch * self.steps + inside
        # Several processes would have to read them at the same step.
        alone = distribution.current().shard[1] == 1
        found = self.model.get_metrics_result() if batch and alone else {}
        told = [f"{k} {float(v):.4g}" for k, v in found.items() if k != "finite"]
        rate = (step - self.last_step) / (now - self.last_time)
        told.append(self.validated)
        told.append(f"{rate * self.batch_size:,.0f} examples/s")
        self._show(step, "  ".join(part for part in told if part))
        self.last_time, self.last_step = now, step

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        shown = [
            f"{name.removeprefix('val_')} {value:.4g}"
            for name, value in (logs or {}).items()
            if name.startswith("val_") and name != "val_loss"
        ]
        self.validated = "validation " + ", ".join(shown[:1]) if shown else ""
        if not self.console.is_terminal:
            told = [f"{name} {value:.4g}" for name, value in (logs or {}).items()]
            told = [part for part in told if not part.startswith("best")]
            self.console.print(
                f"epoch {epoch + 1}/{self.epochs}  " + "  ".join(told),
                highlight=False,
                soft_wrap=True,
            )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.progress.stop()

    def _show(self, step: int, told: str) -> None:
        name = f"epoch {self.epoch + 1}/{self.epochs}"
        self.progress.update(self.line, completed=step, description=name, told=told)
        if self.console.is_terminal:
            self.progress.refresh()
