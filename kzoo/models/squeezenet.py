"""SqueezeNet: AlexNet's accuracy from fifty times fewer weights.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", 2016 (1602.07360). A fire module squeezes the channels by a 1x1
convolution and expands them by 1x1 and 3x3 ones side by side. The classes are
channels of a last convolution, of which the mean is taken after a ReLU: logits are
never negative, and a class that is 0 for every image learns no more. Of few classes
some often die so, which ``logits_activation="none"`` rules out. ``squeezenet1_1`` pools
earlier, at 2.4 times less work.

Convolutions start from He's uniform over the fan in, the last one from a normal of
spread 0.01, as in torchvision.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import PaddedMaxPooling2D
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class SqueezeNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    num_blocks: tuple[int, ...] = hp(
        (3, 4, 1), "fire modules between poolings", min=1, max=64
    )
    stem: str = hp(
        "imagenet",
        "a large kernel at stride 2 and a pooling, or 3x3 for small images",
        choices=("imagenet", "small"),
    )
    stem_filters: int = hp(96, "of the first convolution", min=1)
    stem_kernel_size: int = hp(7, "of the first convolution of large images", min=1)
    squeeze_filters: int = hp(
        16, "of the first two modules; each two after them have as many more", min=1
    )
    logits_activation: str = hp(
        "relu",
        "of the last convolution: relu as published; none = no class can die",
        choices=("relu", "none"),
    )
    dropout_rate: float = hp(
        0.5, "before the last convolution", min=0.0, max=0.9, tune=(0.0, 0.7)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = next(size for size in range(1, 10_000) if last_size(self, size) > 0)
        check_image_size(self, least, f"stem={self.stem!r} and the poolings")


def last_size(hparams: SqueezeNetHParams, size: int) -> int:
    """Height of what an image of this height becomes; 0 or less where nothing."""
    pools = len(hparams.num_blocks) - 1
    if hparams.stem == "imagenet":
        size = (size - hparams.stem_kernel_size) // 2 + 1
        pools += 1
    for _ in range(pools):
        size = (size - 2) // 2 + 1 if size > 0 else size
    return size


def build(hparams: SqueezeNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = x = image_input(hparams)
    if hparams.stem == "imagenet":
        kernel_size = hparams.stem_kernel_size
        x = conv(x, hparams.stem_filters, kernel_size, "stem_conv", strides=2)
        x = pool(x, "stem")
    else:
        x = conv(x, hparams.stem_filters, 3, "stem_conv")
        x = keras.layers.Identity(name="stem")(x)
    n = 0
    for i, num_blocks in enumerate(hparams.num_blocks):
        if i > 0:
            x = pool(x, f"stage_{i}_pool")  # half the resolution
        for j in range(num_blocks):
            squeeze = hparams.squeeze_filters * (1 + n // 2)
            x = fire(x, squeeze, 4 * squeeze, f"stage_{i}_block_{j}")
            n += 1
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    if hparams.num_classes == 0:
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        return keras.Model(inputs, logits_head(x, 0))
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    x = keras.layers.Conv2D(
        hparams.num_classes,
        1,
        dtype="float32",
        activation="relu" if hparams.logits_activation == "relu" else None,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        name="logits_1x1",
    )(x)  # (batch, h, w, num_classes)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pooled")(x)
    return keras.Model(inputs, keras.layers.Identity(dtype="float32", name="logits")(x))


def fire(x: Any, squeeze: int, expand: int, name: str) -> Any:
    """(batch, h, w, c) -> (batch, h, w, 2 * expand)."""
    x = conv(x, squeeze, 1, f"{name}_squeeze")
    sides = [conv(x, expand, k, f"{name}_expand_{k}x{k}") for k in (1, 3)]
    return keras.layers.Concatenate(name=name)(sides)


def conv(x: Any, filters: int, kernel_size: int, name: str, strides: int = 1) -> Any:
    """A convolution with bias and ReLU; with a stride it is not padded."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        activation="relu",
        kernel_initializer="he_uniform",
        name=name,
    )(x)


def pool(x: Any, name: str) -> Any:
    """Maxima of 3x3 at stride 2, the last window where it is not whole too."""
    return PaddedMaxPooling2D(3, strides=2, ceil_mode=True, name=name)(x)


VARIANTS = {
    "squeezenet1_0": SqueezeNetHParams(num_classes=1000, image_size=224),
    "squeezenet1_1": SqueezeNetHParams(
        num_blocks=(2, 2, 4),
        stem_filters=64,
        stem_kernel_size=3,
        num_classes=1000,
        image_size=224,
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=SqueezeNetHParams(
        num_blocks=(1, 1),
        stem="small",
        stem_filters=8,
        squeeze_filters=4,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper="1602.07360",
)
