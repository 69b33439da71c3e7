"""DistilBERT: BERT with half the blocks, without segments and without pooler.

Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (1910.01108). Its
classifier has a hidden layer of its own, ``logits_hidden_layer``.
"""

from dataclasses import dataclass

import keras

from kzoo.hparams import hp
from kzoo.layers.positions import LearnedPositions
from kzoo.layers.sequence import FirstStep, MaskedMean
from kzoo.models import bert
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class DistilBertHParams(bert.EncoderHParams):
    """Tokens (batch, time)."""

    num_layers: int = hp(6, "encoder blocks", min=1, max=200, tune=(1, 6))
    head_dropout_rate: float = hp(0.2, "before the logits", min=0.0, max=0.9)


def build(hparams: DistilBertHParams) -> keras.Model:
    """(batch, time) -> (batch, num_classes), or a row a token."""
    inputs = bert.encoder_inputs(hparams)
    mask = bert.real_steps(inputs, hparams)
    x = keras.layers.Embedding(
        hparams.vocab_size, hparams.hidden_dim, name="embedding"
    )(inputs["tokens"])  # (batch, time, hidden_dim)
    x = LearnedPositions(hparams.sequence_length, name="positions")(x)
    x = bert.encoded(x, mask, hparams)
    if not hparams.per_step:
        if hparams.pooling == "mean":
            x = MaskedMean(name="pooled")(x, mask=mask)  # (batch, hidden_dim)
        else:
            x = FirstStep(name="pooled")(x)
        if hparams.num_classes:
            x = keras.layers.Dense(
                hparams.hidden_dim, activation="relu", name="logits_hidden_layer"
            )(x)
    return bert.classifier(inputs, x, hparams)


VARIANTS = {"distilbert_base": DistilBertHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=DistilBertHParams(**bert.SMALLEST),
    tasks=bert.TASKS,
    paper="1910.01108",
)
