"""EfficientNet: one small network, widened, deepened and fed larger images together.

``efficientnet_b0`` to ``b7`` are Tan & Le, "EfficientNet: rethinking model scaling for
convolutional neural networks", 2019 (1905.11946); ``efficientnet_v2_s``, ``_m`` and
``_l`` are Tan & Le, "EfficientNetV2: smaller models and faster training", 2021
(2104.00298), whose first stages convolve all channels at once. As torchvision has them:
with its constants of batch normalisation and its symmetric padding.

Kernels start from He's normal over the fan out, a depthwise kernel's being that of its
own channel, as in the authors' code.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import ConvNorm
from kzoo.layers.inverted_residual import (
    InvertedResidual,
    inverted_residual,
    make_divisible,
    residual,
    unstrided,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)

# Expansion, kernel size, stride of the first block, filters, blocks; and whether
# expansion and depthwise convolution are fused into one convolution.
Stage = tuple[int, int, int, int, int, bool]
DESIGNS: dict[str, tuple[Stage, ...]] = {
    "v1": (  # table 1 of 1905.11946
        (1, 3, 1, 16, 1, False),
        (6, 3, 2, 24, 2, False),
        (6, 5, 2, 40, 2, False),
        (6, 3, 2, 80, 3, False),
        (6, 5, 1, 112, 3, False),
        (6, 5, 2, 192, 4, False),
        (6, 3, 1, 320, 1, False),
    ),
    "v2_s": (  # table 4 of 2104.00298; m and l as in the authors' code
        (1, 3, 1, 24, 2, True),
        (4, 3, 2, 48, 4, True),
        (4, 3, 2, 64, 4, True),
        (4, 3, 2, 128, 6, False),
        (6, 3, 1, 160, 9, False),
        (6, 3, 2, 256, 15, False),
    ),
    "v2_m": (
        (1, 3, 1, 24, 3, True),
        (4, 3, 2, 48, 5, True),
        (4, 3, 2, 80, 5, True),
        (4, 3, 2, 160, 7, False),
        (6, 3, 1, 176, 14, False),
        (6, 3, 2, 304, 18, False),
        (6, 3, 1, 512, 5, False),
    ),
    "v2_l": (
        (1, 3, 1, 32, 4, True),
        (4, 3, 2, 64, 7, True),
        (4, 3, 2, 96, 7, True),
        (4, 3, 2, 192, 10, False),
        (6, 3, 1, 224, 19, False),
        (6, 3, 2, 384, 25, False),
        (6, 3, 1, 640, 7, False),
    ),
}


@dataclass(frozen=True, kw_only=True)
class EfficientNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    design: str = hp("v1", "the papers' table of stages", choices=tuple(DESIGNS))
    width_multiplier: float = hp(
        1.0, "scales the channels of every layer", min=0.05, max=8.0, tune=(0.5, 1.4)
    )
    depth_multiplier: float = hp(
        1.0, "scales the blocks of every stage", min=0.05, max=8.0, tune=(0.5, 1.8)
    )
    stem: str = hp(
        "imagenet",
        "small = for small images: the first two strides are 1",
        choices=("imagenet", "small"),
    )
    padding: str = hp(
        "even",
        "where a convolution has a stride: even = as much on each side; uneven = the "
        "odd pixel on the right and the bottom, as in TensorFlow",
        choices=("even", "uneven"),
    )
    norm_epsilon: float = hp(
        1e-5, "what batch normalisation adds to the variance", min=1e-7, max=0.1
    )
    norm_momentum: float = hp(0.9, "of running statistics", min=0.0, max=0.9999)
    drop_path_rate: float = hp(
        0.2,
        "rising from 0 to this past the last block",
        min=0.0,
        max=0.9,
        tune=(0.0, 0.4),
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


@dataclass(frozen=True)
class FusedInvertedResidual(InvertedResidual):
    """One convolution where the other block has two, and no squeeze-and-excitation."""


def build(hparams: EfficientNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    kind = ConvNorm(
        "silu",
        hparams.norm_epsilon,
        hparams.norm_momentum,
        uneven=hparams.padding == "uneven",
    )
    stages = stages_of(hparams)
    large = hparams.stem == "imagenet"
    if not large:
        stages = unstrided(stages)
    inputs = image_input(hparams)
    x = kind(inputs, stem_filters(hparams), 3, 2 if large else 1, name="stem")
    num_blocks = sum(map(len, stages))
    block_number = 0
    for i, stage in enumerate(stages):
        for j, block in enumerate(stage):
            fused = isinstance(block, FusedInvertedResidual)
            function = fused_inverted_residual if fused else inverted_residual
            rate = hparams.drop_path_rate * block_number / num_blocks
            x = function(x, block, kind, rate, f"stage_{i}_block_{j}")
            block_number += 1
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    # 1280, as published, where nothing is scaled.
    filters = 4 * x.shape[-1] if hparams.design == "v1" else hparams.width(1280)
    x = kind(x, filters, 1, name="head")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, filters)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def stem_filters(hparams: EfficientNetHParams) -> int:
    """Of the first convolution: those of the first stage in the second paper."""
    first = DESIGNS[hparams.design][0][3]
    return hparams.width(32 if hparams.design == "v1" else first)


def stages_of(hparams: EfficientNetHParams) -> list[list[InvertedResidual]]:
    """The blocks of each stage, scaled."""
    stages = []
    channels = stem_filters(hparams)
    for expansion, kernel_size, strides, filters, num_blocks, fused in DESIGNS[
        hparams.design
    ]:
        stage = []
        for j in range(math.ceil(num_blocks * hparams.depth_multiplier)):
            kind = FusedInvertedResidual if fused else InvertedResidual
            block = kind(
                hparams.width(filters),
                make_divisible(channels * expansion),
                kernel_size,
                strides if j == 0 else 1,
                activation="silu",
                squeeze=max(1, channels // 4),
                squeeze_activation="silu",
            )
            stage.append(block)
            channels = block.filters
        stages.append(stage)
    return stages


def fused_inverted_residual(
    x: Any, block: InvertedResidual, kind: ConvNorm, drop_path_rate: float, name: str
) -> Any:
    """(batch, h, w, c) -> (batch, h / strides, w / strides, filters)."""
    shortcut = x
    if block.expanded != x.shape[-1]:
        x = kind(
            x, block.expanded, block.kernel_size, block.strides, name=f"{name}_expand"
        )
        x = kind.linear(x, block.filters, 1, name=f"{name}_project")
    else:
        x = kind(
            x, block.filters, block.kernel_size, block.strides, name=f"{name}_expand"
        )
    return residual(shortcut, x, block.strides, drop_path_rate, name)


def _v1(
    width: float, depth: float, image_size: int, dropout_rate: float
) -> EfficientNetHParams:
    from_b5 = width >= 1.6  # whose weights came from TensorFlow, constants and all
    return EfficientNetHParams(
        width_multiplier=width,
        depth_multiplier=depth,
        image_size=image_size,
        dropout_rate=dropout_rate,
        norm_epsilon=1e-3 if from_b5 else 1e-5,
        norm_momentum=0.99 if from_b5 else 0.9,
        num_classes=1000,
    )


def _v2(size: str, image_size: int, dropout_rate: float) -> EfficientNetHParams:
    return EfficientNetHParams(
        design=f"v2_{size}",
        image_size=image_size,
        dropout_rate=dropout_rate,
        norm_epsilon=1e-3,
        num_classes=1000,
    )


VARIANTS = {
    "efficientnet_b0": _v1(1.0, 1.0, 224, 0.2),
    "efficientnet_b1": _v1(1.0, 1.1, 240, 0.2),
    "efficientnet_b2": _v1(1.1, 1.2, 288, 0.3),
    "efficientnet_b3": _v1(1.2, 1.4, 300, 0.3),
    "efficientnet_b4": _v1(1.4, 1.8, 380, 0.4),
    "efficientnet_b5": _v1(1.6, 2.2, 456, 0.4),
    "efficientnet_b6": _v1(1.8, 2.6, 528, 0.5),
    "efficientnet_b7": _v1(2.0, 3.1, 600, 0.5),
    "efficientnet_v2_s": _v2("s", 384, 0.2),
    "efficientnet_v2_m": _v2("m", 480, 0.3),
    "efficientnet_v2_l": _v2("l", 480, 0.4),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=EfficientNetHParams(
        stem="small", width_multiplier=0.1, depth_multiplier=0.3, num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper={name: "2104.00298" if "_v2_" in name else "1905.11946" for name in VARIANTS},
)
