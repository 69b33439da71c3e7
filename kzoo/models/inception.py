"""Inception networks: convolutions of several sizes side by side, concatenated.

``googlenet`` is Szegedy et al., "Going deeper with convolutions", 2014 (1409.4842),
with the batch normalisation of Ioffe & Szegedy, 2015, as torchvision has it: its
"5x5" branch is a 3x3 convolution. ``inception_v3`` is Szegedy et al., "Rethinking the
Inception architecture for computer vision", 2015 (1512.00567). Kernels are drawn from
a normal distribution of the standard deviation in torchvision's code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.convolution import ConvNorm, PaddedMaxPooling2D
from kzoo.models.family import (
    Family,
    ImageHParams,
    check_image_size,
    image_input,
    logits_head,
)

GOOGLENET_CONV = ConvNorm(
    epsilon=1e-3, initializer=lambda: keras.initializers.RandomNormal(stddev=0.01)
)
INCEPTION_V3_CONV = ConvNorm(
    epsilon=1e-3, initializer=lambda: keras.initializers.RandomNormal(stddev=0.1)
)

# Filters of each block of GoogLeNet (table 1): 1x1, 3x3 and "5x5", each behind a
# reduction, and the projection of the pool.
GOOGLENET_STAGES = (
    (
        (64, (96, 128), (16, 32), 32),
        (128, (128, 192), (32, 96), 64),
    ),
    (
        (192, (96, 208), (16, 48), 64),
        (160, (112, 224), (24, 64), 64),
        (128, (128, 256), (24, 64), 64),
        (112, (144, 288), (32, 64), 64),
        (256, (160, 320), (32, 128), 128),
    ),
    (
        (256, (160, 320), (32, 128), 128),
        (384, (192, 384), (48, 128), 128),
    ),
)


@dataclass(frozen=True, kw_only=True)
class InceptionHParams(ImageHParams):
    """What both generations have."""

    stem: str = hp(
        "imagenet",
        "the first layers; small = for small images, no stride and no pooling",
        choices=("imagenet", "small"),
    )
    width_multiplier: float = hp(
        1.0, "scales the channels of every layer", min=0.01, max=8.0, tune=(0.25, 1.0)
    )
    dropout_rate: float = hp(
        0.2, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    aux_heads: bool = hp(False, "give the logits of auxiliary heads too, in a dict")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.aux_heads and not self.num_classes:
            raise ValueError("aux_heads are classifiers: num_classes must not be 0")

    def width(self, filters: int) -> int:
        return max(1, round(filters * self.width_multiplier))


@dataclass(frozen=True, kw_only=True)
class GoogLeNetHParams(InceptionHParams):
    """Images (batch, height, width, channels)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"imagenet": 15, "small": 2}[self.stem]
        check_image_size(self, least, f"the {self.stem} stem and two poolings")


@dataclass(frozen=True, kw_only=True)
class InceptionV3HParams(InceptionHParams):
    """Images (batch, height, width, channels)."""

    edge_mean: str = hp(
        "padded",
        "of the pools at an image's edge: padded = with the zeros past it, as in "
        "PyTorch; real = of its pixels alone, as in Keras",
        choices=("padded", "real"),
    )
    dropout_rate: float = hp(
        0.5, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"imagenet": 75, "small": 7}[self.stem]
        check_image_size(self, least, f"the {self.stem} stem and two reductions")


# A convolution of inception_v3: filters, kernel size and, where it halves, stride 2; or
# two kernel sizes side by side on the same input, concatenated.
Conv = tuple[Any, ...]
Branches = dict[str, tuple[Conv, ...]]


def mixed_35(pool: int) -> Branches:
    """Figure 5 of the paper, at 35x35."""
    return {
        "1x1": ((64, 1),),
        "5x5": ((48, 1), (64, 5)),
        "3x3dbl": ((64, 1), (96, 3), (96, 3)),
        "_pool": ((pool, 1),),
    }


def mixed_17(inner: int) -> Branches:
    """Figure 6, at 17x17: 7x7 as 1x7 and 7x1."""
    return {
        "1x1": ((192, 1),),
        "7x7": ((inner, 1), (inner, (1, 7)), (192, (7, 1))),
        "7x7dbl": (
            (inner, 1),
            (inner, (7, 1)),
            (inner, (1, 7)),
            (inner, (7, 1)),
            (192, (1, 7)),
        ),
        "_pool": ((192, 1),),
    }


