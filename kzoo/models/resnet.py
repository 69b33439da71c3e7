"""Residual networks: blocks that add to what comes in, so that depth costs nothing.

He et al., "Deep residual learning for image recognition", 2016 (1512.03385), with the
stride in a bottleneck's 3x3 convolution, as every later code base has it. For CIFAR
there are two kinds: ``resnet20`` to ``resnet110``, whose shortcuts hold no weights (the
paper's option A), and ``resnet8x4`` and ``resnet32x4``, four times as wide, teachers
and students of the distillation literature (Tian et al. 2020, 1910.10699). With full
pre-activation (He et al. 2016, 1603.05027), grouped convolutions (ResNeXt, Xie et al.
2017, 1611.05431), wider bottlenecks (Zagoruyko & Komodakis 2016, 1605.07146) and
squeeze-and-excitation (Hu et al. 2018, 1709.01507).

Convolutions start from He's normal over the fan out, as in torchvision and fb.resnet.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.convolution import (
    PaddedMaxPooling2D,
    batch_norm,
    convolution,
    drop_path,
    drop_path_rates,
    norm_activation,
    squeeze_excite,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)


@dataclass(frozen=True, kw_only=True)
class ResNetHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    block: str = hp(
        "bottleneck", "two 3x3, or 1x1, 3x3 and 1x1", choices=("basic", "bottleneck")
    )
    num_blocks: tuple[int, ...] = hp((3, 4, 6, 3), "of each stage", min=1, max=200)
    filters: tuple[int, ...] = hp(
        (64, 128, 256, 512), "width of each stage; a bottleneck's end has four times it"
    )
    stem: str = hp(
        "imagenet",
        "7x7 at stride 2 and a pooling, or 3x3 for small images",
        choices=("imagenet", "small"),
    )
    stem_filters: int = hp(64, "of the first convolution", min=1)
    groups: int = hp(1, "of a bottleneck's 3x3 convolution", min=1)
    group_width: int = hp(64, "its filters a group where the stage has 64", min=1)
    strided_conv: str = hp(
        "3x3",
        "which of a bottleneck's convolutions halves the resolution",
        choices=("1x1", "3x3"),
    )
    shortcut: str = hp(
        "projection",
        "where the shape changes: 1x1 convolution, or zeros (option A)",
        choices=("projection", "identity"),
    )
    pre_activation: bool = hp(False, "normalise before the convolutions (v2)")
    squeeze_excite: bool = hp(False, "scale channels at the end of a block, by 1/16")
    drop_path_rate: float = hp(
        0.0, "of the last block, rising from 0", min=0.0, max=0.9, tune=(0.0, 0.3)
    )
    dropout_rate: float = hp(
        0.0, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != len(self.filters):
            raise ValueError(
                f"num_blocks={self.num_blocks} and filters={self.filters} must name as "
                "many stages"
            )
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise ValueError(
                f"groups={self.groups} and group_width={self.group_width} go with "
                "block='bottleneck', not with 'basic'"
            )
        reduction = (4 if self.stem == "imagenet" else 1) * 2 ** (len(self.filters) - 1)
        why = f"stem={self.stem!r} and {len(self.filters)} stages"
        check_image_size(self, reduction, why)


def build(hparams: ResNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = image_input(hparams)
    x = stem(inputs, hparams)  # (batch, h / 4, w / 4, stem_filters)
    rates = iter(drop_path_rates(hparams.drop_path_rate, sum(hparams.num_blocks)))
    residual = pre_activated if hparams.pre_activation else post_activated
    for i, num_blocks in enumerate(hparams.num_blocks):
        for j in range(num_blocks):
            strides = 2 if i > 0 and j == 0 else 1
            name = f"stage_{i}_block_{j}"
            x = residual(x, hparams, i, strides, next(rates), name)
        x = keras.layers.Identity(name=f"stage_{i}")(x)  # half the resolution
    if hparams.pre_activation:
        x = norm_activation(x, "final_norm")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, features)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def stem(x: Any, hparams: ResNetHParams) -> Any:
    """Down to a quarter of the resolution; of small images, none of it is given up."""
    large = hparams.stem == "imagenet"
    kernel_size, strides = (7, 2) if large else (3, 1)
    x = convolution(
        x, hparams.stem_filters, kernel_size, strides=strides, name="stem_conv"
    )
    if not hparams.pre_activation:
        x = norm_activation(x, "stem_norm")
    if large:
        x = PaddedMaxPooling2D(3, strides=2, padding=1, name="stem_pool")(x)
    return keras.layers.Identity(name="stem")(x)


def post_activated(
    x: Any, hparams: ResNetHParams, stage: int, strides: int, rate: float, name: str
) -> Any:
    """ReLU of the sum of shortcut and norm(conv(...))."""
    shortcut = x
    *first, last = convolutions_of(hparams, stage, strides)
    for k, options in enumerate(first):
        x = convolution(x, **options, name=f"{name}_conv_{k}")
        x = norm_activation(x, f"{name}_norm_{k}")
    x = convolution(x, **last, name=f"{name}_conv_{len(first)}")
    x = batch_norm(x, f"{name}_norm_{len(first)}")
    if hparams.squeeze_excite:
        x = squeeze_excite(x, x.shape[-1] // 16, name=f"{name}_se")
    x = drop_path(x, rate, f"{name}_drop_path")
    if strides > 1 or shortcut.shape[-1] != x.shape[-1]:
        if hparams.shortcut == "identity":
            shortcut = padded_shortcut(shortcut, x.shape[-1], strides, name)
        else:
            shortcut = convolution(
                shortcut, x.shape[-1], 1, strides=strides, name=f"{name}_shortcut_conv"
            )
            shortcut = batch_norm(shortcut, f"{name}_shortcut_norm")
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return keras.layers.Activation("relu", name=name)(x)


def pre_activated(
    x: Any, hparams: ResNetHParams, stage: int, strides: int, rate: float, name: str
) -> Any:
    """The sum of shortcut and conv(relu(norm(...)))."""
    shortcut = x
    for k, options in enumerate(convolutions_of(hparams, stage, strides)):
        x = norm_activation(x, f"{name}_norm_{k}")
        if k == 0:
            first = x
        x = convolution(x, **options, name=f"{name}_conv_{k}")
    if hparams.squeeze_excite:
        x = squeeze_excite(x, x.shape[-1] // 16, name=f"{name}_se")
    x = drop_path(x, rate, f"{name}_drop_path")
    if strides > 1 or shortcut.shape[-1] != x.shape[-1]:
        if hparams.shortcut == "identity":
            shortcut = padded_shortcut(shortcut, x.shape[-1], strides, name)
        else:
            shortcut = convolution(
                first, x.shape[-1], 1, strides=strides, name=f"{name}_shortcut_conv"
            )
    return keras.layers.Add(name=name)([shortcut, x])


def convolutions_of(
    hparams: ResNetHParams, stage: int, strides: int
) -> list[dict[str, Any]]:
    """The arguments of a block's two or three convolutions."""
    filters = hparams.filters[stage]
    if hparams.block == "basic":
        return [
            {"filters": filters, "kernel_size": 3, "strides": strides},
            {"filters": filters, "kernel_size": 3},
        ]
    width = filters * hparams.group_width // 64 * hparams.groups
    first, second = (1, strides) if hparams.strided_conv == "3x3" else (strides, 1)
    return [
        {"filters": width, "kernel_size": 1, "strides": first},
        {
            "filters": width,
            "kernel_size": 3,
            "strides": second,
            "groups": hparams.groups,
        },
        {"filters": 4 * filters, "kernel_size": 1},
    ]


