"""AlexNet: five convolutions and three dense layers, the network of 2012.

Krizhevsky et al., "ImageNet classification with deep convolutional neural networks",
2012, in the one-tower form of Krizhevsky, "One weird trick for parallelizing
convolutional neural networks", 2014 (1404.5997), which torchvision has. The dense
layers read a 6x6 grid; images of other sizes than 224 are averaged onto it.

Every layer starts from a uniform of spread 1 / sqrt(fan in), as in torchvision; the
normal of spread 0.01 of the paper hardly moves for its first thousands of steps.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import AdaptiveAveragePooling2D
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class AlexNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    filters: tuple[int, int, int, int, int] = hp(
        (64, 192, 384, 256, 256), "of each convolution", min=1
    )
    stem: str = hp(
        "imagenet",
        "11x11 at stride 4 and a pooling, or 3x3 for small images",
        choices=("imagenet", "small"),
    )
    grid: int = hp(6, "height and width that the dense layers read", min=1, max=64)
    dense_units: int = hp(
        4096, "of each of two dense layers", min=1, log=True, tune=(64, 4096)
    )
    dropout_rate: float = hp(
        0.5, "before each dense layer", min=0.0, max=0.9, tune=(0.0, 0.7)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # What leaves one pixel before each pooling of 3x3 at stride 2.
        least = 63 if self.stem == "imagenet" else 7
        check_image_size(self, least, f"stem={self.stem!r} and the poolings")


def build(hparams: AlexNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    first, *filters = hparams.filters
    inputs = x = image_input(hparams)
    if hparams.stem == "imagenet":
        x = keras.layers.ZeroPadding2D(2, name="stem_padding")(x)
        x = conv(x, first, 11, "stem", strides=4, padding="valid")
        x = keras.layers.MaxPooling2D(3, strides=2, name="stem")(x)
    else:
        x = conv(x, first, 3, "stem")
        x = keras.layers.Identity(name="stem")(x)
    x = conv(x, filters[0], 5, "stage_0_block_0")
    x = keras.layers.MaxPooling2D(3, strides=2, name="stage_0")(x)
    for j in range(3):
        x = conv(x, filters[1 + j], 3, f"stage_1_block_{j}")
    x = keras.layers.MaxPooling2D(3, strides=2, name="stage_1")(x)
    x = AdaptiveAveragePooling2D(hparams.grid, name="grid")(x)
    x = keras.layers.Flatten(name="flatten")(x)  # (batch, grid * grid * filters)
    for k in range(2):
        x = keras.layers.Dropout(hparams.dropout_rate, name=f"dense_{k}_dropout")(x)
        x = keras.layers.Dense(
            hparams.dense_units,
            activation="relu",
            kernel_initializer=fan_in_uniform(),
            name=f"dense_{k}",
        )(x)
    x = keras.layers.Identity(name="pooled")(x)  # (batch, dense_units)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def conv(
    x: Any,
    filters: int,
    kernel_size: int,
    name: str,
    strides: int = 1,
    padding: str = "same",
) -> Any:
    """A convolution with a bias, and a ReLU that ends the block."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        kernel_initializer=fan_in_uniform(),
        name=f"{name}_conv",
    )(x)
    end = "stem_relu" if name == "stem" else name
    return keras.layers.Activation("relu", name=end)(x)


def fan_in_uniform() -> keras.initializers.Initializer:
    """Uniform within 1 / sqrt(fan in), PyTorch's own for convolution and dense."""
    return keras.initializers.VarianceScaling(
        1 / 3, mode="fan_in", distribution="uniform"
    )


VARIANTS = {"alexnet": AlexNetHParams(num_classes=1000, image_size=224)}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=AlexNetHParams(
        filters=(8, 16, 16, 16, 16), stem="small", grid=1, dense_units=32, num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper="1404.5997",
)