SPLIT = ((1, 3), (3, 1))
MIXED_8: Branches = {  # figure 7, at 8x8
    "1x1": ((320, 1),),
    "3x3": ((384, 1), (384, SPLIT)),
    "3x3dbl": ((448, 1), (384, 3), (384, SPLIT)),
    "_pool": ((192, 1),),
}
REDUCE_TO_17: Branches = {
    "3x3": ((384, 3, 2),),
    "3x3dbl": ((64, 1), (96, 3), (96, 3, 2)),
}
REDUCE_TO_8: Branches = {
    "3x3": ((192, 1), (320, 3, 2)),
    "7x7x3": ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
}
INCEPTION_V3_STAGES: tuple[tuple[Branches, ...], ...] = (
    (mixed_35(32), mixed_35(64), mixed_35(64)),
    (REDUCE_TO_17, mixed_17(128), mixed_17(160), mixed_17(160), mixed_17(192)),
    (REDUCE_TO_8, MIXED_8, MIXED_8),
)


def build_googlenet(hparams: GoogLeNetHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    conv = GOOGLENET_CONV
    width = hparams.width
    inputs = x = image_input(hparams)
    if hparams.stem == "imagenet":
        x = conv(x, width(64), 7, strides=2, name="stem_0")
        x = ceil_pool(x, 3, "stem_pool_0")
        x = conv(x, width(64), 1, name="stem_1")
        x = conv(x, width(192), 3, name="stem_2")
        x = ceil_pool(x, 3, "stem_pool_2")
    else:
        x = conv(x, width(64), 3, name="stem_0")
        x = conv(x, width(64), 1, name="stem_1")
        x = conv(x, width(192), 3, name="stem_2")
    x = keras.layers.Identity(name="stem")(x)
    outputs = {}
    for i, stage in enumerate(GOOGLENET_STAGES):
        if i:
            x = ceil_pool(x, {1: 3, 2: 2}[i], f"stage_{i}_pool")  # half the resolution
        for j, filters in enumerate(stage):
            x = googlenet_block(x, filters, hparams, f"stage_{i}_block_{j}")
            head = {(1, 0): "early", (1, 3): "late"}.get((i, j))
            if hparams.aux_heads and head:
                outputs[f"logits_{head}"] = googlenet_aux_head(x, hparams, head)
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    return finished(inputs, x, outputs, hparams)


def googlenet_block(x: Any, filters: Any, hparams: GoogLeNetHParams, name: str) -> Any:
    """Four branches on the same input, concatenated."""
    conv = GOOGLENET_CONV
    width = hparams.width
    ones, threes, fives, projection = filters
    branches = [conv(x, width(ones), 1, name=f"{name}_branch1")]
    for k, (reduced, full) in enumerate((threes, fives), start=2):
        y = conv(x, width(reduced), 1, name=f"{name}_branch{k}_0")
        branches.append(conv(y, width(full), 3, name=f"{name}_branch{k}_1"))
    y = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_branch4_0")(x)
    branches.append(conv(y, width(projection), 1, name=f"{name}_branch4_1"))
    return keras.layers.Concatenate(name=name)(branches)


def googlenet_aux_head(x: Any, hparams: GoogLeNetHParams, name: str) -> Any:
    """Logits from the middle of the network, for training (sec. 5 of the paper)."""
    x = AdaptiveMean(4, name=f"aux_{name}_pool")(x)  # (batch, 4, 4, channels)
    x = GOOGLENET_CONV(x, hparams.width(128), 1, name=f"aux_{name}")
    x = keras.layers.Flatten(name=f"aux_{name}_flatten")(x)
    units = hparams.width(1024)
    x = keras.layers.Dense(units, activation="relu", name=f"aux_{name}_dense")(x)
    x = keras.layers.Dropout(0.7, name=f"aux_{name}_dropout")(x)
    return keras.layers.Dense(
        hparams.num_classes, dtype="float32", name=f"logits_{name}"
    )(x)


def build_inception_v3(hparams: InceptionV3HParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    conv = INCEPTION_V3_CONV
    width = hparams.width
    inputs = x = image_input(hparams)
    if hparams.stem == "imagenet":  # 299
        x = conv(x, width(32), 3, strides=2, padding="valid", name="stem_0")  # 149
        x = conv(x, width(32), 3, padding="valid", name="stem_1")  # 147
        x = conv(x, width(64), 3, name="stem_2")
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool_2")(x)  # 73
        x = conv(x, width(80), 1, name="stem_3")
        x = conv(x, width(192), 3, padding="valid", name="stem_4")  # 71
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool_4")(x)  # 35
    else:
        for k, filters in enumerate((32, 32, 64, 80, 192)):
            x = conv(x, width(filters), 1 if k == 3 else 3, name=f"stem_{k}")
    x = keras.layers.Identity(name="stem")(x)
    outputs = {}
    for i, stage in enumerate(INCEPTION_V3_STAGES):
        for j, branches in enumerate(stage):
            x = mixed_block(x, branches, hparams, f"stage_{i}_block_{j}")
        x = keras.layers.Identity(name=f"stage_{i}")(x)
        if hparams.aux_heads and i == 1:
            outputs["logits_aux"] = inception_v3_aux_head(x, hparams)
    return finished(inputs, x, outputs, hparams)


def mixed_block(
    x: Any, branches: Branches, hparams: InceptionV3HParams, name: str
) -> Any:
    """Branches on the same input, concatenated."""
    outputs = []
    for branch, convs in branches.items():
        y = x
        if branch == "_pool":
            padding = "same"  # whose mean is of the real pixels
            if hparams.edge_mean == "padded":
                y = keras.layers.ZeroPadding2D(1, name=f"{name}_pool_padding")(y)
                padding = "valid"
            y = keras.layers.AveragePooling2D(3, 1, padding, name=f"{name}_pool")(y)
        for k, conv in enumerate(convs, start=1):
            number = f"_{k}" if len(convs) > 1 else ""
            y = mixed_conv(y, conv, hparams, f"{name}_branch{branch}{number}")
        outputs.append(y)
    if "_pool" not in branches:  # a reduction
        outputs.append(keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x))
    return keras.layers.Concatenate(name=name)(outputs)


def mixed_conv(x: Any, spec: Conv, hparams: InceptionV3HParams, name: str) -> Any:
    """One convolution of a branch, or two side by side."""
    conv = INCEPTION_V3_CONV
    filters = hparams.width(spec[0])
    if spec[1] == SPLIT:
        sides = [
            conv(x, filters, kernel_size, name=f"{name}{side}")
            for kernel_size, side in zip(SPLIT, "ab", strict=True)
        ]
        return keras.layers.Concatenate(name=name)(sides)
    if len(spec) == 3:
        return conv(x, filters, spec[1], strides=spec[2], padding="valid", name=name)
    return conv(x, filters, spec[1], name=name)


def inception_v3_aux_head(x: Any, hparams: InceptionV3HParams) -> Any:
    """Logits from the last 17x17 grid, for training (sec. 4 of the paper)."""
    conv = INCEPTION_V3_CONV
    x = keras.layers.AveragePooling2D(5, 3, name="aux_pool")(x)  # 5x5
    x = conv(x, hparams.width(128), 1, name="aux_0")
    x = conv(x, hparams.width(768), 5, padding="valid", name="aux_1")  # 1x1
    x = keras.layers.GlobalAveragePooling2D(name="aux_pooled")(x)
    return keras.layers.Dense(hparams.num_classes, dtype="float32", name="logits_aux")(
        x
    )


def ceil_pool(x: Any, size: int, name: str) -> Any:
    """Maxima with stride 2, where the last window may hang over the edge."""
    return PaddedMaxPooling2D(size, 2, ceil_mode=True, name=name)(x)


def finished(
    inputs: Any, x: Any, outputs: dict[str, Any], hparams: InceptionHParams
) -> keras.Model:
    """The head, and the model."""
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, channels)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    logits = logits_head(x, hparams.num_classes)
    if outputs:
        return keras.Model(inputs, {"logits": logits, **outputs})
    return keras.Model(inputs, logits)


