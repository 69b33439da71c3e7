"""SIGKILL at random and at aimed moments; the end must be the undisturbed run's bits.

    python benchmarks/kill_test.py                        # 100 kills, about 15 minutes
    python benchmarks/kill_test.py --backend jax
    python benchmarks/kill_test.py --kills 10 --rounds 1  # CI's, on TensorFlow

One short training (convolutions, dropout, shifts, EMA, warm-up, a snapshot every three
steps) is killed again and again and then let through; weights, the last snapshot's
every array (optimizer, seeds, running metrics, best weights) and the history without
its times are compared by sha256. The parent imports Keras once and forks.
"""

import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

AIMS = ("write", "rename", "restore", "validation")
SETTINGS: dict[str, Any] = {
    "filters": (8, 16),
    "num_convs": 1,
    "dense_units": 16,
    "dropout_rate": 0.3,
    "ema": 0.9,
    "warmup_steps": 20,
    "epochs": 4,
    "snapshot_every": "3",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--rounds", type=int, default=10, help="trainings, killed alike"
    )
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--seed", type=int, default=0)
    parsed = parser.parse_args()
    os.environ["KERAS_BACKEND"] = parsed.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import kzoo.training  # noqa: F401 - imported before the forks, once

    rng = random.Random(parsed.seed)
    folder = Path(tempfile.mkdtemp(prefix="kill_test."))
    try:
        return killed_and_compared(parsed, rng, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def killed_and_compared(
    parsed: argparse.Namespace, rng: random.Random, folder: Path
) -> int:
    whole = folder / "undisturbed"
    started = time.perf_counter()
    outcome = launch(whole, "none", 0.0)
    length = time.perf_counter() - started
    if outcome != "finished":
        print(f"the undisturbed run ended as: {outcome}")
        return 1
    expected = ending(whole)
    phases: collections.Counter[str] = collections.Counter()
    aimed: collections.Counter[str] = collections.Counter()
    wrong, after_first_step = 0, 0
    each = -(-parsed.kills // parsed.rounds)
    for number in range(parsed.rounds):
        run = folder / f"round-{number}"
        hits = 0
        # Half of the kills are aimed, at what was hit least. A launch that ends before
        # its kill is no kill: the run is then done, and another one begins, which has
        # nothing to restore.
        while hits < each and sum(phases.values()) < parsed.kills:
            stepped = stepped_once(run)
            legal = [aim for aim in AIMS if stepped or aim != "restore"]
            aim = min(legal, key=aimed.__getitem__) if hits % 2 else "random"
            phase = launch(run, aim, rng.uniform(0, 1.2 * length))
            if phase == "finished":
                wrong += ending(run) != expected
                shutil.rmtree(run)
                continue
            hits += 1
            phases[phase] += 1
            aimed[aim] += 1
            after_first_step += stepped or stepped_once(run) or phase != "start"
            print(f"{sum(phases.values()):3} {aim}: {phase}", file=sys.stderr)
        if (end := launch(run, "none", 0.0)) != "finished" or ending(run) != expected:
            wrong += 1
            print(f"round {number}: {end}, and the end differs")
    kills = sum(phases.values())
    print(f"{kills} kills on {parsed.backend}, {after_first_step} after the first step")
    print("aims:  ", ", ".join(f"{name} {aimed[name]}" for name in ("random", *AIMS)))
    print("phases:", ", ".join(f"{name} {n}" for name, n in sorted(phases.items())))
    print(f"runs that were lost or ended otherwise: {wrong}")
    return 1 if wrong else 0


def stepped_once(run: Path) -> bool:
    return any((run / "snapshots").glob("step-*"))


def ending(run: Path) -> tuple[str, ...]:
    """sha256 of the model, of the last snapshot's arrays, and of the history."""
    from kzoo.training import Run, snapshots

    last = snapshots.read(snapshots.listed(run / "snapshots")[0])
    arrays = hashlib.sha256()
    for name in sorted(last.arrays):
        arrays.update(name.encode() + last.arrays[name].tobytes())
    rows = [{**row, "seconds": 0} for row in Run(run).history]
    model = (run / "model" / "model.safetensors").read_bytes()
    history = json.dumps(rows).encode()
    return (
        hashlib.sha256(model).hexdigest(),
        arrays.hexdigest(),
        hashlib.sha256(history).hexdigest(),
    )


def launch(run: Path, aim: str, delay: float) -> str:
    """Trains in a forked process; ``finished``, or the phase in which it was killed."""
    phase_file = run.with_suffix(".phase")
    phase_file.write_text("start")
    child = os.fork()
    if child == 0:
        try:
            train(run, aim, delay, phase_file)
        except BaseException as error:
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr)
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return "finished" if os.WEXITSTATUS(status) == 0 else "failed"
    return phase_file.read_text()


def train(run: Path, aim: str, delay: float, phase_file: Path) -> None:
    import keras

    import kzoo
    from kzoo.training import epochs, fit, snapshots

    # Not the process's own generator, which belongs to the run.
    dice = random.Random(os.urandom(8))

    def enter(name: str) -> None:
        # Replaced whole: the kill may come from another thread, and at any moment.
        written = phase_file.with_suffix(f".{threading.get_ident()}")
        written.write_text(name)
        written.replace(phase_file)

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def within(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its phase noted; killed inside it if that is the aim."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            enter(name)
            if aim == name and dice.random() < 0.5:
                die()
            result = function(*args, **kwargs)
            enter("steps")
            return result

        return wrapped

    write = snapshots._write_synced

    def half_written(path: Path, content: Any) -> Any:
        enter("write")
        told = write(path, content)
        if aim == "write" and dice.random() < 0.2:
            os.truncate(path, dice.randrange(told["bytes"]))
            die()
        return told

    class Steps(keras.callbacks.Callback):
        remembered = False

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            enter("steps")

    snapshots._write_synced = half_written
    snapshots.prune = within("rename", snapshots.prune)  # after rename, before prune
    # In the middle of a restore: variables are assigned, callbacks are not.
    snapshots._restore_callback = within("restore", snapshots._restore_callback)
    epochs.split_scores = within("validation", epochs.split_scores)
    fit.split_scores = within("evaluation", fit.split_scores)
    if aim == "random":
        timer = threading.Timer(delay, die)
        timer.daemon = True
        timer.start()
    kzoo.train("cnn", "digits", out=run, callbacks=[Steps()], **SETTINGS)


if __name__ == "__main__":
    sys.exit(main())
