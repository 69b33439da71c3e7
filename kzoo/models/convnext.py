"""ConvNeXt: a convolutional network with the proportions of a vision transformer.

Liu et al., "A ConvNet for the 2020s", 2022 (2201.03545); ``convnext_v2_*`` are Woo et
al., "ConvNeXt V2", 2023 (2301.00808), which normalises each channel by what all
channels respond over the image instead of scaling the branches.

Kernels start from a normal of standard deviation 0.02 and biases from 0, as in the
authors' code.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.convolution import drop_path, drop_path_rates, small_normal
from kzoo.layers.scale import layer_scale
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class ConvNeXtHParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    num_blocks: tuple[int, ...] = hp((3, 3, 9, 3), "of each stage", min=1, max=200)
    filters: tuple[int, ...] = hp(
        (96, 192, 384, 768), "channels of each stage", min=1, max=65536
    )
    stem: str = hp(
        "imagenet",
        "imagenet = patches of 4x4; small = for small images, a 3x3 convolution",
        choices=("imagenet", "small"),
    )
    layer_scale: float = hp(
        1e-6, "what each branch is scaled by at the start; 0 = none", min=0.0, max=10.0
    )
    response_norm: bool = hp(False, "global response normalisation, as in V2")
    drop_path_rate: float = hp(
        0.1, "rising from 0 to this at the last block", min=0.0, max=0.9, tune=(0, 0.5)
    )
    dropout_rate: float = hp(
        0.0, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != len(self.filters):
            raise ValueError(
                f"num_blocks={self.num_blocks} and filters={self.filters} must be of "
                "one length, a number a stage"
            )
        halvings = len(self.filters) - 1
        least = (4 if self.stem == "imagenet" else 1) * 2**halvings
        check_image_size(self, least, f"stem={self.stem!r} and {halvings} halvings")


def build(hparams: ConvNeXtHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = image_input(hparams)
    x = stem(inputs, hparams)
    rates = iter(drop_path_rates(hparams.drop_path_rate, sum(hparams.num_blocks)))
    for i, num_blocks in enumerate(hparams.num_blocks):
        if i > 0:
            x = layer_norm(x, f"downsample_{i}_norm")
            x = convolution(x, hparams.filters[i], 2, 2, f"downsample_{i}_conv")
        for j in range(num_blocks):
            x = block(x, hparams, next(rates), f"stage_{i}_block_{j}")
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)  # (batch, filters)
    x = layer_norm(x, "pooled")
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def stem(x: Any, hparams: ConvNeXtHParams) -> Any:
    """Patches of 4x4; of small images, none of the resolution is given up."""
    filters = hparams.filters[0]
    if hparams.stem == "imagenet":
        x = convolution(x, filters, 4, 4, "stem_conv")
    else:
        x = convolution(x, filters, 3, 1, "stem_conv", padding="same")
    return layer_norm(x, "stem")


def block(x: Any, hparams: ConvNeXtHParams, rate: float, name: str) -> Any:
    """(batch, h, w, filters): 7x7 in each channel, then an MLP at each pixel."""
    filters = x.shape[-1]
    y = keras.layers.DepthwiseConv2D(
        7, padding="same", depthwise_initializer=small_normal(), name=f"{name}_conv"
    )(x)
    y = layer_norm(y, f"{name}_norm")
    y = dense(y, 4 * filters, f"{name}_mlp_in")
    y = keras.layers.Activation("gelu", name=f"{name}_gelu")(y)
    if hparams.response_norm:
        y = GlobalResponseNorm(name=f"{name}_response_norm")(y)
    y = dense(y, filters, f"{name}_mlp_out")
    y = layer_scale(y, hparams.layer_scale, f"{name}_scale")
    y = drop_path(y, rate, f"{name}_drop_path")
    return keras.layers.Add(name=name)([x, y])


def convolution(
    x: Any, filters: int, size: int, strides: int, name: str, padding: str = "valid"
) -> Any:
    """With a bias, and all of the image covered where the size is the stride."""
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        kernel_initializer=small_normal(),
        name=name,
    )(x)


def dense(x: Any, units: int, name: str) -> Any:
    """A linear map of the channels at each pixel."""
    return keras.layers.Dense(units, kernel_initializer=small_normal(), name=name)(x)


def layer_norm(x: Any, name: str) -> Any:
    """Over the channels, with the authors' constant."""
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)


@keras.saving.register_keras_serializable("kzoo")
class GlobalResponseNorm(keras.layers.Layer):
    """x + gamma n(x) x + beta: channels that respond most, most (2301.00808, sec. 3.2).

    n is the norm of a channel over the image, as a share of the channels' mean of it.
    Starts as the identity.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="zeros", name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, x: Any) -> Any:
        y = ops.cast(x, "float32")  # squares leave float16's range
        square = ops.sum(ops.square(y), axis=(1, 2), keepdims=True)
        # A channel of zeros alone has a norm of 0 and no slope there.
        norm = ops.sqrt(ops.maximum(square, 1e-24))  # (batch, 1, 1, channels)
        share = norm / (ops.mean(norm, axis=-1, keepdims=True) + EPSILON)
        return x + self.gamma * (x * ops.cast(share, x.dtype)) + self.beta


def _v1(
    num_blocks: tuple[int, ...], width: int, drop_path_rate: float, **changes: Any
) -> ConvNeXtHParams:
    return ConvNeXtHParams(
        num_blocks=num_blocks,
        filters=tuple(width * 2**i for i in range(4)),
        drop_path_rate=drop_path_rate,
        image_size=224,
        num_classes=1000,
        **changes,
    )


def _v2(
    num_blocks: tuple[int, ...], width: int, drop_path_rate: float
) -> ConvNeXtHParams:
    changes = {"layer_scale": 0.0, "response_norm": True}
    return _v1(num_blocks, width, drop_path_rate, **changes)


VARIANTS = {
    "convnext_tiny": _v1((3, 3, 9, 3), 96, 0.1),
    "convnext_small": _v1((3, 3, 27, 3), 96, 0.4),
    "convnext_base": _v1((3, 3, 27, 3), 128, 0.5),
    "convnext_large": _v1((3, 3, 27, 3), 192, 0.5),
    "convnext_v2_atto": _v2((2, 2, 6, 2), 40, 0.1),
    "convnext_v2_femto": _v2((2, 2, 6, 2), 48, 0.1),
    "convnext_v2_pico": _v2((2, 2, 6, 2), 64, 0.1),
    "convnext_v2_nano": _v2((2, 2, 8, 2), 80, 0.1),
    "convnext_v2_tiny": _v2((3, 3, 9, 3), 96, 0.2),
    "convnext_v2_base": _v2((3, 3, 27, 3), 128, 0.1),
    "convnext_v2_large": _v2((3, 3, 27, 3), 192, 0.2),
    "convnext_v2_huge": _v2((3, 3, 27, 3), 352, 0.3),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ConvNeXtHParams(
        num_blocks=(1, 2), filters=(4, 8), stem="small", num_classes=3
    ),
    tasks=("image-classification", "regression"),
    paper={name: "2301.00808" if "_v2_" in name else "2201.03545" for name in VARIANTS},
)
