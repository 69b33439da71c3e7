"""Very deep networks of 3x3 convolutions, with and without batch normalisation.

Simonyan & Zisserman, "Very deep convolutional networks for large-scale image
recognition", 2015 (1409.1556). The dense layers read a 7x7 grid; images of other sizes
than 224 are averaged onto it, as in torchvision.

Convolutions start from He's normal over the fan out, dense layers from a normal of
spread 0.01, as in torchvision.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import (
    AdaptiveAveragePooling2D,
    batch_norm,
    convolution,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class VGGHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    num_convs: tuple[int, ...] = hp(
        (2, 2, 3, 3, 3), "convolutions of each stage", min=1, max=16
    )
    filters: tuple[int, ...] = hp(
        (64, 128, 256, 512, 512), "channels of each stage", min=1
    )
    normalization: str = hp("none", "after each convolution", choices=("batch", "none"))
    stem: str = hp(
        "imagenet",
        "small = for small images, the first two stages keep the resolution",
        choices=("imagenet", "small"),
    )
    grid: int = hp(7, "height and width that the dense layers read", min=1, max=64)
    dense_units: int = hp(
        4096, "of each of two dense layers", min=1, log=True, tune=(64, 4096)
    )
    dropout_rate: float = hp(
        0.5, "after each dense layer", min=0.0, max=0.9, tune=(0.0, 0.7)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_convs) != len(self.filters):
            raise ValueError(
                f"num_convs={self.num_convs} and filters={self.filters} must name as "
                "many stages"
            )
        pools = sum(pools_of(self))
        check_image_size(self, 2**pools, f"{pools} poolings that halve the resolution")


def pools_of(hparams: VGGHParams) -> list[bool]:
    """Whether each stage ends in a pooling."""
    unpooled = 2 if hparams.stem == "small" else 0
    return [i >= unpooled for i in range(len(hparams.filters))]


def build(hparams: VGGHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = x = image_input(hparams)
    for i, pooled in enumerate(pools_of(hparams)):
        for j in range(hparams.num_convs[i]):
            x = block(x, hparams, hparams.filters[i], f"stage_{i}_block_{j}")
        if pooled:
            x = keras.layers.MaxPooling2D(2, name=f"stage_{i}")(
                x
            )  # half the resolution
        else:
            x = keras.layers.Identity(name=f"stage_{i}")(x)
    x = AdaptiveAveragePooling2D(hparams.grid, name="grid")(x)
    x = keras.layers.Flatten(name="flatten")(x)  # (batch, grid * grid * filters)
    x = dense(x, hparams, "dense_0")
    x = keras.layers.Dropout(hparams.dropout_rate, name="dense_0_dropout")(x)
    x = dense(x, hparams, "dense_1")
    x = keras.layers.Identity(name="pooled")(x)  # (batch, dense_units)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def block(x: Any, hparams: VGGHParams, filters: int, name: str) -> Any:
    """A convolution, normalised or not, and a ReLU."""
    x = convolution(x, filters, 3, use_bias=True, name=f"{name}_conv")
    if hparams.normalization == "batch":
        x = batch_norm(x, f"{name}_norm")
    return keras.layers.Activation("relu", name=name)(x)


def dense(x: Any, hparams: VGGHParams, name: str) -> Any:
    """(batch, features) -> (batch, dense_units)."""
    return keras.layers.Dense(
        hparams.dense_units,
        activation="relu",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name=name,
    )(x)


def _imagenet(*num_convs: int) -> VGGHParams:
    return VGGHParams(num_convs=num_convs, num_classes=1000, image_size=224)


_PLAIN = {
    "vgg11": _imagenet(1, 1, 2, 2, 2),
    "vgg13": _imagenet(2, 2, 2, 2, 2),
    "vgg16": _imagenet(2, 2, 3, 3, 3),
    "vgg19": _imagenet(2, 2, 4, 4, 4),
}
VARIANTS = _PLAIN | {
    f"{name}_bn": dataclasses.replace(hparams, normalization="batch")
    for name, hparams in _PLAIN.items()
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=VGGHParams(
        num_convs=(1, 1, 2),
        filters=(8, 8, 16),
        stem="small",
        grid=2,
        dense_units=16,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper="1409.1556",
)
