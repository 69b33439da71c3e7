"""LeNet-5, which read the digits on bank checks.

LeCun et al., "Gradient-based learning applied to document recognition", 1998, with the
full connections between S2 and C3 that every later code base has, mean poolings
without weights, and a linear layer for the radial basis functions. C5 is a convolution,
as in the paper; where an image is larger than 32x32 its answers are averaged.

Weights start uniform within 2.4 / fan in, as in the paper's appendix A.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class LeNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    filters: tuple[int, int, int] = hp((6, 16, 120), "of C1, C3 and C5", min=1)
    dense_units: int = hp(84, "of F6", min=1, log=True, tune=(32, 256))
    stem: str = hp(
        "classic",
        "small = for small images, convolutions keep the resolution",
        choices=("classic", "small"),
    )
    activation: str = hp("tanh", "of every layer", choices=("tanh", "relu"))
    dropout_rate: float = hp(
        0.0, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 32 if self.stem == "classic" else 4
        check_image_size(self, least, f"stem={self.stem!r}, 5x5 kernels and poolings")


def build(hparams: LeNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = x = image_input(hparams)  # (batch, 32, 32, 1)
    for i, filters in enumerate(hparams.filters[:2]):
        x = conv(x, filters, hparams, f"stage_{i}_block_0")  # C1, C3
        x = keras.layers.AveragePooling2D(2, name=f"stage_{i}")(x)  # S2, S4
    x = conv(x, hparams.filters[2], hparams, "stage_2_block_0")  # C5
    x = keras.layers.GlobalAveragePooling2D(name="stage_2")(x)  # (batch, 120)
    x = keras.layers.Dense(
        hparams.dense_units,
        activation=hparams.activation,
        kernel_initializer=fan_in_uniform(x.shape[-1]),
        name="pooled",
    )(x)  # F6: (batch, 84)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def conv(x: Any, filters: int, hparams: LeNetHParams, name: str) -> Any:
    """A 5x5 convolution and its activation."""
    x = keras.layers.Conv2D(
        filters,
        5,
        padding="valid" if hparams.stem == "classic" else "same",
        kernel_initializer=fan_in_uniform(25 * x.shape[-1]),
        name=f"{name}_conv",
    )(x)
    return keras.layers.Activation(hparams.activation, name=name)(x)


def fan_in_uniform(fan_in: int) -> keras.initializers.Initializer:
    """Uniform within 2.4 / fan in (LeCun et al. 1998, appendix A)."""
    return keras.initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)


VARIANTS = {"lenet5": LeNetHParams(channels=1, image_size=32, num_classes=10)}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=LeNetHParams(
        filters=(4, 8, 32), dense_units=16, stem="small", num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper="10.1109/5.726791",
)
