"""What distillation saved and what it cost: teacher and student side by side."""

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from matplotlib.figure import Figure
from safetensors.numpy import save_file

from kzoo import weights
from kzoo.datasets import Dataset
from kzoo.macs import macs
from kzoo.preprocessing import Preprocessing
from kzoo.registry import trainable_parameters
from kzoo.tasks import get_task
from kzoo.training.evaluate import split_answers
from kzoo.training.metrics import Answers, scores
from kzoo.training.run import Run, open_run

REPORT = "compression.json"
SIDES = ("teacher", "student")


def compare(
    teacher: Run | keras.Model | str | os.PathLike[str],
    student: Run | str | os.PathLike[str],
    dataset: Dataset,
    split: str = "test",
) -> dict[str, Any]:
    """Measures a teacher and a student, into the student's run folder.

    Writes ``compression.json`` and ``plots/compression.png``.

    Args:
        teacher: a run, its folder, or a model.
        student: a run, or its folder.
        dataset: the student's.
        split: to score on.

    Returns:
        ``teacher`` and ``student``, each with ``weights, macs, file_bytes,
        latency_ms`` (of one example and of 64, the median of repeated calls), the
        task's scores and ``accuracy_by_class``; ``agreement``, the share of examples
        to which both give the same class; and ``teacher_saw``.
    """
    run = open_run(student)
    sides = {"teacher": teacher, "student": run}
    found: dict[str, Any] = {"dataset": dataset.name, "split": split}
    said = []
    for name, one in sides.items():
        model, data = _opened(one, dataset)
        said.append(split_answers(model, data, split))
        found[name] = measured(model, data, said[-1])
    if dataset.spec.classes and _alike(*said):
        same = said[0].predicted == said[1].predicted
        found["agreement"] = float(same[said[0].counted].mean())
    facts = run.config.get("distillation", {}).get("teachers", [])
    found["teacher_saw"] = [one["saw"] for one in facts]
    weights.write_json(run.folder / REPORT, found)
    draw(run.folder / "plots" / "compression.png", found, dataset.spec.classes)
    return found


def _opened(one: Any, dataset: Dataset) -> tuple[keras.Model, Dataset]:
    """The model, and the dataset under the preprocessing that it was trained with."""
    if isinstance(one, keras.Model):
        return one, dataset
    folder = one.folder if isinstance(one, Run) else Path(one)
    preprocessing: Preprocessing = weights.load_preprocessing(folder)
    return weights.load(folder), dataclasses.replace(
        dataset, preprocessing=preprocessing
    )


def _alike(one: Answers, other: Answers) -> bool:
    """Whether both choose among as many classes, at the same places."""
    logits = [
        None if said.outputs is None else said.outputs.shape for said in (one, other)
    ]
    return logits[0] == logits[1] and one.predicted.shape == other.predicted.shape


def measured(model: keras.Model, dataset: Dataset, said: Answers) -> dict[str, Any]:
    """One side of the report."""
    task = get_task(dataset.spec.task)
    found: dict[str, Any] = {
        "model": model.name,
        "weights": trainable_parameters(model),
        "macs": macs(model),
        "file_bytes": file_bytes(model),
        "latency_ms": latency_ms(model, dataset),
        **scores(task, said),
    }
    if dataset.spec.classes and not task.per_step:
        right = said.predicted == said.labels
        found["accuracy_by_class"] = {
            name: float(right[said.labels == i].mean())
            for i, name in enumerate(dataset.spec.classes)
            if (said.labels == i).any()
        }
    return found


def file_bytes(model: keras.Model) -> int:
    """Of the weights' file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / weights.WEIGHTS
        save_file(weights.weights_by_path(model), path)
        return path.stat().st_size


def latency_ms(
    model: keras.Model,
    dataset: Dataset,
    batch_sizes: tuple[int, ...] = (1, 64),
    calls: int = 20,
) -> dict[str, float]:
    """Milliseconds of a prediction on this machine, the median of some calls."""
    found = {}
    for batch_size in batch_sizes:
        inputs = dataset.train_batches(batch_size, seed=0)[0]["inputs"]
        times = []
        for _ in range(calls + 3):
            started = time.perf_counter()
            model.predict_on_batch(inputs)
            times.append(1e3 * (time.perf_counter() - started))
        found[str(batch_size)] = round(statistics.median(times[3:]), 3)
    return found


def draw(path: Path, found: Mapping[str, Any], classes: tuple[str, ...]) -> None:
    """What is saved, on the left; accuracy by class, on the right."""
    teacher, student = found["teacher"], found["student"]
    rows = {
        "weights": (teacher["weights"], student["weights"]),
        "MACs": (teacher["macs"], student["macs"]),
        "file": (teacher["file_bytes"], student["file_bytes"]),
        "latency, one": (teacher["latency_ms"]["1"], student["latency_ms"]["1"]),
        "latency, 64": (teacher["latency_ms"]["64"], student["latency_ms"]["64"]),
    }
    shares = {k: s / t for k, (t, s) in rows.items() if t and s}
    by_class = "accuracy_by_class" in student and "accuracy_by_class" in teacher
    figure = Figure(figsize=(11 if by_class else 5.5, 3.8), layout="constrained")
    panels = figure.subplots(1, 2 if by_class else 1, squeeze=False)[0]
    names = list(shares)[::-1]
    bars = panels[0].barh(names, [shares[name] for name in names], color="C0")
    panels[0].bar_label(bars, [f" {shares[name]:.1%}" for name in names])
    panels[0].set(xlim=(0, 1.25 * max(1.0, *shares.values())), xlabel="of the teacher")
    panels[0].axvline(1, color="0.6", linestyle=":")
    panels[0].set_title(f"{student['model']} from {teacher['model']}")
    if by_class:
        shown = [name for name in classes if name in student["accuracy_by_class"]]
        for side, marker in zip(SIDES, "os", strict=True):
            scored = found[side]["accuracy_by_class"]
            panels[1].plot(
                [scored[name] for name in shown],
                marker,
                label=f"{side}: {found[side]['accuracy']:.2%}",
                fillstyle="none" if side == "teacher" else "full",
            )
        panels[1].set_xticks(
            range(len(shown)), shown, rotation=45 if len(shown) > 12 else 0
        )
        told = f", agreement {found['agreement']:.1%}" if "agreement" in found else ""
        panels[1].set(ylabel="accuracy", title=f"{found['split']}{told}")
        panels[1].grid(axis="y", color="0.9")
        panels[1].legend(loc="best", framealpha=0.8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
