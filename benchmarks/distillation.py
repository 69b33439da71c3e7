"""What distillation brings, on the embedded digits, and beside keras.distillation.

    python benchmarks/distillation.py compress   cnn_tiny taught by cnn, 5 seeds
    python benchmarks/distillation.py few        20 labels a class, the rest unlabelled
    python benchmarks/distillation.py keras      the same step beside Keras's distiller

Runs lie in runs/benchmarks/distillation and stay: the same command goes on. Tables are
printed as Markdown, as docs/distillation.md shows them.
"""

import dataclasses
import sys
import time
from pathlib import Path

import keras
import numpy as np

import kzoo
from kzoo.datasets import Dataset
from kzoo.datasets.examples import Split
from kzoo.distillation import few_labels, study
from kzoo.distillation.study import paired
from kzoo.registry import trainable_parameters
from kzoo.training import Run, open_run, train

OUT = Path("runs/benchmarks/distillation")
SEEDS = range(5)
STUDENT_EPOCHS = 120  # validation with the teacher has 99.56 %, with 60 epochs 98.89 %
FEW_EPOCHS = 120  # picked by validation on seed 10, which is not among them


def scores(runs: list[Run], split: str = "test") -> np.ndarray:
    return np.array([run.metrics[split]["accuracy"] for run in runs])


def percent(values: np.ndarray) -> str:
    return f"{100 * values.mean():.2f} ± {100 * values.std(ddof=1):.2f}"


def compress() -> None:
    """At least 99 % of the teacher's accuracy with at most 1/20 of its weights."""
    folder = OUT / "compress"
    seeds, epochs = len(SEEDS), STUDENT_EPOCHS
    rows = study(
        "cnn", "cnn_tiny", "digits", ("kd",), folder, seeds=seeds, epochs=epochs
    )
    teachers = [open_run(folder / "teacher" / f"seed_{seed}") for seed in SEEDS]
    taught = [open_run(folder / "kd" / f"seed_{seed}") for seed in SEEDS]
    counts = [trainable_parameters(runs[0].load()) for runs in (teachers, taught)]
    print("| model | weights | labels it saw | test accuracy, % |")
    print("|---|---|---|---|")
    print(f"| cnn, the teacher | {counts[0]:,} | 1,257 | {percent(scores(teachers))} |")
    for row in rows:
        told = f"{100 * row['test']:.2f} ± {100 * row['test_std']:.2f}"
        saw = "1,257" if row["method"] == "alone" else "1,257, and the teacher (same)"
        print(f"| cnn_tiny, {row['method']} | {counts[1]:,} | {saw} | {told} |")
    kept = scores(taught).mean() / scores(teachers).mean()
    print(f"\nkept {kept:.2%} of the accuracy with 1/{counts[0] / counts[1]:.1f}")
    print("validation:", [f"{row['method']} {row['validation']:.4f}" for row in rows])
    print({row["method"]: (row["against_alone"], row["p_alone"]) for row in rows})


def repeated(dataset: Dataset, examples: int) -> Dataset:
    """The training examples over and over: as many steps an epoch as with more."""
    train = dataset.splits["train"]
    rows = np.resize(np.arange(len(train)), examples)
    splits = {**dataset.splits, "train": Split(train.inputs[rows], train.labels[rows])}
    return dataclasses.replace(dataset, splits=splits)


def few_of_seed(seed: int, labels: int) -> tuple[dict[str, Run], Dataset, Dataset]:
    """All contestants of a seed: as many steps and looks at validation for each."""
    labelled, partly = few_labels(kzoo.load_dataset("digits", seed=seed), labels, seed)
    known = repeated(labelled, len(partly.splits["train"]))
    place = OUT / "few" / f"seed_{seed}"
    teacher = train("cnn", known, out=place / "teacher", seed=seed)
    settings = {"seed": seed, "epochs": FEW_EPOCHS}
    runs = {"teacher": teacher}
    runs["alone"] = train("mlp", known, out=place / "alone", **settings)
    for name, data in (("labelled", known), ("all", partly)):
        runs[name] = kzoo.distill(
            teacher,
            "mlp",
            data,
            out=place / name,
            options={"report": False},
            **settings,
        )
    return runs, labelled, partly


