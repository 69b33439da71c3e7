"""Recurrent networks: ``simple_rnn``, ``lstm`` and ``gru``, one file and three cells.

Elman, "Finding structure in time", 1990; Hochreiter & Schmidhuber, "Long short-term
memory", 1997; Cho et al., "Learning phrase representations using RNN encoder-decoder",
2014 (1406.1078).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.sequence import NonEmptyMask, pooling
from kzoo.models.family import Family, SequenceHParams, logits_head, sequence_input


@dataclass(frozen=True, kw_only=True)
class RecurrentHParams(SequenceHParams):
    """Tokens (batch, time) or features (batch, time, num_features)."""

    embedding_dim: int = hp(64, "of a token", min=1, max=4096, log=True, tune=(16, 256))
    units: int = hp(
        128, "hidden size of each layer", min=1, max=8192, log=True, tune=(32, 512)
    )
    num_layers: int = hp(2, "stacked recurrent layers", min=1, max=64, tune=(1, 4))
    bidirectional: bool = hp(False, "read both ways, units each", tune=(False, True))
    dropout_rate: float = hp(
        0.1, "between layers and before the logits", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    pooling: str = hp(
        "last",
        "from steps to one vector",
        choices=("last", "mean", "max", "attention"),
        tune=("last", "mean", "max", "attention"),
    )
    per_step: bool = hp(False, "one answer a step: (batch, time, num_classes)")


def build(hparams: RecurrentHParams, cell: type[keras.layers.RNN]) -> keras.Model:
    """(batch, time[, num_features]) -> (batch, num_classes), or a row a step."""
    inputs, x, mask = sequence_input(hparams, hparams.embedding_dim)
    steps = None if mask is None else NonEmptyMask(name="steps")(mask)
    for i in range(hparams.num_layers):
        # The cell's own defaults, and dropout outside it: what fused kernels ask for.
        layer: Any = cell(hparams.units, return_sequences=True, name=f"block_{i}")
        if hparams.bidirectional:
            layer = cell(hparams.units, return_sequences=True, name="rnn")
            layer = keras.layers.Bidirectional(layer, name=f"block_{i}")
        x = layer(x, mask=steps)  # (batch, time, units or 2 * units)
        if i + 1 < hparams.num_layers:
            x = keras.layers.Dropout(hparams.dropout_rate, name=f"block_{i}_dropout")(x)
    if not hparams.per_step:
        pool = pooling(hparams.pooling, bidirectional=hparams.bidirectional)
        x = pool(x, mask=mask)  # (batch, units or 2 * units)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    return keras.Model(inputs, logits_head(x, hparams.num_classes))


def _family(name: str, cell: type[keras.layers.RNN], paper: str) -> Family:
    smallest = RecurrentHParams(
        vocab_size=17, embedding_dim=8, units=8, num_layers=1, num_classes=3
    )
    return Family(
        partial(build, cell=cell),
        {name: RecurrentHParams()},
        smallest=smallest,
        tasks=(
            "text-classification",
            "sequence-classification",
            "sequence-labeling",
            "regression",
        ),
        paper=paper,
        name=name,
        layout={r"block_\d+/.*kernel": (None, "model")},
    )


FAMILIES = (
    _family("simple_rnn", keras.layers.SimpleRNN, "10.1207/s15516709cog1402_1"),
    _family("lstm", keras.layers.LSTM, "10.1162/neco.1997.9.8.1735"),
    _family("gru", keras.layers.GRU, "1406.1078"),
)
