"""MLP-Mixer: patches mix by one MLP, channels by another, and nothing else.

Tolstikhin et al., "MLP-Mixer: an all-MLP architecture for vision", 2021 (2105.01601).
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.convolution import drop_path, drop_path_rates
from kzoo.layers.patches import patch_embedding
from kzoo.models.family import Family, PatchHParams, logits_head, patch_input


@dataclass(frozen=True, kw_only=True)
class MLPMixerHParams(PatchHParams):
    """Images (batch, height, width, channels)."""

    num_layers: int = hp(12, "mixer blocks", min=1, max=200, tune=(2, 12))
    hidden_dim: int = hp(768, "channels of a patch", min=1, max=65536, log=True)
    token_dim: int = hp(
        384, "width of the MLP over patches", min=1, max=262144, log=True
    )
    mlp_dim: int = hp(
        3072, "width of the MLP over channels", min=1, max=262144, log=True
    )
    dropout_rate: float = hp(
        0.0, "of both MLPs and before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    drop_path_rate: float = hp(
        0.0, "rising from 0 to this at the last block", min=0.0, max=0.9, tune=(0, 0.5)
    )


def build(hparams: MLPMixerHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    inputs = patch_input(hparams)
    x = patch_embedding(inputs, hparams.hidden_dim, hparams.patch_size, hparams.stem)
    x = keras.layers.Reshape((-1, hparams.hidden_dim), name="stem")(x)
    for i, rate in enumerate(
        drop_path_rates(hparams.drop_path_rate, hparams.num_layers)
    ):
        x = block(x, hparams, rate, f"block_{i}")  # (batch, patches, hidden_dim)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pooled")(x)  # (batch, hidden_dim)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def block(x: Any, hparams: MLPMixerHParams, rate: float, name: str) -> Any:
    """(batch, patches, hidden_dim), the same shape out."""
    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_token_norm")(x)
    y = keras.layers.Permute((2, 1), name=f"{name}_columns")(y)
    y = mlp(y, hparams.token_dim, hparams.dropout_rate, f"{name}_token")
    y = keras.layers.Permute((2, 1), name=f"{name}_rows")(y)
    y = drop_path(y, rate, f"{name}_token_drop_path")
    x = keras.layers.Add(name=f"{name}_token_add")([x, y])

    y = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_channel_norm")(x)
    y = mlp(y, hparams.mlp_dim, hparams.dropout_rate, f"{name}_channel")
    y = drop_path(y, rate, f"{name}_channel_drop_path")
    return keras.layers.Add(name=name)([x, y])


def mlp(x: Any, width: int, dropout_rate: float, name: str) -> Any:
    """Over the last axis, which comes out as long as it went in."""
    units = x.shape[-1]
    x = keras.layers.Dense(width, activation="gelu", name=f"{name}_in")(x)
    x = keras.layers.Dropout(dropout_rate, name=f"{name}_in_dropout")(x)
    x = keras.layers.Dense(units, name=f"{name}_out")(x)
    return keras.layers.Dropout(dropout_rate, name=f"{name}_out_dropout")(x)


def _imagenet(num_layers: int, hidden_dim: int, patch_size: int) -> MLPMixerHParams:
    return MLPMixerHParams(
        num_layers=num_layers,
        hidden_dim=hidden_dim,
        token_dim=hidden_dim // 2,
        mlp_dim=4 * hidden_dim,
        patch_size=patch_size,
        num_classes=1000,
    )


VARIANTS = {
    f"mlp_mixer_{size}_{patch_size}": _imagenet(num_layers, hidden_dim, patch_size)
    for size, num_layers, hidden_dim, patch_sizes in (  # table 1
        ("small", 8, 512, (32, 16)),
        ("base", 12, 768, (32, 16)),
        ("large", 24, 1024, (32, 16)),
        ("huge", 32, 1280, (14,)),
    )
    for patch_size in patch_sizes
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=MLPMixerHParams(
        image_size=8,
        patch_size=2,
        stem="small",
        num_layers=2,
        hidden_dim=8,
        token_dim=6,
        mlp_dim=16,
        num_classes=3,
    ),
    tasks=("image-classification", "regression"),
    paper="2105.01601",
)
