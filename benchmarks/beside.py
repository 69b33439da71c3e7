"""Seconds of the same networks in several zoos; what ``vision`` and ``text`` share.

Each measurement is a process of its own on random weights and inputs, and the zoos take
turns. Measured are the seconds of building, of the first training step (tracing with
it), and the medians of the training steps and of the predictions after it; SGD with
momentum, float32. What is not installed is left out.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MEASURES = ("build", "first_step", "train_step", "predict")
NEEDS = {
    "hub": ("keras_hub",),
    "timm": ("timm", "hypothesis"),  # see import_torchvision
    "torch": ("torch",),
    "transformers": ("transformers", "hypothesis"),
}

Batch = tuple[np.ndarray, np.ndarray]  # inputs, labels
# Builds the network; gives its training step and its prediction on a batch.
Ready = tuple[Callable[[], Any], Callable[[Any, np.ndarray, np.ndarray], Any]]


def arguments(description: str | None, networks: Iterable[str]) -> Any:
    """A parser of what both benchmarks are asked."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(networks))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # zoo:model, in its process
    return parser


def compare(
    parsed: argparse.Namespace,
    zoos: Mapping[str, Iterable[str]],
    ready: Callable[[str, str], Ready],
    batch: Callable[[], Batch],
) -> None:
    """Prints a table of the zoos that have each network, kzoo first."""
    if parsed.one:
        zoo, _, model = parsed.one.partition(":")
        print(json.dumps(measure(*ready(zoo, model), batch(), parsed.steps)))
        return
    for model in parsed.models.split(","):
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(parsed.rounds):
            turns = [zoo for zoo in ("kzoo", *zoos[model]) if available(zoo)]
            for zoo in turns if number % 2 == 0 else reversed(turns):
                measured = in_a_process(zoo, model, parsed.backend)
                found.setdefault(zoo, []).append(measured)
        report(model, found)


def available(zoo: str) -> bool:
    """Whether what the zoo needs is installed."""
    return all(importlib.util.find_spec(name) for name in NEEDS.get(zoo, ()))


def in_a_process(zoo: str, model: str, backend: str) -> dict[str, float]:
    """The four measures, in seconds: this command again, of one zoo and network."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
    known = {"KERAS_BACKEND": backend, "PYTHONPATH": ":".join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, *sys.argv, "--one", f"{zoo}:{model}"],
        env=os.environ | known,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{zoo} {model}: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def report(model: str, found: dict[str, list[dict[str, float]]]) -> None:
    """A row a zoo: the least of the rounds, and how many times kzoo's that is."""
    best = {
        zoo: {name: min(once[name] for once in rounds) for name in MEASURES}
        for zoo, rounds in found.items()
    }
    for zoo, values in best.items():
        cells = [
            f"{values[name]:8.3f} s ({values[name] / best['kzoo'][name]:4.2f})"
            for name in MEASURES
        ]
        print(f"{model:16}{zoo:14}" + "".join(cells), flush=True)


def measure(
    build: Callable[[], Any], steps_of: Any, batch: Batch, steps: int
) -> dict[str, float]:
    """Seconds, by the names of ``MEASURES``."""
    started = time.perf_counter()
    model = build()
    built = time.perf_counter() - started
    train, predict = steps_of(model, *batch)
    first = seconds_of(train)
    trained = [seconds_of(train) for _ in range(steps)]
    predict()  # traced
    predicted = [seconds_of(predict) for _ in range(steps)]
    values = (built, first, np.median(trained), np.median(predicted))
    return dict(zip(MEASURES, map(float, values), strict=True))


def seconds_of(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def keras_steps(model: Any, inputs: Any, labels: np.ndarray) -> Any:
    """Training and predicting on one batch, compiled as ``fit`` compiles them."""
    import keras

    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return (
        lambda: model.train_on_batch(inputs, labels),
        lambda: model.predict_on_batch(inputs),
    )


def torch_steps(
    model: Any, x: Any, labels: np.ndarray, logits: Callable[[Any], Any] = lambda y: y
) -> Any:
    """The same in PyTorch, as it comes; ``logits`` finds them in the answer."""
    import torch

    y = torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def train() -> None:
        model.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits(model(x)), y).backward()
        optimizer.step()

    def predict() -> Any:
        model.eval()
        with torch.inference_mode():
            return logits(model(x))

    return train, predict


def import_torchvision() -> None:
    """What timm and transformers import, as the tests mend it (the extra `test`)."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import conftest

    conftest.import_torchvision()
