"""What `kzoo train` adds to a step of a bare `model.fit`.

    python benchmarks/overhead.py [--filters 64,128] [--batch-size 256] [--rounds 5]

Both train the same model with the same optimizer and loss at the same batch size on the
same arrays: `fit` shuffles them itself, kzoo draws, shifts and gathers each batch,
snapshots every 60 s and shows its progress line. Rounds are interleaved in one process.
Steps are timed by one callback in both, after 20 warm-up steps.
"""

import argparse
import tempfile
import time
from typing import Any

import keras
import numpy as np

import kzoo
from kzoo.cli.progress import ProgressLine
from kzoo.training import plan
from kzoo.training.compiling import compiled

WARM_UP = 20


class Clock(keras.callbacks.Callback):
    """When each step begins; the end of an epoch is left out."""

    remembered = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float] = []
        self.last = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if batch:
            self.steps.append(now - self.last)
        self.last = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filters", default="64,128")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--augmentation", default="shift")
    parsed = parser.parse_args()
    settings = {
        "filters": tuple(map(int, parsed.filters.split(","))),
        "batch_size": parsed.batch_size,
        "epochs": parsed.epochs,
        "augmentation": tuple(parsed.augmentation.split(",")),
    }
    ratios = []
    for number in range(parsed.rounds):
        pair = {}
        for name in ("bare", "kzoo") if number % 2 else ("kzoo", "bare"):
            keras.utils.clear_session()
            pair[name] = (bare if name == "bare" else ours)(settings)
        ratios.append(pair["kzoo"] / pair["bare"])
        print(
            f"bare fit {pair['bare'] * 1e3:7.2f} ms a step   kzoo "
            f"{pair['kzoo'] * 1e3:7.2f} ms   ratio {ratios[-1]:.3f}",
            flush=True,
        )
    print(f"median ratio {np.median(ratios):.3f}")


def bare(settings: dict[str, Any]) -> float:
    planned = plan("cnn", "digits", settings=settings)
    model = compiled(planned)
    model.compile(
        optimizer=model.optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    train = planned.dataset.splits["train"]
    clock = Clock()
    size = settings["batch_size"]
    rows = -(-len(train) // size) * size  # full batches, as kzoo's
    order = np.arange(rows) % len(train)
    model.fit(
        planned.dataset.preprocessing.inputs(train.inputs[order]),
        planned.dataset.preprocessing.labels(train.labels[order]),
        batch_size=size,
        epochs=settings["epochs"],
        callbacks=[clock],
        verbose=0,
    )
    return float(np.median(clock.steps[WARM_UP:]))


def ours(settings: dict[str, Any]) -> float:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        kzoo.train(
            "cnn",
            "digits",
            out=f"{folder}/run",
            callbacks=[ProgressLine(), clock],
            **settings,
        )
    return float(np.median(clock.steps[WARM_UP:]))


if __name__ == "__main__":
    main()
