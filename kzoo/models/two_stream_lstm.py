"""Two texts, an LSTM each, added and classified: for pairs of sentences.

The recurrent encoder of sentence pairs of Bowman et al., "A large annotated corpus for
learning natural language inference", 2015 (1508.05326), merged by addition; the dense
layer is gated (Dauphin et al. 2017, 1612.08083). Both texts share the tokens' vectors;
each has an LSTM of its own, so that the order of the two counts.
"""

from dataclasses import dataclass

import keras

from kzoo.hparams import hp
from kzoo.layers.sequence import NonEmptyMask, PaddingMask
from kzoo.models.family import Family, TokenHParams, logits_head


@dataclass(frozen=True, kw_only=True)
class TwoStreamHParams(TokenHParams):
    """The tokens ``first`` and ``second``, each (batch, its own time)."""

    embedding_dim: int = hp(64, "of a token", min=1, max=4096, log=True, tune=(16, 256))
    units: int = hp(
        128, "hidden size of each LSTM", min=1, max=8192, log=True, tune=(32, 512)
    )
    dense_units: int = hp(
        128, "of the gated layer", min=1, max=65536, log=True, tune=(32, 512)
    )
    dropout_rate: float = hp(
        0.1, "of the sum and before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )


def build(hparams: TwoStreamHParams) -> keras.Model:
    """``first`` and ``second`` (batch, time) -> (batch, num_classes)."""
    names = ("first", "second")
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in names}
    embedding = keras.layers.Embedding(
        hparams.vocab_size, hparams.embedding_dim, name="embedding"
    )
    streams = []
    for i, (name, tokens) in enumerate(inputs.items()):
        steps = None
        if hparams.pad_token_id is not None:
            mask = PaddingMask(hparams.pad_token_id, name=f"{name}_mask")(tokens)
            steps = NonEmptyMask(name=f"{name}_steps")(mask)
        lstm = keras.layers.LSTM(hparams.units, name=f"block_{i}")
        streams.append(lstm(embedding(tokens), mask=steps))  # (batch, units)
    x = keras.layers.Add(name="merged")(streams)
    x = keras.layers.Dropout(hparams.dropout_rate, name="merged_dropout")(x)
    value = keras.layers.Dense(hparams.dense_units, name="value")(x)
    gate = keras.layers.Dense(hparams.dense_units, activation="sigmoid", name="gate")(x)
    x = keras.layers.Multiply(name="pooled")([value, gate])  # (batch, dense_units)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


VARIANTS = {"two_stream_lstm": TwoStreamHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=TwoStreamHParams(
        vocab_size=17, embedding_dim=8, units=8, dense_units=8, num_classes=3
    ),
    tasks=("text-classification", "regression"),
    paper="1508.05326",
)
