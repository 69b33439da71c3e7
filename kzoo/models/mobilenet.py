"""Networks for telephones: blocks that widen, convolve each channel, and narrow.

``mobilenet_v2`` is Sandler et al., "MobileNetV2: inverted residuals and linear
bottlenecks", 2018 (1801.04381); ``mobilenet_v3_small`` and ``mobilenet_v3_large`` are
Howard et al., "Searching for MobileNetV3", 2019 (1905.02244), with hard swish and
squeeze-and-excitation.

Kernels start from He's normal over the fan out, as in torchvision; a depthwise
kernel's fan out is that of its own channel, as in TensorFlow's code of the papers.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import ConvNorm, drop_path_rates
from kzoo.layers.inverted_residual import (
    InvertedResidual,
    inverted_residual,
    make_divisible,
    unstrided,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)

# Table 2 of 1801.04381: expansion, filters, blocks, stride of the first.
V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)

# Tables 1 and 2 of 1905.02244, a row a block: kernel size, expanded channels, filters,
# squeeze-and-excitation, activation, stride. A stage is the blocks of equal filters.
V3_LARGE = (
    ((3, 16, 16, False, "relu", 1),),
    ((3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1)),
    (
        (5, 72, 40, True, "relu", 2),
        (5, 120, 40, True, "relu", 1),
        (5, 120, 40, True, "relu", 1),
    ),
    (
        (3, 240, 80, False, "hard_silu", 2),
        (3, 200, 80, False, "hard_silu", 1),
        (3, 184, 80, False, "hard_silu", 1),
        (3, 184, 80, False, "hard_silu", 1),
    ),
    ((3, 480, 112, True, "hard_silu", 1), (3, 672, 112, True, "hard_silu", 1)),
    (
        (5, 672, 160, True, "hard_silu", 2),
        (5, 960, 160, True, "hard_silu", 1),
        (5, 960, 160, True, "hard_silu", 1),
    ),
)
V3_SMALL = (
    ((3, 16, 16, True, "relu", 2),),
    ((3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1)),
    (
        (5, 96, 40, True, "hard_silu", 2),
        (5, 240, 40, True, "hard_silu", 1),
        (5, 240, 40, True, "hard_silu", 1),
    ),
    ((5, 120, 48, True, "hard_silu", 1), (5, 144, 48, True, "hard_silu", 1)),
    (
        (5, 288, 96, True, "hard_silu", 2),
        (5, 576, 96, True, "hard_silu", 1),
        (5, 576, 96, True, "hard_silu", 1),
    ),
)


@dataclass(frozen=True, kw_only=True)
class MobileNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    design: str = hp(
        "v3_large",
        "the paper's table of blocks",
        choices=("v2", "v3_small", "v3_large"),
    )
    stem: str = hp(
        "imagenet",
        "small = for small images: the first two strides are 1",
        choices=("imagenet", "small"),
    )
    width_multiplier: float = hp(
        1.0, "scales the channels of every layer", min=0.05, max=8.0, tune=(0.35, 1.4)
    )
    padding: str = hp(
        "even",
        "where a convolution has a stride: even = as much on each side; uneven = the "
        "odd pixel on the right and the bottom, as in TensorFlow",
        choices=("even", "uneven"),
    )
    norm_epsilon: float = hp(
        1e-3, "what batch normalisation adds to the variance", min=1e-7, max=0.1
    )
    norm_momentum: float = hp(0.99, "of running statistics", min=0.0, max=0.9999)
    drop_path_rate: float = hp(
        0.0, "of the last block, rising from 0", min=0.0, max=0.9, tune=(0.0, 0.3)
    )
    dropout_rate: float = hp(
        0.2, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"imagenet": 32, "small": 8}[self.stem]
        check_image_size(self, least, f"stem={self.stem!r} and the strides after it")

    def width(self, filters: int) -> int:
        return make_divisible(filters * self.width_multiplier)


def build(hparams: MobileNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    v2 = hparams.design == "v2"
    activation = "relu6" if v2 else "hard_silu"
    kind = ConvNorm(
        activation,
        hparams.norm_epsilon,
        hparams.norm_momentum,
        uneven=hparams.padding == "uneven",
    )
    stages = v2_stages(hparams) if v2 else v3_stages(hparams)
    large = hparams.stem == "imagenet"
    if not large:
        stages = unstrided(stages)
    inputs = image_input(hparams)
    filters = hparams.width(32 if v2 else 16)
    x = kind(inputs, filters, 3, 2 if large else 1, name="stem")
    rates = iter(drop_path_rates(hparams.drop_path_rate, sum(map(len, stages))))
    for i, stage in enumerate(stages):
        for j, block in enumerate(stage):
            x = inverted_residual(x, block, kind, next(rates), f"stage_{i}_block_{j}")
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    x = v2_head(x, kind, hparams) if v2 else v3_head(x, kind, hparams)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def v2_stages(hparams: MobileNetHParams) -> list[list[InvertedResidual]]:
    """The blocks of each stage, with their channels scaled."""
    stages = []
    channels = hparams.width(32)
    for expansion, filters, num_blocks, strides in V2:
        stage = []
        for j in range(num_blocks):
            block = InvertedResidual(
                hparams.width(filters),
                expansion * channels,
                strides=strides if j == 0 else 1,
                activation="relu6",
            )
            stage.append(block)
            channels = block.filters
        stages.append(stage)
    return stages


def v3_stages(hparams: MobileNetHParams) -> list[list[InvertedResidual]]:
    """The blocks of each stage, with their channels scaled."""
    table = V3_LARGE if hparams.design == "v3_large" else V3_SMALL
    return [[v3_block(hparams, *row) for row in stage] for stage in table]


def v3_block(
    hparams: MobileNetHParams,
    kernel_size: int,
    expanded: int,
    filters: int,
    squeeze: bool,
    activation: str,
    strides: int,
) -> InvertedResidual:
    """A row of the table."""
    expanded = hparams.width(expanded)
    return InvertedResidual(
        hparams.width(filters),
        expanded,
        kernel_size,
        strides,
        activation,
        squeeze=make_divisible(expanded // 4) if squeeze else 0,
        gate="hard_sigmoid",
    )


def v2_head(x: Any, kind: ConvNorm, hparams: MobileNetHParams) -> Any:
    """(batch, h, w, c) -> (batch, 1280): that many in narrower networks too."""
    filters = make_divisible(1280 * max(1.0, hparams.width_multiplier))
    x = kind(x, filters, 1, name="head")
    return keras.layers.GlobalAveragePooling2D(name="pooled")(x)


def v3_head(x: Any, kind: ConvNorm, hparams: MobileNetHParams) -> Any:
    """(batch, h, w, c) -> (batch, 1280 or 1024): the last widening after the mean."""
    x = kind(x, 6 * x.shape[-1], 1, name="head")
    x = keras.layers.GlobalAveragePooling2D(name="pooled_space")(x)
    units = hparams.width(1280 if hparams.design == "v3_large" else 1024)
    x = keras.layers.Dense(units, name="dense")(x)
    return keras.layers.Activation("hard_silu", name="pooled")(x)


VARIANTS = {
    "mobilenet_v2": MobileNetHParams(
        design="v2",
        norm_epsilon=1e-5,
        norm_momentum=0.9,
        num_classes=1000,
        image_size=224,
    ),
    "mobilenet_v3_small": MobileNetHParams(
        design="v3_small", num_classes=1000, image_size=224
    ),
    "mobilenet_v3_large": MobileNetHParams(
        design="v3_large", num_classes=1000, image_size=224
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=MobileNetHParams(
        design="v3_small", stem="small", width_multiplier=0.1, num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper={
        "mobilenet_v2": "1801.04381",
        "mobilenet_v3_small": "1905.02244",
        "mobilenet_v3_large": "1905.02244",
    },
)