@keras.saving.register_keras_serializable("kzoo")
class AdaptiveMean(keras.layers.Layer):
    """Mean of ``size`` x ``size`` windows that cover an image of any size.

    (batch, height, width, channels) -> (batch, size, size, channels). The windows are
    torch's: they share pixels where the size does not divide.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, x: Any) -> Any:
        _, height, width, _ = ops.shape(x)
        rows, columns = (self.shares(n, x.dtype) for n in (height, width))
        x = ops.einsum("rh,bhwc->brwc", rows, x)
        return ops.einsum("sw,brwc->brsc", columns, x)

    def shares(self, length: Any, dtype: Any) -> Any:
        """What each pixel gives to each window: (size, length), rows sum to one."""
        window = ops.arange(self.size)[:, None]
        pixel = ops.arange(length)[None, :]
        first = window * length // self.size
        last = -((window + 1) * length // -self.size)  # rounded up
        inside = ops.logical_and(pixel >= first, pixel < last)
        return ops.cast(inside, dtype) / ops.cast(last - first, dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        return (input_shape[0], self.size, self.size, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


VARIANTS_GOOGLENET = {"googlenet": GoogLeNetHParams(num_classes=1000, image_size=224)}
FAMILY_GOOGLENET = Family(
    build_googlenet,
    VARIANTS_GOOGLENET,
    smallest=GoogLeNetHParams(stem="small", width_multiplier=0.1, num_classes=3),
    tasks=("image-classification", "regression"),
    paper="1409.4842",
    name="googlenet",
)
VARIANTS_V3 = {"inception_v3": InceptionV3HParams(num_classes=1000, image_size=299)}
FAMILY_V3 = Family(
    build_inception_v3,
    VARIANTS_V3,
    smallest=InceptionV3HParams(stem="small", width_multiplier=0.06, num_classes=3),
    tasks=("image-classification", "regression"),
    paper="1512.00567",
    name="inception_v3",
)
FAMILIES = (FAMILY_GOOGLENET, FAMILY_V3)
