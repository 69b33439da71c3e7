"""What snapshots cost a run, and how long a restore takes.

    python benchmarks/snapshots.py     # 20 minutes
    python benchmarks/snapshots.py --seconds 60 --rounds 2

A model of 10 M weights trains with a snapshot every six seconds, as a ten-minute run
with a hundred of them has, and without; rounds are interleaved in one process. The time
is that of all steps after the first twenty: a snapshot slows down the steps that run
while it is written.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kzoo
from kzoo.training import snapshots
from kzoo.training.compiling import compiled
from kzoo.training.plan import plan

WARM_UP = 20
SETTINGS: dict[str, Any] = {
    "units": (2200, 2200, 2200),
    "batch_size": 64,
    "epochs": 1,
    "schedule": "constant",
}
FEATURES = 64
EVERY = 6  # seconds
NEVER = 10**6


class Clock(keras.callbacks.Callback):
    """The seconds of all steps after the warm-up, and their number."""

    remembered = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == WARM_UP:
            self.started = time.perf_counter()
        self.last, self.steps = time.perf_counter(), batch - WARM_UP

    @property
    def seconds_per_step(self) -> float:
        return (self.last - self.started) / self.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    step, _ = one_run(WARM_UP + 40, NEVER)
    steps = WARM_UP + int(parsed.seconds / step)
    ratios, written = [], 0
    for number in range(parsed.rounds):
        times = {}
        for every in (EVERY, NEVER) if number % 2 else (NEVER, EVERY):
            times[every], found = one_run(steps, every)
            written += found if every == EVERY else 0
        ratios.append(times[EVERY] / times[NEVER])
        print(
            f"without {times[NEVER] * 1e3:7.2f} ms a step   with "
            f"{times[EVERY] * 1e3:7.2f} ms   ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"{written} snapshots; mean ratio {np.mean(ratios):.3f}")
    restoring()


def data(steps: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Random rows, so many that one epoch has this number of steps."""
    rng = np.random.default_rng(0)
    rows = steps * SETTINGS["batch_size"]
    inputs = rng.normal(size=(rows, FEATURES)).astype("float32")
    labels = rng.integers(0, 10, rows)
    few = (inputs[:64], labels[:64])
    return {"train": (inputs, labels), "validation": few, "test": few}


def one_run(steps: int, every: int) -> tuple[float, int]:
    """Seconds a step, and how many snapshots were taken while it ran."""
    keras.utils.clear_session()
    clock = Clock()
    taken = []
    plain = snapshots.write

    def counted(*args: Any, **kwargs: Any) -> Path:
        taken.append(time.perf_counter())
        return plain(*args, **kwargs)

    snapshots.write = counted
    try:
        with tempfile.TemporaryDirectory() as folder:
            kzoo.train(
                "mlp",
                data(steps),
                out=f"{folder}/run",
                callbacks=[clock],
                snapshot_every=f"{every}s",
                **SETTINGS,
            )
    finally:
        snapshots.write = plain
    return clock.seconds_per_step, sum(at < clock.last for at in taken)


def restoring() -> None:
    """The time from a snapshot on disk to a model that goes on."""
    planned = plan("mlp", data(2), settings=SETTINGS)
    model = compiled(planned)
    weights = sum(int(np.prod(weight.shape)) for weight in model.weights)
    batch = next(iter(planned.dataset.train_batches(64, 0)))
    given = (batch["inputs"], batch["labels"], batch["weights"])
    snapshots.prepare_variables(model, given)
    with tempfile.TemporaryDirectory() as folder:
        state = snapshots.capture(model, {}, 1, "f", {"history": ""})
        path = snapshots.write(Path(folder), state)
        size = sum(file.stat().st_size for file in path.iterdir())
        started = time.perf_counter()
        found = snapshots.newest(Path(folder), "f")
        assert found is not None
        snapshots.restore(found, model, {})
        took = time.perf_counter() - started
    print(
        f"{weights:,} weights, {size / 1e6:.0f} MB restored in {took:.2f} s: "
        f"{took * 1e8 / size:.2f} s for 100 MB"
    )


if __name__ == "__main__":
    main()
