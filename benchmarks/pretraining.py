"""What pre-training brings where labels are few: fine-tuned against from scratch.

    python benchmarks/pretraining.py digits      5 labels a class, 5 seeds, SimCLR
    python benchmarks/pretraining.py names       50 labels a class, 5 seeds, BERT's mask
    python benchmarks/pretraining.py lora        adapters beside full fine-tuning, names
    python benchmarks/pretraining.py digits 5 6  these seeds

Runs lie in runs/benchmarks/pretraining and stay: the same command goes on. Tables are
printed as Markdown, as docs/pretraining.md shows them.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import kzoo
from kzoo.distillation.study import paired
from kzoo.training import Recipe

OUT = Path("runs/benchmarks/pretraining")
SEEDS = range(5)

SHAPE = ("dense_units", "pooling")  # what both contestants have of the encoder's

FEW_DIGITS: dict[str, Any] = {
    "weight_decay": 0.05,
    "batch_size": 25,
    "epochs": 60,
    "augmentation": ("rotation:10", "zoom:0.1", "shift"),
}
FEW_NAMES: dict[str, Any] = {
    "weight_decay": 0.01,
    "warmup_steps": 40,
    "batch_size": 32,
    "epochs": 40,
    "clip": 1.0,
    "augmentation": ("character_drop:0.1",),
}

# model, objective, labels a class, how to pre-train, to fine-tune, to train alone: each
# by the recipe of a few that did best for it, on digits on seeds 5 to 7, on names on
# seed 5.
CASES: dict[str, tuple[str, str, int, dict[str, Any], Recipe, Recipe]] = {
    "digits": (
        "cnn",
        "contrastive",
        5,
        {
            "dense_units": 0,
            "epochs": 60,
            "learning_rate": 2e-3,
            "batch_size": 128,
            # Of 8x8 pixels half of the area is no digit any more.
            "augmentation": ("crop:0.7", "rotation:15", "shift"),
            "options": {"temperature": 0.2},
        },
        Recipe(learning_rate=2e-3, layer_decay=0.4, **FEW_DIGITS),
        Recipe(learning_rate=3e-3, **FEW_DIGITS),
    ),
    "names": (
        "bert_tiny",
        "masked_tokens",
        50,
        # The names have no token for the whole text to be read off.
        {"epochs": 12, "learning_rate": 2e-3, "pooling": "mean"},
        Recipe(learning_rate=1e-3, **FEW_NAMES),
        Recipe(learning_rate=2e-3, **FEW_NAMES),
    ),
}


def accuracy(run: kzoo.training.Run, split: str = "test") -> float:
    value: float = run.metrics[split]["accuracy"]
    return value


def case(name: str, seeds: list[int]) -> None:
    """Both contestants get the same labels."""
    model, objective, labels, before, fine, scratch = CASES[name]
    shape = {key: before[key] for key in SHAPE if key in before}
    found: dict[str, list[float]] = {}
    for seed in seeds:
        place = OUT / name / f"seed_{seed}"
        data = kzoo.load_dataset(name, seed=seed)
        pre = kzoo.pretrain(model, data, objective, place / "pre", seed=seed, **before)
        request = {"labels_per_class": labels, "seed": seed}
        tuned = kzoo.train(
            pre.folder, data, out=place / "tuned", recipe=fine, **request
        )
        alone = kzoo.train(
            model, data, out=place / "alone", recipe=scratch, **request, **shape
        )
        row = {"fine-tuned": accuracy(tuned), "from scratch": accuracy(alone)}
        print(seed, accuracy(tuned, "validation"), accuracy(alone, "validation"))
        if name == "digits":
            probe = {"labels_per_class": labels, "seed": seed}
            for what, source in (("features", pre.folder), ("pixels", None)):
                scores = kzoo.probe(source, data, **probe)
                row |= {f"{kind}, {what}": scores[kind] for kind in scores}
        for key, value in row.items():
            found.setdefault(key, []).append(value)
        print(seed, row, flush=True)
    print(f"\n{labels} labels a class, {len(seeds)} seeds\n")
    print("| | test accuracy, % |")
    print("|---|---|")
    for key, values in found.items():
        spread = 100 * np.std(values, ddof=1)
        print(f"| {key} | {100 * np.mean(values):.2f} ± {spread:.2f} |")
    pairs = [("fine-tuned", "from scratch")]
    if name == "digits":
        pairs += [("linear, features", "linear, pixels")]
    for ours, theirs in pairs:
        gain, p = paired(np.array(found[ours]), np.array(found[theirs]))
        print(f"\n{ours} against {theirs}: {100 * gain:+.2f} points, p = {p:.4f}")


ADAPTERS = Recipe(learning_rate=1e-2, lora=4, **{**FEW_NAMES, "epochs": 60})


def lora(seeds: list[int]) -> None:
    """A pre-trained `bert_tiny` fine-tuned whole, by adapters, and a linear probe."""
    model, objective, labels, before, fine, _ = CASES["names"]
    found: dict[str, list[float]] = {}
    for seed in seeds:
        place = OUT / "names" / f"seed_{seed}"  # where two of the runs are already
        data = kzoo.load_dataset("names", seed=seed)
        pre = kzoo.pretrain(model, data, objective, place / "pre", seed=seed, **before)
        request = {"labels_per_class": labels, "seed": seed}
        row: dict[str, float] = {}
        for name, recipe in (("tuned", fine), ("adapters", ADAPTERS)):
            run = kzoo.train(
                pre.folder, data, out=place / name, recipe=recipe, **request
            )
            row[name] = accuracy(run)
            print(seed, name, accuracy(run, "validation"), flush=True)
        row["linear probe"] = kzoo.probe(pre.folder, data, **request)["linear"]
        for key, value in row.items():
            found.setdefault(key, []).append(value)
        print(seed, row, flush=True)
    files = [
        place / "adapters" / "model" / f"{name}.safetensors"
        for name in ("adapter", "model")
    ]
    adapters, whole = (
        sum(x.size for key, x in load_file(file).items() if "logits" not in key)
        for file in files
    )
    bytes_of = [file.stat().st_size for file in files]
    print(
        f"\n{len(seeds)} seeds; without the head {adapters / whole:.1%} of the weights"
    )
    print(f"learn in the adapters, whose file is {bytes_of[0] / bytes_of[1]:.1%}\n")
    for key, values in found.items():
        print(f"| {key} | {100 * np.mean(values):.2f} | {np.round(values, 4)} |")


if __name__ == "__main__":
    chosen = [int(word) for word in sys.argv[2:]] or list(SEEDS)
    if sys.argv[1] == "lora":
        lora(chosen)
    else:
        case(sys.argv[1], chosen)
