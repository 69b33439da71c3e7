"""Word vectors: skip-gram with negative sampling.

Mikolov et al., "Distributed representations of words and phrases and their
compositionality", 2013 (1310.4546). The logit of a word and a context is the product of
their two vectors; the loss of one logit, over true contexts and drawn ones, is the
paper's equation 4. The dataset ``skip_gram:NAME`` draws them.

The words' vectors are the layer ``embedding``, as in every family of texts.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.sequence import MaskedMean, PaddingMask
from kzoo.models.family import Family, TokenHParams, logits_head


@dataclass(frozen=True, kw_only=True)
class Word2VecHParams(TokenHParams):
    """The tokens ``first``, words, and ``second``, their contexts: (batch, time).

    Of several words the mean of their vectors counts: CBOW has several in ``first``.
    """

    embedding_dim: int = hp(
        300, "of a word's vector", min=1, max=65536, log=True, tune=(16, 512)
    )
    num_classes: int = hp(
        1, "1 = the product of the two vectors, more = a dense layer on it", min=0
    )


def build(hparams: Word2VecHParams) -> keras.Model:
    """``first`` and ``second`` (batch, time) -> (batch, num_classes)."""
    inputs, vectors = {}, []
    for name, table in (("first", "embedding"), ("second", "contexts")):
        tokens = keras.Input((None,), dtype="int32", name=name)
        mask = None
        if hparams.pad_token_id is not None:
            mask = PaddingMask(hparams.pad_token_id, name=f"{name}_mask")(tokens)
        x = keras.layers.Embedding(
            hparams.vocab_size, hparams.embedding_dim, name=table
        )(tokens)  # (batch, time, embedding_dim)
        inputs[name] = tokens
        vectors.append(MaskedMean(name=f"{name}_mean")(x, mask=mask))
    x = keras.layers.Multiply(name="pooled")(vectors)  # (batch, embedding_dim)
    if hparams.num_classes == 1:
        return keras.Model(inputs, Total(dtype="float32", name="logits")(x))
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


@keras.saving.register_keras_serializable("kzoo")
class Total(keras.layers.Layer):
    """(batch, features) -> (batch, 1), their sum."""

    def call(self, x: Any) -> Any:
        return ops.sum(x, axis=-1, keepdims=True)


VARIANTS = {"word2vec": Word2VecHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=Word2VecHParams(vocab_size=17, embedding_dim=8, num_classes=3),
    tasks=("text-classification",),
    paper="1310.4546",
)
