"""Going on after a kill: when snapshots are taken, and how a run is put back.

A snapshot is taken before a step begins, so that no step waits for a callback, or after
an epoch is over. A run that stands inside an epoch is finished by two calls of ``fit``,
one for the rest of that epoch and one for the others: a single one over a shorter first
epoch would keep its length.
"""

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo import distribution
from kzoo.training import snapshots
from kzoo.training.recipe import every
from kzoo.training.snapshots import State

log = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and stands in a snapshot; the same call goes on."""


class NonFiniteLossError(ArithmeticError):
    """The model's outputs or its loss are no longer numbers."""


@dataclass(frozen=True)
class Leg:
    """One call of ``fit``.

    Attributes:
        epoch, end: the first epoch, counted from 0, and the one after the last.
        first_step: the training step that it begins with.
        steps: of each of its epochs.
    """

    epoch: int
    end: int
    first_step: int
    steps: int


def legs(step: int, steps_per_epoch: int, epochs: int) -> list[Leg]:
    """What is left of a run after ``step`` steps.

    >>> legs(25, steps_per_epoch=10, epochs=5)
    [Leg(epoch=2, end=3, first_step=25, steps=5), Leg(epoch=3, end=5, first_step=30, \
steps=10)]
    """
    epoch, done = divmod(step, steps_per_epoch)
    left = []
    if done:
        left.append(Leg(epoch, epoch + 1, step, steps_per_epoch - done))
        epoch += 1
    if epoch < epochs:
        left.append(Leg(epoch, epochs, epoch * steps_per_epoch, steps_per_epoch))
    return left


class Snapshots(keras.callbacks.Callback):
    """Takes snapshots; put it last, so that the others have had their say.

    Args:
        folder: ``snapshots/`` of the run.
        snapshot_every: see :func:`every`.
        fingerprint: of what decides the run.
        remembered: the callbacks whose state belongs to the run, by a name each.
        steps_per_epoch, epochs: of the whole run.
        history: the file that holds the epochs' record.
    """

    def __init__(
        self,
        folder: Path,
        snapshot_every: str,
        fingerprint: str,
        remembered: Mapping[str, keras.callbacks.Callback],
        steps_per_epoch: int,
        epochs: int,
        history: Path,
    ) -> None:
        super().__init__()
        self.every_steps, self.every_seconds = every(snapshot_every)
        self.writer = snapshots.Writer(folder)
        self.memory: dict[str, np.ndarray] = {}
        self.folder = folder
        self.fingerprint = fingerprint
        self.remembered = remembered
        self.steps_per_epoch = steps_per_epoch
        self.epochs = epochs
        self.history = history
        self.signal: int | None = None
        self.pending: State | None = None
        self.saved_step = 0
        self.saved_time = time.monotonic()

    def newest(self) -> State | None:
        """The state to go on from: the chief's choice, read by every process."""
        found: list[State] = []

        def choose() -> str:
            snapshots.clean(self.folder)
            state = snapshots.newest(self.folder, self.fingerprint)
            found.extend([state] if state else [])
            return str(state.step) if state else ""

        step = distribution.current().from_chief(choose)
        if not step or found:
            return found[0] if found else None
        for path in snapshots.listed(self.folder):
            state = snapshots.read(path)
            if state.step == int(step):
                return state
        raise ValueError(
            f"the first process goes on from step {step}, of which {self.folder} holds "
            "no snapshot here: all processes need the same folder"
        )

    def begin(self, leg: Leg, pending: State | None) -> None:
        """Told before each ``fit``: what it covers, and the state to start from."""
        self.leg = leg
        self.agreement = Agreement(leg.first_step)
        self.pending = pending
        self.saved_step = leg.first_step
        self.saved_time = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch
        if self.pending is not None:
            # After Keras has reset the metrics, and before JAX fetches its state.
            snapshots.restore(self.pending, self.model, self.remembered)
            if self.pending.step % self.steps_per_epoch == 0:
                self.model.reset_metrics()  # those of the epoch before
            self.pending = None

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        step = self._step(batch)
        stop, due = self._decided(step)
        if stop is not None:
            if step > self.saved_step:
                self._save(self._state(step), wait=True)
            raise Interrupted(f"{signal.Signals(stop).name}: stopped after step {step}")
        if step > self.saved_step and due:
            self._save(self._state(step))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        step = (epoch + 1) * self.steps_per_epoch
        last = epoch + 1 == self.epochs or self.model.stop_training
        hand_over = epoch + 1 == self.leg.end
        stop, due = self._decided(step, now=True)
        if not (last or hand_over or stop is not None or due):
            return
        state = self._state(step)
        self.pending = state if hand_over else None  # for the leg that may follow
        if last or stop is not None or due:
            self._save(state, wait=last or stop is not None)
        if stop is not None and not last:
            raise Interrupted(f"{signal.Signals(stop).name}: stopped after step {step}")

    def check_finite(self, logs: Mapping[str, Any], step: int) -> None:
        """Raises where outputs or loss of this epoch are not numbers.

        ``logs["finite"]`` is the share of finite outputs since the epoch began. What is
        not finite stays so, so the share tells the step.

        Raises:
            NonFiniteLossError: names the step and the last finite snapshot.
        """
        share = float(logs.get("finite", 1.0))
        if share == 1.0 and np.isfinite(float(logs.get("loss", 0.0))):
            return
        epoch = (step - 1) // self.steps_per_epoch
        done = step - epoch * self.steps_per_epoch
        first = epoch * self.steps_per_epoch + min(int(share * done + 1e-3) + 1, done)
        self.writer.wait()
        kept = snapshots.listed(self.folder)
        state = snapshots.capture(
            self.model, self.remembered, step, self.fingerprint, self._facts()
        )
        diverged = f"diverged-{step:08d}-..."
        if distribution.current().is_chief:
            diverged = snapshots.write(self.folder, state, prefix="diverged").name
        raise NonFiniteLossError(
            f"the outputs are no longer finite since step {first}; last finite "
            f"snapshot: {kept[0].name if kept else 'none'}; the state of step {step} "
            f"is in {diverged}. A lower learning_rate, clip=1 or more "
            "warmup_steps may help"
        )

    def _step(self, batch: int) -> int:
        """Training steps done when this batch of the running epoch begins."""
        if self.epoch == self.leg.epoch:
            return self.leg.first_step + batch
        return self.epoch * self.steps_per_epoch + batch

    def _decided(self, step: int, now: bool = False) -> tuple[int | None, bool]:
        """The signal to stop for, and whether a snapshot is due; for all processes."""
        stop, due = self.signal, self._due(step)
        if distribution.current().shard[1] == 1:
            return stop, due
        stop, late = self.agreement.reached(step, stop, due, now)
        # Steps are counted alike everywhere; clocks are not.
        return stop, late if self.every_steps is None else due

    def _due(self, step: int) -> bool:
        if self.every_steps is not None:
            return step - self.saved_step >= self.every_steps
        return time.monotonic() - self.saved_time >= (self.every_seconds or 0.0)

    def _state(self, step: int) -> State:
        model = self.model  # on JAX this brings the state up to date
        if step % self.steps_per_epoch:
            self.check_finite(model.get_metrics_result(), step)
        self.writer.wait()  # it reads the memory that this state is copied to
        state = snapshots.capture(
            model,
            self.remembered,
            step,
            self.fingerprint,
            self._facts(),
            self.memory,
        )
        self.memory = dict(state.arrays)
        return state

    def _facts(self) -> dict[str, Any]:
        text = self.history.read_text() if self.history.exists() else ""
        return {"history": text, "stopped": bool(self.model.stop_training)}

    def _save(self, state: State, wait: bool = False) -> None:
        self.saved_step, self.saved_time = state.step, time.monotonic()
        if not distribution.current().is_chief:
            return
        self.writer.submit(state)
        if wait:
            self.writer.wait()


