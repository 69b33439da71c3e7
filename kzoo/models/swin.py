"""Swin: a transformer that attends in windows and halves the image between stages.

Liu et al., "Swin transformer: hierarchical vision transformer using shifted windows",
2021 (2103.14030). Every other block shifts its windows by half of one. Images that the
window does not divide are padded by zeros before query, key and value, as in the
authors' code.

Kernels start from a normal of standard deviation 0.02 and biases from 0, as there.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.convolution import drop_path, drop_path_rates, small_normal
from kzoo.layers.patches import patch_embedding
from kzoo.layers.windows import WindowAttention
from kzoo.models.family import Family, PatchHParams, logits_head, patch_input


@dataclass(frozen=True, kw_only=True)
class SwinHParams(PatchHParams):
    """Images (batch, height, width, channels)."""

    patch_size: int = hp(4, "height and width of a patch in pixels", min=1, max=1024)
    window_size: int = hp(7, "height and width of a window in patches", min=2, max=64)
    num_blocks: tuple[int, ...] = hp((2, 2, 6, 2), "of each stage", min=1, max=200)
    num_heads: tuple[int, ...] = hp(
        (3, 6, 12, 24), "attention heads of each stage", min=1, max=512
    )
    hidden_dim: int = hp(
        96, "width of the first stage; it doubles", min=1, max=65536, log=True
    )
    mlp_ratio: float = hp(4.0, "of an MLP to its input", min=0.1, max=64.0)
    drop_path_rate: float = hp(
        0.2, "rising from 0 to this at the last block", min=0.0, max=0.9, tune=(0, 0.5)
    )
    dropout_rate: float = hp(
        0.0, "before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != len(self.num_heads):
            raise ValueError(
                f"num_blocks={self.num_blocks} and num_heads={self.num_heads} must be "
                "of one length, a number a stage"
            )
        for i, num_heads in enumerate(self.num_heads):
            width = self.hidden_dim * 2**i
            if width % num_heads:
                nearest = max(1, round(width / num_heads)) * num_heads
                raise ValueError(
                    f"stage {i} is {width} wide, which is not a multiple of its "
                    f"num_heads={num_heads}; the nearest is {nearest}"
                )


def build(hparams: SwinHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = patch_input(hparams)
    x = patch_embedding(inputs, hparams.hidden_dim, hparams.patch_size, hparams.stem)
    x = layer_norm(x, "stem")  # (batch, rows, columns, hidden_dim)
    rates = iter(drop_path_rates(hparams.drop_path_rate, sum(hparams.num_blocks)))
    for i, num_blocks in enumerate(hparams.num_blocks):
        if i > 0:
            x = merge(x, f"merge_{i}")
        for j in range(num_blocks):
            shift = hparams.window_size // 2 if j % 2 else 0
            name = f"stage_{i}_block_{j}"
            x = block(x, hparams, hparams.num_heads[i], shift, next(rates), name)
        x = keras.layers.Identity(name=f"stage_{i}")(x)
    x = layer_norm(x, "norm")
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)  # (batch, width)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def block(
    x: Any, hparams: SwinHParams, num_heads: int, shift: int, rate: float, name: str
) -> Any:
    """(batch, rows, columns, width): attention in windows, then an MLP."""
    width = x.shape[-1]
    y = layer_norm(x, f"{name}_attention_norm")
    y = window_attention(y, num_heads, hparams.window_size, shift, name)
    y = drop_path(y, rate, f"{name}_attention_drop_path")
    x = keras.layers.Add(name=f"{name}_attention_add")([x, y])

    y = layer_norm(x, f"{name}_mlp_norm")
    y = dense(y, int(hparams.mlp_ratio * width), f"{name}_mlp_in", activation="gelu")
    y = dense(y, width, f"{name}_mlp_out")
    y = drop_path(y, rate, f"{name}_mlp_drop_path")
    return keras.layers.Add(name=name)([x, y])


def window_attention(
    x: Any, num_heads: int, window_size: int, shift: int, name: str
) -> Any:
    """(batch, rows, columns, width), the same shape out.

    The taps ``{name}_query``, ``_key`` and ``_value`` are images too, padded to whole
    windows.
    """
    rows, columns, width = x.shape[1:]
    margins = ((0, -rows % window_size), (0, -columns % window_size))
    x = keras.layers.ZeroPadding2D(margins, name=f"{name}_padding")(x)
    query, key, value = (
        dense(x, width, f"{name}_{part}") for part in ("query", "key", "value")
    )
    x = WindowAttention(num_heads, window_size, shift, name=f"{name}_attention")(
        query, key, value
    )
    x = keras.layers.Cropping2D(margins, name=f"{name}_cropping")(x)
    return dense(x, width, f"{name}_output")


def merge(x: Any, name: str) -> Any:
    """Halves the image: four neighbours become one patch of twice the width."""
    rows, columns, width = x.shape[1:]
    margins = ((0, rows % 2), (0, columns % 2))
    x = keras.layers.ZeroPadding2D(margins, name=f"{name}_padding")(x)
    x = Neighbours(name=f"{name}_neighbours")(x)  # (batch, rows / 2, columns / 2, 4 w)
    x = layer_norm(x, f"{name}_norm")
    return dense(x, 2 * width, f"{name}_dense", use_bias=False)


@keras.saving.register_keras_serializable("kzoo")
class Neighbours(keras.layers.Layer):
    """The channels of 2x2 pixels side by side, column by column."""

    def call(self, x: Any) -> Any:
        rows, columns, width = x.shape[1:]
        x = ops.reshape(x, (-1, rows // 2, 2, columns // 2, 2, width))
        x = ops.transpose(x, (0, 1, 3, 4, 2, 5))
        return ops.reshape(x, (-1, rows // 2, columns // 2, 4 * width))


def dense(x: Any, units: int, name: str, **options: Any) -> Any:
    """A linear map of the channels at each patch."""
    return keras.layers.Dense(
        units, kernel_initializer=small_normal(), name=name, **options
    )(x)


def layer_norm(x: Any, name: str) -> Any:
    """Over the channels, with the authors' constant."""
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def _imagenet(
    num_blocks: int, hidden_dim: int, heads: int, drop_path_rate: float
) -> SwinHParams:
    return SwinHParams(
        num_blocks=(2, 2, num_blocks, 2),
        hidden_dim=hidden_dim,
        num_heads=tuple(heads * 2**i for i in range(4)),
        drop_path_rate=drop_path_rate,
        num_classes=1000,
    )


VARIANTS = {
    "swin_tiny": _imagenet(6, 96, 3, 0.2),
    "swin_small": _imagenet(18, 96, 3, 0.3),
    "swin_base": _imagenet(18, 128, 4, 0.5),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=SwinHParams(
        image_size=8,
        patch_size=1,
        stem="small",
        window_size=3,
        num_blocks=(2, 1),
        hidden_dim=8,
        num_heads=(2, 4),
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper="2103.14030",
)
