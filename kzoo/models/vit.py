"""Vision transformer: an image as a sequence of patches, read by a transformer encoder.

Dosovitskiy et al., "An image is worth 16x16 words", 2021 (2010.11929); ``vit_tiny_*``
and ``vit_small_*`` have the widths of Touvron et al. 2021 (2012.12877). ``vit_lite_4``
is for images of 32x32, Hassani et al., "Escaping the big data paradigm", 2021
(2104.05704), and ``vit_lite_2`` a smaller one for 8x8, with convolution in its stem.

Kernels start from Glorot's uniform, as in the authors' code.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import drop_path_rates
from kzoo.layers.encoder import encoder_block
from kzoo.layers.patches import GridPositions, LeadingToken, patch_embedding
from kzoo.layers.sequence import FirstStep
from kzoo.models.family import (
    Family,
    PatchHParams,
    check_heads,
    logits_head,
    patch_input,
)
from kzoo.models.transformer import Transformer

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class ViTHParams(PatchHParams):
    """Images (batch, height, width, channels)."""

    num_layers: int = hp(12, "encoder blocks", min=1, max=200, tune=(2, 12))
    hidden_dim: int = hp(768, "width of a token", min=1, max=65536, log=True)
    num_heads: int = hp(12, "attention heads; they divide hidden_dim", min=1, max=512)
    mlp_dim: int = hp(3072, "width of a block's MLP", min=1, max=262144, log=True)
    activation: str = hp("gelu", "of the MLP", choices=("gelu", "relu", "silu"))
    pooling: str = hp(
        "first",
        "first = a class token; mean = of the patches",
        choices=("first", "mean"),
    )
    layer_scale: float = hp(
        0.0, "what each branch is scaled by at the start; 0 = none", min=0.0, max=10.0
    )
    dropout_rate: float = hp(
        0.0, "of tokens and branches", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    attention_dropout_rate: float = hp(
        0.0, "of the attention weights", min=0.0, max=0.9, tune=(0.0, 0.3)
    )
    drop_path_rate: float = hp(
        0.0, "rising from 0 to this at the last block", min=0.0, max=0.9, tune=(0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.hidden_dim, self.num_heads)


def build(hparams: ViTHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = patch_input(hparams)
    leading = ("class_token",) if hparams.pooling == "first" else ()
    x = encoded(inputs, hparams, leading)
    if hparams.pooling == "first":
        x = FirstStep(name="pooled")(x)  # (batch, hidden_dim)
    else:
        x = keras.layers.GlobalAveragePooling1D(name="pooled")(x)
    return Transformer(inputs, logits_head(x, hparams.num_classes))


def encoded(images: Any, hparams: ViTHParams, leading: tuple[str, ...]) -> Any:
    """(batch, height, width, channels) -> (batch, leading + patches, hidden_dim).

    Args:
        images: of ``hparams.image_size``.
        hparams: of this family, or of one that is like it.
        leading: names of the learned tokens before the patches, the first one first.
    """
    x = patch_embedding(images, hparams.hidden_dim, hparams.patch_size, hparams.stem)
    x = keras.layers.Reshape((-1, hparams.hidden_dim), name="tokens")(x)
    for token in reversed(leading):
        x = LeadingToken(name=token)(x)
    x = GridPositions(hparams.grid, len(leading), name="positions")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="stem")(x)
    for i, rate in enumerate(
        drop_path_rates(hparams.drop_path_rate, hparams.num_layers)
    ):
        x = encoder_block(
            x,
            None,
            hparams,
            f"block_{i}",
            norm="pre",
            epsilon=EPSILON,
            scale=hparams.layer_scale,
            drop_path_rate=rate,
        )
    return keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)


def apart(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A model's embedding, and its blocks, which take any number of its tokens.

    Both share the layers of ``model``: nothing is copied.

    Args:
        model: of this family, or of one that is like it.

    Returns:
        images -> (batch, leading + patches, hidden_dim), positions in them; and (batch,
        time, hidden_dim) -> the same shape, normalised.
    """
    stem, norm = (model.get_layer(name).output for name in ("stem", "norm"))
    blocks = keras.models.clone_model(
        keras.Model(stem, norm),
        input_tensors=keras.Input((None, stem.shape[-1]), name="tokens"),
        clone_function=lambda layer: layer,
    )
    return keras.Model(model.input, stem, name="embedding"), blocks


def _imagenet(
    num_layers: int, hidden_dim: int, num_heads: int, patch_size: int
) -> ViTHParams:
    return ViTHParams(
        num_layers=num_layers,
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        mlp_dim=4 * hidden_dim,
        patch_size=patch_size,
        num_classes=1000,
    )


SIZES = {  # layers, width, heads
    "tiny": (12, 192, 3),
    "small": (12, 384, 6),
    "base": (12, 768, 12),
    "large": (24, 1024, 16),
    "huge": (32, 1280, 16),
}
VARIANTS = {
    f"vit_{size}_{patch_size}": _imagenet(*SIZES[size], patch_size)
    for size in SIZES
    for patch_size in ((14,) if size == "huge" else (16, 32))
} | {
    "vit_lite_4": ViTHParams(
        image_size=32,
        patch_size=4,
        num_layers=7,
        hidden_dim=256,
        num_heads=4,
        mlp_dim=512,
        dropout_rate=0.1,
    ),
    "vit_lite_2": ViTHParams(
        image_size=8,
        channels=1,
        patch_size=2,
        stem="small",
        num_layers=6,
        hidden_dim=96,
        num_heads=4,
        mlp_dim=192,
        pooling="mean",
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ViTHParams(
        image_size=8,
        patch_size=4,
        stem="small",
        num_layers=2,
        hidden_dim=32,  # a narrower norm would make much of bfloat16's rounding
        num_heads=2,
        mlp_dim=32,
        layer_scale=0.5,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper={name: "2104.05704" if "lite" in name else "2010.11929" for name in VARIANTS},
)
