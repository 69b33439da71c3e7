"""Seconds of kzoo's networks beside the same ones of Keras and of timm.

    python benchmarks/vision.py                              # all, two rounds
    python benchmarks/vision.py --models resnet50 --rounds 3 --backend jax

The others are keras.applications or KerasHub (the extra `benchmarks`) on the same
backend, and timm (the extras `peers` and `test`) on PyTorch, channels last; `beside.py`
says what is measured.
"""

from typing import Any

import numpy as np
from beside import (
    Ready,
    arguments,
    compare,
    import_torchvision,
    keras_steps,
    torch_steps,
)

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
CLASSES = 1000
SIZE = 224


def main() -> None:
    parsed = arguments(__doc__, NETWORKS).parse_args()
    rng = np.random.default_rng(0)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        images = rng.normal(size=(parsed.batch_size, SIZE, SIZE, 3)).astype("float32")
        return images, rng.integers(0, CLASSES, parsed.batch_size).astype("int32")

    compare(parsed, NETWORKS, ready, batch)


def ready(zoo: str, model: str) -> Ready:
    """What builds the network, and what gives its training step and its prediction."""
    if zoo == "timm":
        return lambda: timm_model(NETWORKS[model]["timm"]), steps_of_timm
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
    import_torchvision()
    import timm
    import torch

    return timm.create_model(name).to(memory_format=torch.channels_last)


def steps_of_timm(model: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    import torch

    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    return torch_steps(model, x.contiguous(memory_format=torch.channels_last), labels)


if __name__ == "__main__":
    main()
