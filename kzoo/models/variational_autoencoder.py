"""Variational autoencoder: a code that is drawn, and from which one can draw.

Kingma & Welling, "Auto-encoding variational Bayes", 2014 (1312.6114): the code is
normal, with a mean (``pooled``) and a variance of each example's own, and pixels are
normal around what the decoder says (``logits``), with one variance for all. Without
training the code is its mean.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.upsampling import decoded
from kzoo.models.autoencoder import CodeHParams, code_input, hidden
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class VariationalAutoencoderHParams(CodeHParams):
    """And how far examples lie around what the decoder says."""

    deviation: float = hp(
        0.3,
        "standard deviation of a number, after the preprocessing",
        min=1e-3,
        max=1e3,
        log=True,
        tune=(0.1, 1.0),
    )


@keras.saving.register_keras_serializable("kzoo")
class Drawn(keras.layers.Layer):
    """Mean and log-variance (batch, dimensions) -> a draw in training, else the mean.

    mean + deviation * noise, through which gradients flow (sec. 2.4).
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, mean: Any, log_variance: Any, training: bool = False) -> Any:
        if not training:
            return mean
        noise = keras.random.normal(
            ops.shape(mean), dtype=mean.dtype, seed=self.generator
        )
        return mean + ops.exp(log_variance / 2) * noise

    def compute_output_shape(self, mean_shape: Any, log_variance_shape: Any) -> Any:
        return mean_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("kzoo")
class VariationalAutoencoder(keras.Model):
    """A functional model that can also make examples up."""

    def sample(self, count: int, seed: int = 0) -> Any:
        """New examples: what the decoder says of codes from the prior.

        Args:
            count: how many.
            seed: of the codes.

        Returns:
            (count, ...), preprocessed as the training examples were.

        Example:
            >>> import kzoo
            >>> model = kzoo.build_model("variational_autoencoder", image_size=8)
            >>> model.sample(3).shape
            TensorShape([3, 8, 8, 1])
        """
        code = self.get_layer("latent").output
        shape = (count, code.shape[-1])
        drawn = np.random.default_rng(seed).standard_normal(shape, "float32")
        return keras.Model(code, self.output)(ops.convert_to_tensor(drawn))


def build(hparams: VariationalAutoencoderHParams) -> keras.Model:
    """(batch, ...) -> the same shape."""
    inputs = code_input(hparams)
    x = hidden(inputs, hparams)
    mean = keras.layers.Dense(hparams.latent_dim, name="pooled")(x)
    log_variance = keras.layers.Dense(hparams.latent_dim, name="log_variance")(x)
    x = Drawn(name="latent")(mean, log_variance)
    x = decoded(x, hparams.shape, hparams.decoder_units, last="logits")
    return VariationalAutoencoder(inputs, x)


VARIANTS = {"variational_autoencoder": VariationalAutoencoderHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=VariationalAutoencoderHParams(
        image_size=7, channels=2, units=(4, 8), latent_dim=4, decoder_units=4
    ),
    tasks=("reconstruction",),
    paper="1312.6114",
)
