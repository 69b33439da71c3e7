"""Processes of one job on this machine: started, watched, restarted and ended together.

A process that dies takes the job with it, since the others wait for its share of every
step. The job then starts again as it was, and goes on from its last snapshot. The
processes of a sweep share its trials instead of a training; they live and die alike.
"""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from kzoo.distribution.cluster import (
    START_SECONDS,
    free_addresses,
    local_environment,
    sweep_environment,
)

log = logging.getLogger(__name__)

MISTAKE = 2  # a user's mistake: another try would end alike
INTERRUPTED = 75  # stopped by a signal, and stands in a snapshot
STOP_SECONDS = 60.0  # for a snapshot, once a stop was asked for
GRACE_SECONDS = 2.0  # for the others, once one is gone
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Job:
    """What to start.

    Attributes:
        command: what each process runs, first the program.
        workers: how many processes.
        backend: Keras's; decides how they are told of one another.
        logs: folder for what each writes, ``rank-1.txt``; what the first one writes
            goes to the terminal, and its log to the run's own ``log.txt``.
        max_restarts: how often the job may start again.
        start_seconds: how long the processes wait for one another.
        sweep: whether the first one proposes trials, and the others train them. The
            job then ends with the first.
    """

    command: tuple[str, ...]
    workers: int
    backend: str
    logs: Path
    max_restarts: int = 0
    start_seconds: float = 300.0
    sweep: bool = False


def launch(job: Job, again: Callable[[Sequence[str]], Sequence[str]] = tuple) -> int:
    """Runs a job to its end.

    Args:
        job: what to start.
        again: the command of a restart, from that of the start.

    Returns:
        An exit code: 0 once all processes ended well, else that of the first that did
        not; ``INTERRUPTED`` after Ctrl-C or SIGTERM.
    """
    job.logs.mkdir(parents=True, exist_ok=True)
    command, restarts = list(job.command), 0
    with Asked() as asked:
        while True:
            started = Processes(job, command)
            try:
                code = started.watch(asked)
            finally:
                started.end()
            if code in (0, MISTAKE, INTERRUPTED) or asked.signal is not None:
                return code
            if restarts == job.max_restarts:
                if restarts:
                    log.error("the job was started %s times; giving up", restarts + 1)
                return code
            restarts += 1
            log.warning("restart %s of %s", restarts, job.max_restarts)
            command = list(again(command))


class Processes:
    """The processes of one start."""

    def __init__(self, job: Job, command: Sequence[str]) -> None:
        addresses = free_addresses(job.workers)
        self.job = job
        self.logs: list[IO[bytes]] = []
        self.running: list[subprocess.Popen[bytes]] = []
        for rank in range(job.workers):
            if job.sweep:
                told = sweep_environment(rank, addresses[0])
            else:
                told = local_environment(job.backend, rank, addresses)
            told |= {"KERAS_BACKEND": job.backend}
            told |= {START_SECONDS: f"{job.start_seconds:g}"}
            self.running.append(self._start(command, rank, told))

    def _start(
        self, command: Sequence[str], rank: int, told: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        output = None
        if rank:
            self.logs.append((self.job.logs / f"rank-{rank}.txt").open("ab"))
            output = self.logs[-1]
        # A session of their own: Ctrl-C reaches the launcher, which ends them in order.
        return subprocess.Popen(
            command,
            env={**os.environ, **told},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def watch(self, asked: "Asked") -> int:
        """Returns the exit code once all have ended well, or one has not.

        A worker of a sweep that comes too late for a trial would wait for a chief
        that is gone.
        """
        deadline = None
        while True:
            codes = [process.poll() for process in self.running]
            needed = codes[:1] if self.job.sweep else codes
            if all(code == 0 for code in needed):
                return 0
            if asked.signal is not None:
                if deadline is None:
                    deadline = time.monotonic() + STOP_SECONDS
                    # Each heeds it; they agree on the step after which they stop.
                    self._signal(signal.SIGTERM)
                late = time.monotonic() > deadline
                if asked.times > 1 or None not in codes or late:
                    return INTERRUPTED
            else:
                failed = [rank for rank, code in enumerate(codes) if code]
                if failed:
                    return self._told(failed[0], codes[failed[0]] or 0)
            time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Ends what still runs."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while self._alive() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        # Those that wait inside a step for one that is gone hear nothing.
        self._signal(signal.SIGKILL)
        for process in self.running:
            process.wait()
        for file in self.logs:
            file.close()

    def _alive(self) -> bool:
        return any(process.poll() is None for process in self.running)

    def _signal(self, number: signal.Signals) -> None:
        for process in self.running:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def _told(self, rank: int, code: int) -> int:
        """Tells how a process ended, and its last words; the job's exit code."""
        if rank:  # those of the first stand on the terminal
            path = self.job.logs / f"rank-{rank}.txt"
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            for line in lines[-3:]:
                log.error("%s", line)
        if code != MISTAKE:
            log.error("worker %s of %s %s", rank, self.job.workers, _how(code))
        return code if code > 0 else 1


class Asked:
    """Counts requests to stop, by Ctrl-C or SIGTERM, instead of dying of them."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.times = 0

    def __enter__(self) -> "Asked":
        heeded = (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.signal(number, self._heed) for number in heeded}
        return self

    def __exit__(self, *told: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self.times += 1
        log.warning(
            "%s: stopping after the step that is under way",
            signal.Signals(number).name,
        )


def _how(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"
