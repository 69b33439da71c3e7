"""Several processes on one sweep: KerasTuner's chief and workers, mended.

The chief serves its oracle; a worker asks for a trial, trains it in the sweep's folder,
which all of them see, and says that it is done. On one machine, ``tune`` starts the
workers; across machines they are started with KerasTuner's own variables:
``KERASTUNER_TUNER_ID`` (``chief`` or any other), ``KERASTUNER_ORACLE_IP`` and
``KERASTUNER_ORACLE_PORT``.

KerasTuner's chief waits for ever for a worker that died, and looks up every 20 seconds.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from kzoo import weights
from kzoo.distribution.cluster import (
    ORACLE_IP,
    ORACLE_PORT,
    TUNER_ID,
    sweep_environment,
    worker_name,
)
from kzoo.tuning import records
from kzoo.tuning.oracle import SweepOracle
from kzoo.tuning.oracles import ORACLES
from kzoo.tuning.request import Request, from_json
from kzoo.tuning.tuner import SweepTuner, Trials

log = logging.getLogger(__name__)

REQUEST = "request.json"
# A trial in which so many workers died has failed: it may need too much memory.
MOST_DEATHS = 3
POLL_SECONDS = 0.2


def role() -> str:
    """``alone``, ``chief`` or ``worker``, as KerasTuner's variables say.

    Raises:
        ValueError: some of them are missing.
    """
    known = (ORACLE_IP, ORACLE_PORT, TUNER_ID)
    missing = [name for name in known if name not in os.environ]
    if ORACLE_IP in missing:
        return "alone"
    if missing:
        raise ValueError(f"{ORACLE_IP} is set, and {' and '.join(missing)} is not")
    return "chief" if "chief" in os.environ[TUNER_ID] else "worker"


@contextmanager
def served(oracle: SweepOracle, address: str) -> Iterator[int]:
    """The oracle answers at this address; gives the port.

    Raises:
        ValueError: the address is taken, or not this machine's.
    """
    import grpc
    from keras_tuner.src import protos  # KerasTuner's own chief has no other door
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    service = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(service, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ValueError(f"the chief cannot listen at {address}: {error}") from None
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=1).wait()


def be_chief(oracle: SweepOracle) -> None:
    """Serves workers on other machines until all trials have ended."""
    address = _address()
    with served(oracle, address):
        log.info("the chief listens at %s", address)
        while not oracle.over:
            time.sleep(POLL_SECONDS)
        time.sleep(5 * POLL_SECONDS)  # for the last worker to hear of it


def be_worker(oracle: SweepOracle, trials: Trials, wait_seconds: float) -> None:
    """Runs trials that the chief gives.

    Raises:
        ValueError: no chief answers.
    """
    import grpc

    with grpc.insecure_channel(_address()) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=wait_seconds)
        except grpc.FutureTimeoutError:
            raise ValueError(
                f"no chief answers at {_address()} ({ORACLE_IP}, {ORACLE_PORT}) after "
                f"{wait_seconds:g} s"
            ) from None
    SweepTuner(oracle, trials).search()


def _address() -> str:
    """Where the chief listens."""
    return f"{os.environ[ORACLE_IP]}:{os.environ[ORACLE_PORT]}"


# Workers on this machine.


@dataclass
class Worker:
    """A process that runs trials."""

    rank: int
    process: "subprocess.Popen[bytes]"
    deaths: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the oracle knows it by."""
        return worker_name(self.rank)


def run_workers(oracle: SweepOracle, request: Request, sweep: Path, count: int) -> None:
    """Starts so many workers, serves them, and replaces those that die."""
    weights.write_json(sweep / REQUEST, request.to_json())
    with served(oracle, "127.0.0.1:0") as port:
        ranks = range(1, count + 1)  # the chief is rank 0
        workers = [Worker(rank, start(sweep, rank, port)) for rank in ranks]
        try:
            while workers:
                time.sleep(POLL_SECONDS)
                for worker in list(workers):
                    code = worker.process.poll()
                    if code is None:
                        continue
                    let_go(worker.process)
                    if code == 0 or oracle.over:
                        workers.remove(worker)
                    else:
                        bury(oracle, worker, code, sweep)
                        worker.process = start(sweep, worker.rank, port)
        finally:
            for worker in workers:
                worker.process.send_signal(signal.SIGTERM)
            for worker in workers:
                let_go(worker.process)


def start(sweep: Path, rank: int, port: int) -> "subprocess.Popen[bytes]":
    """A worker's process. It ends when this one does, whose pipe it listens to."""
    program = "import sys; from kzoo.tuning.workers import work; work(sys.argv[1])"
    environment = {
        **os.environ,
        **sweep_environment(rank, f"127.0.0.1:{port}"),
        "KERAS_BACKEND": keras.config.backend(),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    path = sweep / f"{worker_name(rank)}.log"
    told = open(path, "ab")  # noqa: SIM115 (the child's, closed below)
    with told:
        return subprocess.Popen(
            [sys.executable, "-c", program, str(sweep)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=told,
            stderr=told,
        )


def let_go(process: "subprocess.Popen[bytes]") -> None:
    """Waits for a process that ends, and closes its pipe."""
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def bury(oracle: SweepOracle, worker: Worker, code: int, sweep: Path) -> None:
    """Notes a worker's death; its trial goes on in the next one, but not for ever."""
    trial = oracle.ongoing_trials.get(worker.name)
    log.warning("%s died with code %s; see %s.log", worker.name, code, worker.name)
    id = trial.trial_id if trial else ""
    worker.deaths[id] = worker.deaths.get(id, 0) + 1
    if worker.deaths[id] < MOST_DEATHS:
        return
    told = f"the worker died {MOST_DEATHS} times, the last time with code {code}"
    if trial is None:
        oracle.gave_up = f"{told}, before it had a trial; see {worker.name}.log"
        return
    if code == -signal.SIGKILL:
        told += " (killed: too little memory?)"
    records.write_error(sweep / "trials", id, told)
    answer = keras_tuner.HyperParameters()
    oracle.end_trial(Trial(answer, trial_id=id, status=TrialStatus.FAILED))


def work(folder: str) -> None:
    """What a worker's process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING)
    sweep = Path(folder)
    request = from_json(weights.read_json(sweep / REQUEST))
    base = request.base()
    search = request.search(base, sweep)
    trials = Trials(
        request, base.dataset, search.objectives, search.folder, search.ranges
    )
    be_worker(ORACLES[request.tuner](search), trials, request.options.wait_seconds)


def _end_with_parent() -> None:
    sys.stdin.read()  # until the parent's end of the pipe is gone
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60.0)
    os._exit(1)
