"""Densely connected networks: each layer sees all that came before it in its stage.

Huang et al., "Densely connected convolutional networks", 2017 (1608.06993). A layer
adds ``growth_rate`` channels to what is there; between stages a transition halves both
channels and resolution. All variants are of the kind BC: 1x1 bottlenecks and
compression by a half. ``densenet_bc_100_12`` is the paper's for CIFAR.

Convolutions start from He's normal over the fan in, as in torchvision.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import (
    PaddedMaxPooling2D,
    convolution,
    drop_path,
    drop_path_rates,
    norm_activation,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class DenseNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    num_blocks: tuple[int, ...] = hp(
        (6, 12, 24, 16), "dense layers of each stage", min=1, max=200
    )
    growth_rate: int = hp(32, "channels that a layer adds", min=1, tune=(8, 48))
    bottleneck: int = hp(
        4, "filters of a layer's 1x1 convolution, in units of growth_rate", min=1
    )
    compression_rate: float = hp(
        0.5, "channels that a transition keeps", min=0.1, max=1.0
    )
    stem: str = hp(
        "imagenet",
        "7x7 at stride 2 and a pooling, or 3x3 for small images",
        choices=("imagenet", "small"),
    )
    stem_filters: int = hp(64, "of the first convolution", min=1)
    drop_path_rate: float = hp(
        0.0, "of the last layer's channels, rising from 0", min=0.0, max=0.9
    )
    dropout_rate: float = hp(
        0.0, "after each layer's convolutions", min=0.0, max=0.9, tune=(0.0, 0.3)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = len(self.num_blocks)
        reduction = (4 if self.stem == "imagenet" else 1) * 2 ** (stages - 1)
        check_image_size(self, reduction, f"stem={self.stem!r} and {stages} stages")


def build(hparams: DenseNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = image_input(hparams)
    x = stem(inputs, hparams)  # (batch, h / 4, w / 4, stem_filters)
    rates = iter(drop_path_rates(hparams.drop_path_rate, sum(hparams.num_blocks)))
    last = len(hparams.num_blocks) - 1
    for i, num_blocks in enumerate(hparams.num_blocks):
        for j in range(num_blocks):
            x = dense_layer(x, hparams, next(rates), f"stage_{i}_block_{j}")
        x = keras.layers.Identity(name=f"stage_{i}")(x)
        if i < last:
            x = transition(x, hparams.compression_rate, f"transition_{i}")
    x = norm_activation(x, "final_norm")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, channels)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def stem(x: Any, hparams: DenseNetHParams) -> Any:
    """Down to a quarter of the resolution; small images keep theirs, and no norm."""
    if hparams.stem == "small":
        x = conv(x, hparams.stem_filters, 3, "stem_conv")
        return keras.layers.Identity(name="stem")(x)
    x = conv(x, hparams.stem_filters, 7, "stem_conv", strides=2)
    x = norm_activation(x, "stem_norm")
    return PaddedMaxPooling2D(3, strides=2, padding=1, name="stem")(x)


def dense_layer(x: Any, hparams: DenseNetHParams, rate: float, name: str) -> Any:
    """(batch, h, w, c) -> (batch, h, w, c + growth_rate)."""
    y = norm_activation(x, f"{name}_norm_0")
    y = conv(y, hparams.bottleneck * hparams.growth_rate, 1, f"{name}_conv_0")
    y = norm_activation(y, f"{name}_norm_1")
    y = conv(y, hparams.growth_rate, 3, f"{name}_conv_1")
    y = keras.layers.Dropout(hparams.dropout_rate, name=f"{name}_dropout")(y)
    y = drop_path(y, rate, f"{name}_drop_path")
    return keras.layers.Concatenate(name=name)([x, y])


def transition(x: Any, compression_rate: float, name: str) -> Any:
    """(batch, h, w, c) -> (batch, h / 2, w / 2, c compressed)."""
    x = norm_activation(x, f"{name}_norm")
    x = conv(x, int(x.shape[-1] * compression_rate), 1, f"{name}_conv")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def conv(x: Any, filters: int, kernel_size: int, name: str, strides: int = 1) -> Any:
    """A convolution that starts from He's normal over the fan in."""
    initializer = keras.initializers.VarianceScaling(
        2.0, mode="fan_in", distribution="untruncated_normal"
    )
    return convolution(
        x,
        filters,
        kernel_size,
        strides=strides,
        kernel_initializer=initializer,
        name=name,
    )


def _imagenet(
    *num_blocks: int, growth_rate: int = 32, stem_filters: int = 64
) -> DenseNetHParams:
    return DenseNetHParams(
        num_blocks=num_blocks,
        growth_rate=growth_rate,
        stem_filters=stem_filters,
        num_classes=1000,
        image_size=224,
    )


VARIANTS = {
    "densenet121": _imagenet(6, 12, 24, 16),
    "densenet161": _imagenet(6, 12, 36, 24, growth_rate=48, stem_filters=96),
    "densenet169": _imagenet(6, 12, 32, 32),
    "densenet201": _imagenet(6, 12, 48, 32),
    # Depth 100: (100 - 4) / 6 layers of two convolutions in each of three stages.
    "densenet_bc_100_12": DenseNetHParams(
        num_blocks=(16, 16, 16),
        growth_rate=12,
        stem="small",
        stem_filters=24,
        num_classes=10,
        image_size=32,
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=DenseNetHParams(
        num_blocks=(2, 2), growth_rate=4, stem="small", stem_filters=8, num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper="1608.06993",
)
