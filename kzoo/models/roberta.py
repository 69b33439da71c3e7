"""RoBERTa: BERT trained longer, on bytes, with positions counted past the padding.

Liu et al., "RoBERTa: a robustly optimized BERT pretraining approach", 2019
(1907.11692). The first real token has the row ``pad_token_id + 1`` of the position
table, wherever the padding stands.
"""

from dataclasses import dataclass

import keras

from kzoo.hparams import hp
from kzoo.layers.positions import CountedPositions
from kzoo.models import bert
from kzoo.models.family import Family


@dataclass(frozen=True, kw_only=True)
class RobertaHParams(bert.BertHParams):
    """Tokens (batch, time) of a byte-level vocabulary."""

    vocab_size: int = hp(50_265, "tokens", min=1, max=10_000_000)
    pad_token_id: int | None = hp(1, "the token that is padding (none = none)", min=0)
    norm_epsilon: float = hp(1e-5, "of the layer normalisations", min=0.0, max=1.0)
    num_segments: int = hp(1, "rows of the segment table", min=1, max=1024)


def build(hparams: RobertaHParams) -> keras.Model:
    """(batch, time) -> (batch, num_classes), or a row a token."""
    inputs = bert.encoder_inputs(hparams)
    mask = bert.real_steps(inputs, hparams)
    x = bert.embedded(inputs, hparams)
    first = (hparams.pad_token_id or 0) + 1
    positions = CountedPositions(hparams.sequence_length, first, name="positions")
    x = bert.encoded(positions(x, mask=mask), mask, hparams)
    if not hparams.per_step:
        x = bert.bert_pooled(x, mask, hparams)
    return bert.classifier(inputs, x, hparams)


VARIANTS = {"roberta_base": RobertaHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=RobertaHParams(**bert.SMALLEST),
    tasks=bert.TASKS,
    paper="1907.11692",
)
