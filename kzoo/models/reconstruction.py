"""An encoder learns to give back what it was shown, whole or spoilt.

The decoder sees the encoder's pooled features alone. Hinton & Salakhutdinov, "Reducing
the dimensionality of data with neural networks", 2006; spoilt inputs: Vincent et al.,
"Extracting and composing robust features with denoising autoencoders", 2008.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.layers.upsampling import decoded
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
    """(batch, features) -> (batch, *shape)."""
    inputs = keras.Input((features,), name="features")
    last = "decoder_crop" if len(shape) == 3 else "decoder_reshape"
    return keras.Model(inputs, decoded(inputs, shape, units, last), name="decoder")


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
