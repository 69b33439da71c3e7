"""Test scores of the embedded sets, beside scikit-learn on the same splits.

    python benchmarks/digits.py                          # everything, about 30 minutes
    python benchmarks/digits.py --models cnn --seeds 0,1
    python benchmarks/digits.py --models cnn --write     # into models/results.json
    python benchmarks/digits.py --models zoo             # eleven networks of images

Each seed is a process of its own, `kzoo train MODEL --seed S`, timed from outside with
its imports. Split s comes from seed s, and the epoch from the validation split. At the
end stands the table of docs/results.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import kzoo
from kzoo.index import RESULTS
from kzoo.training.recipes import RECIPES, recipe_for

IMAGES = ("cnn", "cnn_tiny", "mlp")
SEQUENCES = ("lstm", "gru", "simple_rnn", "transformer", "cnn_1d")
ZOO = (
    "cnn",
    "cnn_tiny",
    "lenet5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "resnet20",
    "resnet8x4",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vit_lite_2",
    "wide_resnet_16_2",
)
ALL = ",".join([*IMAGES, *SEQUENCES, "diabetes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=ALL)
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--write", action="store_true", help="keep the scores")
    parsed = parser.parse_args()
    seeds = [int(seed) for seed in parsed.seeds.split(",")]
    models = ",".join(ZOO) if parsed.models == "zoo" else parsed.models
    rows = ["| | weights | processor, s a seed | validation | test | each seed |"]
    rows += ["|---|---:|---:|---:|---:|---|"]
    print(f"{'':18}{'mean':>8}  {'each seed':40}{'s a seed':>9}")
    for job in models.split(","):
        model, dataset, metric = (
            ("mlp", "diabetes", "r2")
            if job == "diabetes"
            else (job, "digits", "accuracy")
        )
        baselines = diabetes_ridge if dataset == "diabetes" else digits_svc
        scores, chosen, seconds, spent = [], [], [], []
        for seed in seeds:
            told, took, processor = one_run(model, dataset, seed, parsed.backend)
            scores.append(told["test"][metric])
            chosen.append(told["validation"][metric])
            seconds.append(took)
            spent.append(processor)
        show(job, scores, seconds)
        rows.append(row(model, dataset, scores, chosen, spent))
        for name, values in baselines(seeds).items():
            show(f"  {name}", values, [])
        if parsed.write:
            write(model, dataset, metric, seeds, scores, seconds, parsed.backend)
    print("\n" + "\n".join(rows))


def one_run(
    model: str, dataset: str, seed: int, backend: str
) -> tuple[dict[str, Any], float, float]:
    """The scores by split, and the seconds of the process, by the clock and of work."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "kzoo", "train", model, "--dataset", dataset]
        command += ["--seed", str(seed), "--backend", backend]
        command += ["--out", f"{folder}/run", "--json"]
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        took, after = time.perf_counter() - started, os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return json.loads(done.stdout), took, spent


def row(
    model: str,
    dataset: str,
    scores: list[float],
    chosen: list[float],
    spent: list[float],
) -> str:
    """A line of the last table, the weights being those of the model that learned."""
    name = recipe_for(model, kzoo.describe(model)["family"], dataset)
    options, values = (
        (RECIPES[name].options, RECIPES[name].hparams) if name else ({}, {})
    )
    sizes = kzoo.load_dataset(dataset, **options).spec.hparams
    weights = kzoo.describe(model, **sizes, **values)["trainable_parameters"]
    each = " ".join(f"{100 * score:.2f}" for score in scores)
    return (
        f"| `{model}` | {weights:,} | {np.mean(spent):.0f} | "
        f"{100 * np.mean(chosen):.2f} | {100 * np.mean(scores):.2f} | {each} |"
    )


def digits_svc(seeds: list[int]) -> dict[str, list[float]]:
    """scikit-learn's SVC on the same training rows."""
    scores = []
    for seed in seeds:
        splits = kzoo.load_dataset("digits", seed=seed).splits
        train, test = splits["train"], splits["test"]
        svc = SVC(gamma=0.001, C=10)
        svc.fit(train.inputs.reshape(len(train), -1), train.labels)
        scores.append(svc.score(test.inputs.reshape(len(test), -1), test.labels))
    return {"SVC": scores}


def diabetes_ridge(seeds: list[int]) -> dict[str, list[float]]:
    """Ridge on the same training rows, as it comes and with alpha chosen on them."""
    found: dict[str, list[float]] = {"Ridge": [], "RidgeCV": []}
    for seed in seeds:
        splits = kzoo.load_dataset("diabetes", seed=seed).splits
        train, test = splits["train"], splits["test"]
        scaler = StandardScaler().fit(train.inputs)
        for name, model in (
            ("Ridge", Ridge()),
            ("RidgeCV", RidgeCV(alphas=np.logspace(-3, 3, 13))),
        ):
            model.fit(scaler.transform(train.inputs), train.labels)
            found[name].append(model.score(scaler.transform(test.inputs), test.labels))
    return found


def show(name: str, scores: list[float], seconds: list[float]) -> None:
    each = " ".join(f"{score:.4f}" for score in scores)
    took = f"{np.mean(seconds):9.1f}" if seconds else ""
    print(f"{name:18}{np.mean(scores):8.4f}  {each:40}{took}", flush=True)


def write(
    model: str,
    dataset: str,
    metric: str,
    seeds: list[int],
    scores: list[float],
    seconds: list[float],
    backend: str,
) -> None:
    """Replaces the entry of this model and dataset in results.json."""
    entry: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "recipe": recipe_for(model, kzoo.describe(model)["family"], dataset),
        "metric": metric,
        "mean": round(float(np.mean(scores)), 5),
        "scores": [round(score, 5) for score in scores],
        "seeds": seeds,
        "seconds": round(float(np.mean(seconds)), 1),
        "command": f"kzoo train {model} --dataset {dataset} --seed S",
        "backend": backend,
        "versions": {n: metadata.version(n) for n in ("keras", backend)},
        "hardware": f"{os.cpu_count()} cores, {platform.machine()}",
    }
    path = Path(RESULTS)
    known = json.loads(path.read_text()) if path.exists() else []
    key = (model, dataset, backend)
    kept = [e for e in known if (e["model"], e["dataset"], e["backend"]) != key]
    rows = sorted([*kept, entry], key=lambda e: (e["model"], e["dataset"]))
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
