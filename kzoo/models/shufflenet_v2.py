"""ShuffleNet V2: half of the channels go by, the other half is convolved, all mix.

Ma et al., "ShuffleNet V2: practical guidelines for efficient CNN architecture design",
2018 (1807.11164). Kernels start as in torchvision, which leaves them to PyTorch: drawn
evenly, with a variance of one third of the fan in's inverse.
"""

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


def torch_uniform(fan: str) -> keras.initializers.Initializer:
    """What PyTorch draws a convolution's kernel from unless it is told otherwise."""
    return keras.initializers.VarianceScaling(1 / 3, fan, "uniform")


# Keras counts what comes into a depthwise kernel over all channels, and what goes out
# over its own.
CONV = ConvNorm(
    initializer=lambda: torch_uniform("fan_in"),
    depthwise_initializer=lambda: torch_uniform("fan_out"),
)


@dataclass(frozen=True, kw_only=True)
class ShuffleNetV2HParams(ImageHParams):
    """Images (batch, height, width, channels)."""

    filters: tuple[int, ...] = hp(
        (116, 232, 464), "channels of each stage; even", min=2
    )
    num_blocks: tuple[int, ...] = hp((4, 8, 4), "of each stage", min=1, max=200)
    stem: str = hp(
        "imagenet",
        "small = for small images: no stride and no pooling",
        choices=("imagenet", "small"),
    )
    stem_filters: int = hp(24, "of the first convolution", min=1)
    head_filters: int = hp(1024, "of the last convolution", min=1)
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
        odd = [filters for filters in self.filters if filters % 2]
        if odd:
            raise ValueError(f"filters must be even, to be halved; got {odd[0]}")
        least = (4 if self.stem == "imagenet" else 1) * 2 ** len(self.filters)
        why = f"stem={self.stem!r} and {len(self.filters)} stages"
        check_image_size(self, least, why)


def build(hparams: ShuffleNetV2HParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = image_input(hparams)
    large = hparams.stem == "imagenet"
    x = CONV(inputs, hparams.stem_filters, 3, 2 if large else 1, name="stem_0")
    if large:
        x = PaddedMaxPooling2D(3, 2, padding=1, name="stem_pool")(x)
    x = keras.layers.Identity(name="stem")(x)
    stages = zip(hparams.filters, hparams.num_blocks, strict=True)
    for i, (filters, num_blocks) in enumerate(stages):
        for j in range(num_blocks):
            block = unit if j else downsampling_unit
            x = block(x, filters, f"stage_{i}_block_{j}")
        x = keras.layers.Identity(name=f"stage_{i}")(x)  # half the resolution
    x = CONV(x, hparams.head_filters, 1, name="head")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, head_filters)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def unit(x: Any, filters: int, name: str) -> Any:
    """Figure 3 (c): the first half goes by."""
    first, second = ChannelSplit(name=f"{name}_split")(x)
    second = convolved(second, filters // 2, 1, f"{name}_right")
    return ChannelShuffle(name=name)([first, second])


def downsampling_unit(x: Any, filters: int, name: str) -> Any:
    """Figure 3 (d): both halves see all that comes in, at half the resolution."""
    first = CONV.linear.depthwise(x, 3, 2, name=f"{name}_left_depthwise")
    first = CONV(first, filters // 2, 1, name=f"{name}_left_project")
    second = convolved(x, filters // 2, 2, f"{name}_right")
    return ChannelShuffle(name=name)([first, second])


def convolved(x: Any, filters: int, strides: int, name: str) -> Any:
    """The branch that works: 1x1, depthwise 3x3, 1x1."""
    x = CONV(x, filters, 1, name=f"{name}_expand")
    x = CONV.linear.depthwise(x, 3, strides, name=f"{name}_depthwise")
    return CONV(x, filters, 1, name=f"{name}_project")


@keras.saving.register_keras_serializable("kzoo")
class ChannelSplit(keras.layers.Layer):
    """(batch, h, w, c) -> two of (batch, h, w, c / 2)."""

    def call(self, x: Any) -> Any:
        return ops.split(x, 2, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        half = (*input_shape[:-1], input_shape[-1] // 2)
        return [half, half]


@keras.saving.register_keras_serializable("kzoo")
class ChannelShuffle(keras.layers.Layer):
    """Two of (batch, h, w, c) -> (batch, h, w, 2 c), their channels in turns."""

    def call(self, halves: Any) -> Any:
        x = ops.stack(halves, axis=-1)  # (batch, h, w, c, 2)
        return ops.reshape(x, (*ops.shape(x)[:3], 2 * x.shape[3]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[0][:-1], 2 * input_shape[0][-1])


def _imagenet(*filters: int, head_filters: int = 1024) -> ShuffleNetV2HParams:
    return ShuffleNetV2HParams(
        filters=filters, head_filters=head_filters, num_classes=1000, image_size=224
    )


VARIANTS = {
    "shufflenet_v2_x0_5": _imagenet(48, 96, 192),
    "shufflenet_v2_x1_0": _imagenet(116, 232, 464),
    "shufflenet_v2_x1_5": _imagenet(176, 352, 704),
    "shufflenet_v2_x2_0": _imagenet(244, 488, 976, head_filters=2048),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ShuffleNetV2HParams(
        filters=(16, 32),
        num_blocks=(2, 2),
        stem="small",
        stem_filters=8,
        head_filters=32,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper="1807.11164",
)