def few(labels: int = 20) -> None:
    """Few labels for teacher, student and validation; the teacher labels the rest."""
    found = []
    for seed in SEEDS:
        runs, labelled, partly = few_of_seed(seed, labels)
        found.append(runs)
    teachers, alone, again, taught = (
        [runs[name] for runs in found]
        for name in ("teacher", "alone", "labelled", "all")
    )
    count = len(labelled.splits["train"])
    held = len(labelled.splits["validation"])
    everything = len(partly.splits["train"])
    print(f"{count} labels to train, {held} to choose the epoch; {len(SEEDS)} seeds\n")
    print("| model | labels it saw | images without label | test accuracy, % |")
    print("|---|---|---|---|")
    rest = f"{everything - count:,}, as the teacher sees them"
    for name, runs, more in (
        ("cnn, the teacher", teachers, "0"),
        ("mlp alone", alone, "0"),
        ("mlp, kd on the labelled", again, "0"),
        ("mlp, kd on all", taught, rest),
    ):
        print(f"| {name} | {count} | {more} | {percent(scores(runs))} |")
    for name, runs in (("labelled", again), ("all", taught)):
        gain, p = paired(scores(runs), scores(alone))
        print(f"\nkd on {name} against alone: {100 * gain:+.2f} points, p = {p:.4f}")


def beside_keras() -> None:
    """The same loss on the same batch, and the time of a step."""
    distillation = keras.distillation
    rng = np.random.default_rng(0)
    images = rng.random((256, 32, 32, 3), "float32")
    labels = rng.integers(0, 10, 256)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    feature = distillation.FeatureDistillation(
        keras.losses.MeanSquaredError(), "stage_1", "stage_1"
    )
    print("| step | keras.distillation, ms | kzoo, ms | share | loss, apart by |")
    print("|---|---|---|---|---|")
    for name, with_feature in (("logits", False), ("logits and a feature", True)):
        found = {}
        for side in ("keras", "kzoo"):
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
            teacher = kzoo.build_model("cnn", filters=(32, 64), dropout_rate=0.0)
            student = kzoo.build_model(
                "cnn", filters=(32, 64), num_convs=1, dropout_rate=0.0
            )
            logits = distillation.LogitsDistillation(4.0, keras.losses.KLDivergence())
            if side == "keras":
                losses = [logits, feature] if with_feature else [logits]
                trained = distillation.Distiller(
                    teacher, student, losses, [1.0] * len(losses), 0.1
                )
            else:
                options = {"method": "kd", "weights": (0.9,)}
                if with_feature:
                    options = {
                        "method": "kd+fitnet",
                        "weights": (0.9, 0.9),
                        "teacher_taps": ("stage_1",),
                        "student_taps": ("stage_1",),
                    }
                trained = kzoo.build_model(
                    "distiller",
                    teacher=teacher,
                    student=student,
                    temperature=4.0,
                    label_weight=0.1,
                    **options,
                )
            trained.compile(keras.optimizers.SGD(1e-3), loss=loss)
            # Statistics of the batch move with each pass, and Keras makes two: the
            # first step's loss is the one to compare.
            first = trained.train_on_batch(images[:64], labels[:64], return_dict=True)
            found[side] = trained, float(first["loss"])
        times = {side: [] for side in found}
        for i in range(45):  # in turn, so that a busy machine is fair
            for side, (trained, _) in found.items():
                rows = slice(64 * (i % 4), 64 * (i % 4) + 64)
                started = time.perf_counter()
                trained.train_on_batch(images[rows], labels[rows])
                times[side].append(1e3 * (time.perf_counter() - started))
        theirs, ours = (float(np.median(times[side][5:])) for side in ("keras", "kzoo"))
        apart = abs(found["keras"][1] - found["kzoo"][1]) / found["keras"][1]
        cells = (f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs:.2f}", f"{apart:.1e}")
        print("|", name, "|", " | ".join(cells), "|")


if __name__ == "__main__":
    chosen = {"compress": compress, "few": few, "keras": beside_keras}
    for name in sys.argv[1:] or chosen:
        chosen[name]()