def padded_shortcut(x: Any, filters: int, strides: int, name: str) -> Any:
    """Every ``strides``-th pixel, and channels of zeros after the ones that are there.

    He et al. 2016, sec. 4.2, option A, as fb.resnet.torch does it.
    """
    if strides > 1:
        x = keras.layers.AveragePooling2D(
            1, strides=strides, name=f"{name}_shortcut_pool"
        )(x)
    return ZeroChannels(filters, name=f"{name}_shortcut")(x)


@keras.saving.register_keras_serializable("kzoo")
class ZeroChannels(keras.layers.Layer):
    """(batch, h, w, c) -> (batch, h, w, filters): zeros after the c channels."""

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, x: Any) -> Any:
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.filters - x.shape[-1])))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def _imagenet(*num_blocks: int, **changes: Any) -> ResNetHParams:
    return ResNetHParams(
        num_blocks=num_blocks, num_classes=1000, image_size=224, **changes
    )


def _cifar(depth: int, widening: int = 0) -> ResNetHParams:
    """Three stages of (depth - 2) / 6 blocks; no projections unless widened."""
    return ResNetHParams(
        block="basic",
        num_blocks=((depth - 2) // 6,) * 3,
        filters=tuple(filters * (widening or 1) for filters in (16, 32, 64)),
        stem="small",
        stem_filters=32 if widening else 16,
        shortcut="projection" if widening else "identity",
        num_classes=100 if widening else 10,
        image_size=32,
    )


VARIANTS = {
    "resnet18": _imagenet(2, 2, 2, 2, block="basic"),
    "resnet34": _imagenet(3, 4, 6, 3, block="basic"),
    "resnet50": _imagenet(3, 4, 6, 3),
    "resnet101": _imagenet(3, 4, 23, 3),
    "resnet152": _imagenet(3, 8, 36, 3),
    "resnet50_v2": _imagenet(3, 4, 6, 3, pre_activation=True),
    "resnet101_v2": _imagenet(3, 4, 23, 3, pre_activation=True),
    "resnet152_v2": _imagenet(3, 8, 36, 3, pre_activation=True),
    "resnext50_32x4d": _imagenet(3, 4, 6, 3, groups=32, group_width=4),
    "resnext101_32x8d": _imagenet(3, 4, 23, 3, groups=32, group_width=8),
    "wide_resnet50_2": _imagenet(3, 4, 6, 3, group_width=128),
    "wide_resnet101_2": _imagenet(3, 4, 23, 3, group_width=128),
    "se_resnet50": _imagenet(3, 4, 6, 3, squeeze_excite=True),
    "resnet20": _cifar(20),
    "resnet32": _cifar(32),
    "resnet44": _cifar(44),
    "resnet56": _cifar(56),
    "resnet110": _cifar(110),
    "resnet8x4": _cifar(8, widening=4),
    "resnet32x4": _cifar(32, widening=4),
}
_PAPERS = {"_v2": "1603.05027", "resnext": "1611.05431", "wide": "1605.07146"} | {
    "se_": "1709.01507",
    "x4": "1910.10699",
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ResNetHParams(
        num_blocks=(1, 2),
        filters=(4, 8),
        stem="small",
        stem_filters=8,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper={
        name: next(
            (paper for part, paper in _PAPERS.items() if part in name), "1512.03385"
        )
        for name in VARIANTS
    },
)
