"""Convolutional networks in stages: of images (``cnn``) and of sequences (``cnn_1d``).

A stage is some convolutions, each normalised and activated, and a pooling that halves
the resolution; the head is a dense layer on the mean over what is left. LeCun et al.,
"Gradient-based learning applied to document recognition", 1998, with the batch
normalisation of Ioffe & Szegedy, 2015 (1502.03167).
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.layers.sequence import (
    MaskedLayer,
    MaskedMax,
    MaskedMean,
    ZeroPadding,
    masked_fill,
)
from kzoo.models.family import (
    Family,
    ImageHParams,
    SequenceHParams,
    check_image_size,
    image_input,
    logits_head,
    sequence_input,
)


@dataclass(frozen=True, kw_only=True)
class StageHParams(HParams):
    """The stages and the head, the same for images and sequences."""

    filters: tuple[int, ...] = hp((64, 128), "channels of each stage", min=1)
    kernel_size: int = hp(3, "of each convolution", min=1, max=31, tune=(2, 5))
    num_convs: int = hp(2, "convolutions a stage", min=1, max=16, tune=(1, 3))
    normalization: str = hp(
        "batch",
        "after each convolution",
        choices=("batch", "layer", "none"),
        tune=("batch", "layer"),
    )
    activation: str = hp(
        "relu", "after each normalisation", choices=("relu", "gelu", "silu", "tanh")
    )
    pooling: str = hp("max", "at the end of a stage", choices=("max", "average"))
    dense_units: int = hp(
        128, "of the head; 0 = none", min=0, max=65536, log=True, tune=(16, 512)
    )
    dropout_rate: float = hp(
        0.2, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )


@dataclass(frozen=True, kw_only=True)
class CNNHParams(StageHParams, ImageHParams):
    """Images (batch, height, width, channels)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = len(self.filters)
        check_image_size(self, 2**stages, f"{stages} stages that halve the resolution")


@dataclass(frozen=True, kw_only=True)
class CNN1DHParams(StageHParams, SequenceHParams):
    """Tokens (batch, time) or features (batch, time, num_features)."""

    embedding_dim: int = hp(64, "of a token", min=1, max=4096, log=True, tune=(16, 256))
    global_pooling: str = hp(
        "mean",
        "from steps to one vector",
        choices=("mean", "max"),
        tune=("mean", "max"),
    )


def build(hparams: CNNHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = x = image_input(hparams)
    pools = {
        "max": keras.layers.MaxPooling2D,
        "average": keras.layers.AveragePooling2D,
    }
    for i, filters in enumerate(hparams.filters):
        for j in range(hparams.num_convs):
            name = f"stage_{i}_block_{j}"
            x = keras.layers.Conv2D(
                filters,
                hparams.kernel_size,
                padding="same",
                use_bias=hparams.normalization == "none",
                kernel_initializer="he_normal",
                name=f"{name}_conv",
            )(x)
            x = normalized(hparams.normalization, name)(x)
            x = keras.layers.Activation(hparams.activation, name=name)(x)
        x = pools[hparams.pooling](2, name=f"stage_{i}")(x)  # half the resolution
    x = keras.layers.GlobalAveragePooling2D(name="pooled_space")(x)  # (batch, filters)
    return keras.Model(inputs, head(x, hparams))


def build_1d(hparams: CNN1DHParams) -> keras.Model:
    """(batch, time[, num_features]) -> (batch, num_classes)."""
    inputs, x, mask = sequence_input(hparams, hparams.embedding_dim)
    for i, filters in enumerate(hparams.filters):
        for j in range(hparams.num_convs):
            name = f"stage_{i}_block_{j}"
            x = ZeroPadding(name=f"{name}_zero")(x, mask=mask)
            x = keras.layers.Conv1D(
                filters,
                hparams.kernel_size,
                padding="same",
                use_bias=hparams.normalization == "none",
                kernel_initializer="he_normal",
                name=f"{name}_conv",
            )(x)
            # Batch statistics are those of the real positions alone.
            masked = hparams.normalization == "batch" and mask is not None
            x = normalized(hparams.normalization, name)(
                x, **({"mask": mask} if masked else {})
            )
            x = keras.layers.Activation(hparams.activation, name=name)(x)
        x = MaskedPooling1D(hparams.pooling, name=f"stage_{i}")(x, mask=mask)
        if mask is not None:
            mask = HalvedMask(name=f"stage_{i}_mask")(mask)
    pool = {"mean": MaskedMean, "max": MaskedMax}[hparams.global_pooling]
    x = pool(name="pooled_time")(x, mask=mask)  # (batch, filters)
    return keras.Model(inputs, head(x, hparams))


def normalized(kind: str, name: str) -> keras.layers.Layer:
    """The normalisation layer of one convolution."""
    if kind == "batch":
        return keras.layers.BatchNormalization(name=f"{name}_norm")
    if kind == "layer":
        return keras.layers.LayerNormalization(name=f"{name}_norm")
    return keras.layers.Identity(name=f"{name}_norm")


def head(x: Any, hparams: CNNHParams | CNN1DHParams) -> Any:
    """(batch, filters) -> (batch, num_classes)."""
    if hparams.dense_units:
        x = keras.layers.Dense(hparams.dense_units, name="dense")(x)
        x = keras.layers.Activation(hparams.activation, name="dense_activation")(x)
    x = keras.layers.Identity(name="pooled")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return logits_head(x, hparams.num_classes)


@keras.saving.register_keras_serializable("kzoo")
class MaskedPooling1D(MaskedLayer):
    """Pools pairs of steps, real ones only: (batch, time, c) -> (batch, time / 2, c).

    An odd last step is a pair of one, with padding behind it or without.
    """

    def __init__(self, kind: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, x: Any, mask: Any = None) -> Any:
        pool = ops.max_pool if self.kind == "max" else ops.average_pool
        if mask is None:
            return pool(x, 2, 2, padding="same")
        real = ops.cast(mask, x.dtype)[..., None]
        share = ops.average_pool(real, 2, 2, padding="same")  # 0, 1/2 or 1
        if self.kind == "max":
            x = pool(masked_fill(x, mask), 2, 2, padding="same")
            return ops.where(share > 0, x, 0)  # the tap shows no fill value
        return pool(x * real, 2, 2, padding="same") / ops.maximum(share, 0.5)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("kzoo")
class HalvedMask(keras.layers.Layer):
    """The mask after pooling by two: true where one of the pair was real."""

    def call(self, mask: Any) -> Any:
        real = ops.cast(mask, "float32")[..., None]
        return ops.max_pool(real, 2, 2, padding="same")[..., 0] > 0


VARIANTS = {
    "cnn": CNNHParams(),
    "cnn_tiny": CNNHParams(filters=(12, 24), dense_units=32),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=CNNHParams(filters=(4, 8), num_convs=1, dense_units=8, num_classes=3),
    tasks=("image-classification", "regression"),
    paper="10.1109/5.726791",
    layout={r"stage_\d+_block_\d+_conv/kernel": (None, None, None, "model")},
)
VARIANTS_1D = {"cnn_1d": CNN1DHParams()}
FAMILY_1D = Family(
    build_1d,
    VARIANTS_1D,
    smallest=CNN1DHParams(
        vocab_size=17,
        embedding_dim=8,
        filters=(8, 8),
        num_convs=1,
        dense_units=8,
        num_classes=3,
    ),
    tasks=("text-classification", "sequence-classification", "regression"),
    paper="10.1109/5.726791",
    name="cnn_1d",
)
