"""SimCLR: an encoder learns to tell two views of one example from all others.

Chen et al., "A simple framework for contrastive learning of visual representations",
2020 (2002.05709). A trainer: it says of each example what it costs, and ``.encoder`` is
what is kept; the projection is thrown away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import HParams, hp
from kzoo.losses.contrastive import nt_xent
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class ContrastiveHParams(HParams):
    """The projection and the loss."""

    noun = "option"

    temperature: float = hp(
        0.5, "of the similarities", min=1e-3, max=10.0, log=True, tune=(0.1, 1.0)
    )
    projection_units: int = hp(128, "of the projection's hidden layer", min=1)
    projection_dim: int = hp(64, "of what is compared", min=1)


@keras.saving.register_keras_serializable("kzoo")
class Contrastive(keras.Model):
    """Two views of each example (batch, 2, ...) -> what each example costs (batch,).

    Inputs are a dict of ``views`` and ``real`` (batch,): from rows where it is 0, which
    fill a batch up, no example is told.

    Attributes:
        gathered: of a replica's (batch, features), those of all replicas, and the row
            that its own begin at.
    """

    gathered: Callable[[Any], tuple[Any, Any]]

    def __init__(self, hparams: ContrastiveHParams, encoder: keras.Model) -> None:
        super().__init__(name="contrastive")
        self.hparams = hparams
        self.encoder = encoder
        self.gathered = lambda x: (x, 0)
        self.hidden = keras.layers.Dense(
            hparams.projection_units, activation="relu", name="projection_hidden"
        )
        self.projection = keras.layers.Dense(
            hparams.projection_dim, dtype="float32", name="projection"
        )
        self.hidden.build(encoder.output_shape)
        self.projection.build((None, hparams.projection_units))
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        views, real = inputs["views"], inputs["real"]
        # Both views go through together, so that one statistic normalises them.
        x = ops.concatenate([views[:, 0], views[:, 1]], axis=0)
        x = self.projection(self.hidden(self.encoder(x, training=training)))
        first, second = ops.split(x, 2, axis=0)  # (batch, projection_dim)
        all_first, begin = self.gathered(first)
        others = all_first, self.gathered(second)[0]
        all_real = self.gathered(real)[0]
        heat = self.hparams.temperature
        return nt_xent(first, second, heat, others, begin, all_real)


def build(hparams: ContrastiveHParams, encoder: keras.Model) -> keras.Model:
    """``views`` (batch, 2, ...) and ``real`` (batch,) -> (batch,)."""
    return Contrastive(hparams, encoder)


VARIANTS = {"contrastive": ContrastiveHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=ContrastiveHParams(projection_units=8, projection_dim=4),
    tasks=("pretraining",),
    paper="2002.05709",
    parts=("encoder",),
)
