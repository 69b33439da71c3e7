"""Autoencoder: an example through a narrow code and back.

Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks",
2006. ``denoising_autoencoder`` gets spoilt examples and gives clean ones: Vincent et
al., "Extracting and composing robust features with denoising autoencoders", 2008.
``pooled`` is the code, and ``logits`` what is made of it.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import HParams, hp
from kzoo.layers.upsampling import decoded
from kzoo.models.family import Family, height_and_width


@dataclass(frozen=True, kw_only=True)
class CodeHParams(HParams):
    """Images, or vectors (batch, num_features) where ``image_size`` is none."""

    image_size: int | tuple[int, int] | None = hp(
        28, "height and width in pixels (none = vectors)", min=1
    )
    channels: int = hp(1, "colour channels", min=1, max=4096)
    num_features: int = hp(8, "numbers an example, where no images come in", min=1)
    units: tuple[int, ...] = hp(
        (32, 64), "channels, or units, of each block before the code", min=1
    )
    latent_dim: int = hp(16, "numbers of the code", min=1, log=True, tune=(4, 64))
    decoder_units: int = hp(32, "channels, or units, of the decoder", min=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        if self.image_size is None:
            return (self.num_features,)
        height, width = height_and_width(self.image_size)
        return height, width, self.channels


@dataclass(frozen=True, kw_only=True)
class AutoencoderHParams(CodeHParams):
    """And how training examples are spoilt."""

    noise: float = hp(
        0.0, "standard deviation of what is added, after the preprocessing", min=0.0
    )
    dropped: float = hp(0.0, "share of the numbers that become 0", min=0.0, max=0.99)


def code_input(hparams: CodeHParams) -> Any:
    """Images (batch, height, width, channels), or vectors (batch, num_features)."""
    name = "vectors" if hparams.image_size is None else "images"
    return keras.Input(hparams.shape, name=name)


def hidden(x: Any, hparams: CodeHParams) -> Any:
    """What comes in -> (batch, features), an image at half the size by each block."""
    for i, units in enumerate(hparams.units):
        name = f"block_{i}"
        if hparams.image_size is None:
            x = keras.layers.Dense(units, activation="relu", name=name)(x)
        else:
            x = keras.layers.Conv2D(
                units, 3, strides=2, padding="same", activation="relu", name=name
            )(x)
    return keras.layers.Reshape((math.prod(x.shape[1:]),), name="flatten")(x)


def build(hparams: AutoencoderHParams) -> keras.Model:
    """(batch, ...) -> the same shape."""
    inputs = code_input(hparams)
    x = keras.layers.Dense(hparams.latent_dim, name="pooled")(hidden(inputs, hparams))
    x = decoded(x, hparams.shape, hparams.decoder_units, last="logits")
    return keras.Model(inputs, x)


VARIANTS = {
    "autoencoder": AutoencoderHParams(),
    "denoising_autoencoder": AutoencoderHParams(noise=0.3, dropped=0.25),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=AutoencoderHParams(
        image_size=7, channels=2, units=(4, 8), latent_dim=4, decoder_units=4
    ),
    tasks=("reconstruction",),
    paper={
        "autoencoder": "10.1126/science.1127647",
        "denoising_autoencoder": "10.1145/1390156.1390294",
    },
)
