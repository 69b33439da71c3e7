"""An encoder of tokens learns to say which token stands where.

With hidden tokens, BERT's objective (Devlin et al. 2019, 1810.04805); with the next
one, a language model's (Dai & Le 2015, 1511.01432; Howard & Ruder 2018, 1801.06146). A
trainer: ``.encoder`` is what is kept, the head on its steps is thrown away.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.features import list_features
from kzoo.hparams import HParams, hp, identity
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class TokenPredictionHParams(HParams):
    """The head."""

    noun = "option"

    causal: bool = hp(False, "the next token: no step may look at a later one")
    vocab_size: int = hp(17, "tokens", min=1)


@keras.saving.register_keras_serializable("kzoo")
class TokenPrediction(keras.Model):
    """What the encoder takes -> logits of each step (batch, time, vocab_size)."""

    def __init__(self, hparams: TokenPredictionHParams, encoder: keras.Model) -> None:
        super().__init__(name="token_prediction")
        self.hparams = hparams
        # Only what leads to the steps is trained; pooling has no part in it.
        self._kept = _Untracked(encoder)  # a plain object, which Keras looks not into
        self.steps = keras.Model(encoder.input, steps_of(encoder), name="steps")
        check(encoder, self.steps, hparams.causal)
        width = self.steps.output_shape[-1]
        self.head: list[keras.layers.Layer] = []
        if "num_classes" in identity(encoder).hparams:  # else these are logits already
            self.head = [
                keras.layers.Dense(width, activation="gelu", name="head_dense"),
                keras.layers.LayerNormalization(epsilon=1e-6, name="head_norm"),
                keras.layers.Dense(hparams.vocab_size, dtype="float32", name="tokens"),
            ]
        for layer in self.head:
            layer.build((None, None, width))
        self.built = True

    @property
    def encoder(self) -> keras.Model:
        """The model that learns."""
        return self._kept.encoder

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = self.steps(inputs, training=training)
        for layer in self.head:
            x = layer(x)
        return x


@dataclass(frozen=True)
class _Untracked:
    """The encoder with its pooling and head."""

    encoder: keras.Model


def steps_of(model: keras.Model) -> Any:
    """The last tensor of the graph that has a vector a step: a norm, or a block's."""
    layers = {layer.name: layer for layer in model.layers}
    if "num_classes" not in identity(model).hparams:
        return model.output
    blocks = [tap for tap in list_features(model) if tap in layers]
    blocks = [tap for tap in blocks if "block" in tap and not tap.endswith("value")]
    blocks = [tap for tap in blocks if len(layers[tap].output.shape) == 3]
    if "norm" in layers:
        return layers["norm"].output
    if not blocks:
        raise ValueError(f"{model.name} has no vector for each token")
    return layers[blocks[-1]].output


def check(encoder: keras.Model, steps: keras.Model, causal: bool) -> None:
    """Raises a ``ValueError`` where steps are no tokens', or see what they must not."""
    tokens = np.array([[1, 1, 1, 1], [1, 1, 1, 0]], "int32") + 1
    tokens = np.minimum(tokens, identity(encoder).hparams["vocab_size"] - 1)

    def given(tensor: Any) -> Any:
        if tensor.name == "tokens":
            return tokens
        kind = keras.backend.standardize_dtype(tensor.dtype)
        return np.full(tokens.shape, kind == "bool", kind)

    inputs = keras.tree.map_structure(given, encoder.input)
    found = ops.convert_to_numpy(ops.cast(steps(inputs, training=False), "float32"))
    if found.shape[1] != tokens.shape[1]:
        raise ValueError(
            f"{encoder.name} has no vector for each token: {tokens.shape[1]} tokens "
            f"become {found.shape[1]}"
        )
    if causal and not np.allclose(found[0, :3], found[1, :3], atol=1e-5):
        raise ValueError(
            f"{encoder.name} looks at later tokens: next_token is for recurrent "
            "networks that read one way, and for decoders"
        )


def build(hparams: TokenPredictionHParams, encoder: keras.Model) -> keras.Model:
    """(batch, time) -> (batch, time, vocab_size)."""
    return TokenPrediction(hparams, encoder)


VARIANTS = {"token_prediction": TokenPredictionHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=TokenPredictionHParams(),
    tasks=("language-modeling",),
    paper="1810.04805",
    parts=("encoder",),
)
