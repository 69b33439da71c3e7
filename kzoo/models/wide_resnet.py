"""Wide residual networks for small images: fewer blocks, more filters in each.

Zagoruyko & Komodakis, "Wide residual networks", 2016 (1605.07146). Normalisation and
activation stand before each convolution, and dropout, where there is any, between the
two of a block. ``wide_resnet_28_10`` has 28 layers and ten times the filters of He's
network. (``wide_resnet50_2``, for large images, is a residual network of wide
bottlenecks: ``kzoo/models/resnet.py``.)

Convolutions start from He's normal over the fan out, as in the authors' code.
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

NUM_STAGES = 3


@dataclass(frozen=True, kw_only=True)
class WideResNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    depth: int = hp(28, "layers: 4 and 6 for each block of a stage", min=10, max=1000)
    widening: int = hp(10, "filters in units of 16, 32 and 64", min=1, tune=(1, 10))
    stem: str = hp(
        "small",
        "3x3, or 7x7 at stride 2 and a pooling for large images",
        choices=("imagenet", "small"),
    )
    stem_filters: int = hp(16, "of the first convolution", min=1)
    dropout_rate: float = hp(
        0.0, "between a block's convolutions", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    drop_path_rate: float = hp(
        0.0, "of the last block, rising from 0", min=0.0, max=0.9, tune=(0.0, 0.3)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth % 6 != 4:
            low = self.depth - (self.depth - 4) % 6
            raise ValueError(
                f"depth={self.depth} is not 6 n + 4; nearest are {low} and {low + 6}"
            )
        reduction = 16 if self.stem == "imagenet" else 4
        check_image_size(self, reduction, f"stem={self.stem!r} and {NUM_STAGES} stages")


def build(hparams: WideResNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = x = image_input(hparams)
    if hparams.stem == "imagenet":
        x = convolution(x, hparams.stem_filters, 7, strides=2, name="stem_conv")
        x = PaddedMaxPooling2D(3, strides=2, padding=1, name="stem")(x)
    else:
        x = convolution(x, hparams.stem_filters, 3, name="stem_conv")
        x = keras.layers.Identity(name="stem")(x)
    num_blocks = (hparams.depth - 4) // 6
    rates = iter(drop_path_rates(hparams.drop_path_rate, NUM_STAGES * num_blocks))
    for i in range(NUM_STAGES):
        for j in range(num_blocks):
            strides = 2 if i > 0 and j == 0 else 1
            filters = 16 * 2**i * hparams.widening
            name = f"stage_{i}_block_{j}"
            x = block(x, filters, strides, hparams.dropout_rate, next(rates), name)
        x = keras.layers.Identity(name=f"stage_{i}")(x)  # half the resolution
    x = norm_activation(x, "final_norm")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, filters)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def block(
    x: Any, filters: int, strides: int, dropout_rate: float, rate: float, name: str
) -> Any:
    """The sum of the shortcut and twice conv(relu(norm(...)))."""
    shortcut = x
    x = norm_activation(x, f"{name}_norm_0")
    if shortcut.shape[-1] != filters:
        shortcut = convolution(
            x, filters, 1, strides=strides, name=f"{name}_shortcut_conv"
        )
    elif strides > 1:
        shortcut = keras.layers.AveragePooling2D(
            1, strides=strides, name=f"{name}_shortcut_pool"
        )(shortcut)
    x = convolution(x, filters, 3, strides=strides, name=f"{name}_conv_0")
    x = norm_activation(x, f"{name}_norm_1")
    x = keras.layers.Dropout(dropout_rate, name=f"{name}_dropout")(x)
    x = convolution(x, filters, 3, name=f"{name}_conv_1")
    x = drop_path(x, rate, f"{name}_drop_path")
    return keras.layers.Add(name=name)([shortcut, x])


def _cifar(depth: int, widening: int, num_classes: int) -> WideResNetHParams:
    return WideResNetHParams(
        depth=depth, widening=widening, num_classes=num_classes, image_size=32
    )


VARIANTS = {
    "wide_resnet_28_10": _cifar(28, 10, num_classes=10),
    # The teachers and students of the distillation literature (1910.10699).
    "wide_resnet_40_2": _cifar(40, 2, num_classes=100),
    "wide_resnet_40_1": _cifar(40, 1, num_classes=100),
    "wide_resnet_16_2": _cifar(16, 2, num_classes=100),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=WideResNetHParams(depth=10, widening=1, stem_filters=8, num_classes=3),
    tasks=("image-classification", "regression"),
    paper="1605.07146",
)
