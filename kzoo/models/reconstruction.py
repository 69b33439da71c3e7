"""An encoder learns to give back what it was shown, whole or spoilt.

The decoder sees the encoder's pooled features alone. Hinton & Salakhutdinov, "Reducing
the dimensionality of data with neural networks", 2006; spoilt inputs: Vincent et al.,
"Extracting and composing robust features with denoising autoencoders", 2008.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class ReconstructionHParams(HParams):
    """The decoder."""

    noun = "option"

    decoder_units: int = hp(64, "channels, or units, of the decoder", min=1)
    target_shape: tuple[int, ...] = hp((8, 8, 1), "of one example", min=1)


@keras.saving.register_keras_serializable("kzoo")
class Reconstruction(keras.Model):
    """``inputs`` and ``targets`` (batch, ...) -> what each example costs (batch,)."""

    def __init__(self, hparams: ReconstructionHParams, encoder: keras.Model) -> None:
        super().__init__(name="reconstruction")
        self.hparams = hparams
        self.encoder = encoder
        features = encoder.output_shape[-1]
        self.decoder = decoder(features, hparams.target_shape, hparams.decoder_units)
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        found = self.reconstructed(inputs["inputs"], training)
        error = ops.square(found - ops.cast(inputs["targets"], "float32"))
        return ops.mean(ops.reshape(error, (ops.shape(error)[0], -1)), axis=-1)

    def reconstructed(self, inputs: Any, training: bool = False) -> Any:
        """What the decoder makes of these inputs: (batch, *target_shape)."""
        features = self.encoder(inputs, training=training)
        return self.decoder(features, training=training)


def decoder(features: int, shape: tuple[int, ...], units: int) -> keras.Model:
    """(batch, features) -> (batch, *shape): images by two doublings, others densely."""
    inputs = x = keras.Input((features,), name="features")
    if len(shape) == 3:
        height, width, channels = shape
        small = -(-height // 4), -(-width // 4)
        x = dense(math.prod(small) * units, "decoder_dense")(x)
        x = keras.layers.Reshape((*small, units), name="decoder_reshape")(x)
        for i in range(2):
            x = keras.layers.Conv2DTranspose(
                units,
                4,
                strides=2,
                padding="same",
                activation="relu",
                name=f"decoder_{i}",
            )(x)
        x = keras.layers.Conv2D(
            channels, 3, padding="same", dtype="float32", name="decoder_out"
        )(x)
        cut = (0, 4 * small[0] - height), (0, 4 * small[1] - width)
        x = keras.layers.Cropping2D(cut, dtype="float32", name="decoder_crop")(x)
    else:
        x = dense(units, "decoder_dense")(x)
        x = keras.layers.Dense(math.prod(shape), dtype="float32", name="decoder_out")(x)
        x = keras.layers.Reshape(shape, dtype="float32", name="decoder_reshape")(x)
    return keras.Model(inputs, x, name="decoder")


def dense(units: int, name: str) -> keras.layers.Layer:
    """A hidden layer of the decoder."""
    return keras.layers.Dense(units, activation="relu", name=name)


def build(hparams: ReconstructionHParams, encoder: keras.Model) -> keras.Model:
    """``{"inputs", "targets"}`` -> (batch,)."""
    return Reconstruction(hparams, encoder)


VARIANTS = {"reconstruction": ReconstructionHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ReconstructionHParams(decoder_units=4),
    tasks=("pretraining",),
    paper="10.1126/science.1127647",
    parts=("encoder",),
)
