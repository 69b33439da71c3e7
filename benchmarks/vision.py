"""Seconds of kzoo's networks beside the same ones of Keras and of timm.

    python benchmarks/vision.py                              # all, two rounds
    python benchmarks/vision.py --models resnet50 --rounds 3 --backend jax

Each measurement is a process of its own on random weights and images, and the zoos
take turns: kzoo and keras.applications or KerasHub (the extra `benchmarks`) on one
backend, timm (the extra `peers`) on PyTorch, channels last. Measured are the seconds of
building, of the first training step (tracing with it), and the medians of the training
steps and of the predictions after it; SGD, float32. What is not installed is left out.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# kzoo's name -> the others'. KerasHub's backbones get the published sizes.
NETWORKS: dict[str, dict[str, str]] = {
    "resnet50": {"applications": "ResNet50", "timm": "resnet50"},
    "densenet121": {"applications": "DenseNet121", "timm": "densenet121"},
    "mobilenet_v2": {"applications": "MobileNetV2", "timm": "mobilenetv2_100"},
    "efficientnet_b0": {"applications": "EfficientNetB0", "timm": "efficientnet_b0"},
    "vit_small_16": {"hub": "vit", "timm": "vit_small_patch16_224"},
    "convnext_tiny": {"applications": "ConvNeXtTiny", "timm": "convnext_tiny"},
    "swin_tiny": {"timm": "swin_tiny_patch4_window7_224"},
}
MEASURES = ("build", "first_step", "train_step", "predict")
CLASSES = 1000
SIZE = 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--backend", default="tensorflow")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # zoo:model, in its process
    parsed = parser.parse_args()
    if parsed.one:
        zoo, _, model = parsed.one.partition(":")
        measured = measure(*ready(zoo, model), parsed.batch_size, parsed.steps)
        print(json.dumps(measured))
        return
    for model in parsed.models.split(","):
        found: dict[str, list[dict[str, float]]] = {}
        for number in range(parsed.rounds):
            zoos = [zoo for zoo in ("kzoo", *NETWORKS[model]) if available(zoo)]
            for zoo in zoos if number % 2 == 0 else reversed(zoos):
                found.setdefault(zoo, []).append(in_a_process(zoo, model, parsed))
        report(model, found)


def available(zoo: str) -> bool:
    """Whether what the zoo needs is installed."""
    needs = {"hub": "keras_hub", "timm": "timm"}
    return zoo not in needs or importlib.util.find_spec(needs[zoo]) is not None


def in_a_process(zoo: str, model: str, parsed: argparse.Namespace) -> dict[str, float]:
    """The four measures, in seconds."""
    command = [sys.executable, __file__, "--one", f"{zoo}:{model}"]
    command += ["--batch-size", str(parsed.batch_size), "--steps", str(parsed.steps)]
    root = Path(__file__).parents[1]
    known = {"KERAS_BACKEND": parsed.backend, "PYTHONPATH": str(root)}
    done = subprocess.run(
        command, env=os.environ | known, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{zoo} {model}: {done.stderr.strip().splitlines()[-1]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def report(model: str, found: dict[str, list[dict[str, float]]]) -> None:
    """A row a zoo: the least of the rounds, and the others' as a multiple of kzoo's."""
    best = {
        zoo: {name: min(once[name] for once in rounds) for name in MEASURES}
        for zoo, rounds in found.items()
    }
    for zoo, values in best.items():
        cells = [
            f"{values[name]:8.2f} s ({values[name] / best['kzoo'][name]:4.2f})"
            for name in MEASURES
        ]
        print(f"{model:16}{zoo:14}" + "".join(cells), flush=True)


def ready(zoo: str, model: str) -> tuple[Callable[[], Any], Any]:
    """What builds the network, and what gives its training step and its prediction."""
    if zoo == "timm":
        return lambda: timm_model(NETWORKS[model]["timm"]), torch_steps
    import keras

    if zoo == "kzoo":
        from kzoo.registry import build_model

        return lambda: build_model(model), keras_steps
    if zoo == "hub":
        import keras_hub  # noqa: F401  its import is no part of building

        return hub_vit, keras_steps
    network = getattr(keras.applications, NETWORKS[model]["applications"])
    return lambda: network(weights=None, classifier_activation=None), keras_steps


def hub_vit() -> Any:
    """KerasHub's ViT with the sizes of vit_small_16."""
    import keras
    import keras_hub

    backbone = keras_hub.models.ViTBackbone(
        image_shape=(SIZE, SIZE, 3),
        patch_size=16,
        num_layers=12,
        num_heads=6,
        hidden_dim=384,
        mlp_dim=1536,
    )
    x = keras.layers.Dense(CLASSES)(backbone.output[:, 0])
    return keras.Model(backbone.input, x)


def timm_model(name: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from conftest import import_torchvision

    import_torchvision()
    import timm
    import torch

    return timm.create_model(name).to(memory_format=torch.channels_last)


def keras_steps(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Training and predicting on one batch, compiled as ``fit`` compiles them."""
    import keras

    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return (
        lambda: model.train_on_batch(images, labels),
        lambda: model.predict_on_batch(images),
    )


def torch_steps(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """The same in PyTorch, as it comes."""
    import torch

    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.from_numpy(labels).long()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def train() -> None:
        model.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    def predict() -> Any:
        model.eval()
        with torch.inference_mode():
            return model(x)

    return train, predict


def measure(
    build: Callable[[], Any], steps_of: Any, batch_size: int, steps: int
) -> dict[str, float]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch_size, SIZE, SIZE, 3)).astype("float32")
    labels = rng.integers(0, CLASSES, batch_size).astype("int32")
    started = time.perf_counter()
    model = build()
    built = time.perf_counter() - started
    train, predict = steps_of(model, images, labels)
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


if __name__ == "__main__":
    main()