class Agreement:
    """What several processes do at the same step: stop, or take a snapshot.

    Each has a clock of its own, and a signal may reach one alone; what only some of
    them do, the others would wait for without end. So they exchange a message after as
    many steps as the first of them does in about a second.
    """

    def __init__(self, step: int) -> None:
        self.last_step, self.next_step = step, step + 1
        self.last_time = time.monotonic()

    def reached(
        self, step: int, stop: int | None, due: bool, now: bool
    ) -> tuple[int | None, bool]:
        """The signal that any process got, and whether the first one's time is up.

        Args:
            step: steps done; the same on each process.
            stop: the signal that this process got.
            due: whether this process thinks that it is time.
            now: whether to exchange a message whatever the step.
        """
        if step < self.next_step and not now:
            return None, False
        seconds = max(time.monotonic() - self.last_time, 1e-3)
        pace = min(max(round((step - self.last_step) / seconds), 1), 1000)
        told = np.array([stop or 0, due, pace], "int32")
        heard = distribution.current().gather(told)  # (processes, 3)
        self.last_step, self.last_time = step, time.monotonic()
        self.next_step = step + int(heard[0, 2])
        return int(heard[:, 0].max()) or None, bool(heard[0, 1])


@contextmanager
def heeding_signals(taken: Snapshots) -> Iterator[None]:
    """SIGTERM and SIGINT end the run after the step that is under way.

    The second one acts as it would without kzoo. Only a process's main thread can heed
    signals; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in heeded}

    def heed(number: int, frame: Any) -> None:
        taken.signal = number
        log.info("%s: finishing the step", signal.Signals(number).name)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in heeded:
        signal.signal(number, heed)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
