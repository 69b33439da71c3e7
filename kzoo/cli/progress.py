"""The line that tells how a training goes."""

import time
from collections.abc import Callable, Iterable
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
from rich.table import Column

from kzoo import distribution

REFRESH_SECONDS = 0.5
REPORT_SECONDS = 30.0  # between two lines where there is no terminal
TIME_WIDTH = len("-:--:--")


class ProgressLine(keras.callbacks.Callback):
    """How a training goes: one line of a terminal, or lines of a file.

    In a terminal it holds epoch, loss, metric, examples a second and time left.
    Elsewhere there is a line at the start, one each half minute, and one an epoch.

    It looks at the clock when a step begins and reads the metrics twice a second at
    most: reading them waits for the device, and a callback at the end of each step
    would do so every time.

    Args:
        clock: seconds from any moment on.
        console: where to write; None = standard error.
    """

    remembered = False  # its clock is this process's

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        console: Console | None = None,
    ) -> None:
        super().__init__()
        self.clock = clock
        self.console = console or Console(stderr=True)
        self.begun = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.steps = int(self.params["steps"])
        self.epochs = int(self.params["epochs"])
        self.batch_size = int(self.params["batch_size"])
        self.bar_width = 20 if self.console.width >= 100 else 10
        self.progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=self.bar_width),
            TextColumn("{task.fields[metrics]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            auto_refresh=False,
        )
        self.line: TaskID = self.progress.add_task(
            "epoch 1", total=self.steps * self.epochs, metrics=""
        )
        self.progress.start()
        self.epoch = 0
        self.first_step = int(self.params["first_step"])
        self.first_epoch, skipped = divmod(self.first_step, self.steps)
        self.skipped = skipped
        self.last_time = self.last_report = self.clock()
        self.last_step = self.first_step
        self.validated = ""
        if not self.begun and not self.console.is_terminal:
            self._report(self._beginning())
        self.begun = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        now = self.clock()
        pause = REFRESH_SECONDS if self.console.is_terminal else REPORT_SECONDS
        last = self.last_time if self.console.is_terminal else self.last_report
        if now - last < pause:
            return
        inside = batch + (self.skipped if self.epoch == self.first_epoch else 0)
        step = self.epoch * self.steps + inside
        # Several processes would have to read them at the same step.
        alone = distribution.current().shard[1] == 1
        found = self.model.get_metrics_result() if batch and alone else {}
        metrics = [f"{k} {float(v):.4g}" for k, v in found.items() if k != "finite"]
        rate = (step - self.last_step) / max(now - self.last_time, 1e-9)
        speed = f"{rate * self.batch_size:,.0f} examples/s"
        # The first ones are the last to go where the terminal is narrow.
        parts = [*metrics[:2], self.validated, speed, *metrics[2:]]
        if self.console.is_terminal:
            self._show(step, parts)
        else:
            place = f"epoch {self.epoch + 1}/{self.epochs}, step {inside}/{self.steps}"
            self._report("  ".join([place, *filter(None, parts)]))
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
            self._report(f"epoch {epoch + 1}/{self.epochs}  " + "  ".join(told))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.progress.stop()

    def _beginning(self) -> str:
        """What is trained, for how long; the first step follows, which is compiled."""
        model: Any = self.model
        name = getattr(model, "student", model).name
        at = f", from step {self.first_step}" if self.first_step else ""
        return (
            f"training {name}: {self.epochs} epochs of {self.steps} steps of "
            f"{self.batch_size} examples{at}; compiling the first step"
        )

    def _report(self, text: str) -> None:
        """A line of a file; it is never cut."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self.last_report = self.clock()

    def _show(self, step: int, parts: Iterable[str]) -> None:
        name = f"epoch {self.epoch + 1}/{self.epochs}"
        # A blank stands between two columns.
        room = self.console.width - len(name) - self.bar_width - TIME_WIDTH - 3
        self.progress.update(
            self.line, completed=step, description=name, metrics=fitted(parts, room)
        )
        self.progress.refresh()


def fitted(parts: Iterable[str], width: int) -> str:
    """As many of the parts as fit, the first ones before the others.

    >>> fitted(["loss 0.5", "validation accuracy 0.25", "", "9 examples/s"], 22)
    'loss 0.5  9 examples/s'
    """
    text = ""
    for part in filter(None, parts):
        longer = f"{text}  {part}" if text else part
        if len(longer) <= width:
            text = longer
    return text
