"""What an autoencoder's answer costs. A trainer: ``.autoencoder`` is what is kept."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, identity
from kzoo.losses.variational import kl_to_standard_normal, negative_log_normal
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class AutoencodingHParams(HParams):
    """None: all are the autoencoder's own."""

    noun = "option"


@keras.saving.register_keras_serializable("kzoo")
class Autoencoding(keras.Model):
    """``inputs`` and ``targets`` (batch, ...) -> what each example costs (batch,).

    The mean squared error; of a variational one, the evidence lower bound with its
    sign turned, in nats. Without training it is taken at the mean of the code.
    """

    def __init__(self, hparams: AutoencodingHParams, autoencoder: keras.Model) -> None:
        super().__init__(name="autoencoding")
        self.hparams = hparams
        self._kept = _Untracked(autoencoder)  # a plain object: taps share its layers
        names = {layer.name for layer in autoencoder.layers}
        self.variational = "log_variance" in names
        taps = ["logits"]
        if self.variational:
            taps += ["pooled", "log_variance"]
            self.deviation = identity(autoencoder).hparams["deviation"]
        self.taps = keras.Model(
            autoencoder.input,
            {tap: autoencoder.get_layer(tap).output for tap in taps},
            name="taps",
        )
        self.built = True

    @property
    def autoencoder(self) -> keras.Model:
        """The model that learns."""
        return self._kept.autoencoder

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        found, targets = (
            self.taps(inputs["inputs"], training=training),
            inputs["targets"],
        )
        if self.variational:
            likely = negative_log_normal(targets, found["logits"], self.deviation)
            return likely + kl_to_standard_normal(
                found["pooled"], found["log_variance"]
            )
        error = ops.square(found["logits"] - ops.cast(targets, "float32"))
        return ops.mean(ops.reshape(error, (ops.shape(error)[0], -1)), axis=-1)


@dataclass(frozen=True)
class _Untracked:
    """The autoencoder."""

    autoencoder: keras.Model


def build(hparams: AutoencodingHParams, autoencoder: keras.Model) -> keras.Model:
    """``{"inputs", "targets"}`` -> (batch,)."""
    return Autoencoding(hparams, autoencoder)


VARIANTS = {"autoencoding": AutoencodingHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=AutoencodingHParams(),
    tasks=("reconstruction",),
    paper="1312.6114",
    parts=("autoencoder",),
)
