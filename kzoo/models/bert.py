"""BERT: a Transformer encoder of tokens, segments and learned positions.

Devlin et al., "BERT: pre-training of deep bidirectional transformers", 2019
(1810.04805); ``bert_tiny`` is of Turc et al. 2019 (1908.08962). Weights are drawn as
Keras draws them; those of Hugging Face come by ``kzoo convert --from transformers``.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.encoder import encoder_block
from kzoo.layers.positions import LearnedPositions
from kzoo.layers.sequence import FirstStep, MaskedMean, PaddingMask
from kzoo.models.family import Family, TokenHParams, check_heads, logits_head
from kzoo.models.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class EncoderHParams(TokenHParams):
    """What BERT and its kin have in common: tokens (batch, time)."""

    vocab_size: int = hp(30_522, "tokens", min=1, max=10_000_000)
    sequence_length: int = hp(
        512, "longest sequence, rows of the position table", min=1, max=1_000_000
    )
    padding_mask: bool = hp(False, "take the mask as a second input, padding_mask")
    num_layers: int = hp(12, "encoder blocks", min=1, max=200, tune=(1, 6))
    hidden_dim: int = hp(
        768, "width of the residual stream", min=1, max=65536, log=True
    )
    num_heads: int = hp(12, "attention heads; they divide hidden_dim", min=1, max=512)
    mlp_dim: int = hp(
        3072, "width of a block's MLP", min=1, max=262144, log=True, tune=(64, 1024)
    )
    dropout_rate: float = hp(
        0.1, "of embeddings and branches", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    attention_dropout_rate: float = hp(
        0.1, "of the attention weights", min=0.0, max=0.9, tune=(0.0, 0.3)
    )
    head_dropout_rate: float = hp(0.1, "before the logits", min=0.0, max=0.9)
    norm_epsilon: float = hp(1e-12, "of the layer normalisations", min=0.0, max=1.0)
    activation: str = hp("gelu", "of the MLP", choices=("gelu", "relu", "silu"))
    pooling: str = hp(
        "first",
        "first = of the first token; mean = of all, for texts that have no [CLS]",
        choices=("first", "mean"),
    )
    per_step: bool = hp(False, "one answer a token: (batch, time, num_classes)")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.hidden_dim, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class BertHParams(EncoderHParams):
    """Tokens (batch, time), and which of two sentences each is of."""

    segment_ids: bool = hp(False, "take segment_ids as an input; else all are 0")
    num_segments: int = hp(2, "rows of the segment table", min=1, max=1024)


def build(hparams: BertHParams) -> keras.Model:
    """(batch, time) -> (batch, num_classes), or a row a token."""
    inputs = encoder_inputs(hparams)
    mask = real_steps(inputs, hparams)
    x = embedded(inputs, hparams)
    x = LearnedPositions(hparams.sequence_length, name="positions")(x)
    x = encoded(x, mask, hparams)
    if not hparams.per_step:
        x = bert_pooled(x, mask, hparams)
    return classifier(inputs, x, hparams)


def encoder_inputs(hparams: EncoderHParams) -> dict[str, Any]:
    """The model's inputs by name, each (batch, time)."""
    names = {"tokens": "int32"}
    if hparams.padding_mask:
        names["padding_mask"] = "bool"
    if getattr(hparams, "segment_ids", False):
        names["segment_ids"] = "int32"
    return {name: keras.Input((None,), dtype=d, name=name) for name, d in names.items()}


def real_steps(inputs: dict[str, Any], hparams: EncoderHParams) -> Any:
    """(batch, time), true where a token is no padding; None where all are real."""
    if hparams.padding_mask:
        return inputs["padding_mask"]
    if hparams.pad_token_id is None:
        return None
    return PaddingMask(hparams.pad_token_id, name="mask")(inputs["tokens"])


def embedded(inputs: dict[str, Any], hparams: BertHParams) -> Any:
    """Vectors of the tokens and of their segments: (batch, time, hidden_dim)."""
    tokens = inputs["tokens"]
    segments = inputs.get("segment_ids")
    if segments is None:
        segments = ops.zeros_like(tokens)
    x = keras.layers.Embedding(
        hparams.vocab_size, hparams.hidden_dim, name="embedding"
    )(tokens)
    y = keras.layers.Embedding(
        hparams.num_segments, hparams.hidden_dim, name="segments"
    )(segments)
    return keras.layers.Add(name="segments_add")([x, y])


def encoded(x: Any, mask: Any, hparams: EncoderHParams) -> Any:
    """Normalised embeddings through all blocks: (batch, time, hidden_dim)."""
    epsilon = hparams.norm_epsilon
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="embedding_norm")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="stem")(x)
    for i in range(hparams.num_layers):
        name = f"block_{i}"
        x = encoder_block(x, mask, hparams, name, norm="post", epsilon=epsilon)
    return x


def bert_pooled(x: Any, mask: Any, hparams: EncoderHParams) -> Any:
    """A dense layer on the first token's vector, or the mean: (batch, hidden_dim)."""
    if hparams.pooling == "mean":
        return MaskedMean(name="pooled")(x, mask=mask)
    first = FirstStep(name="first")(x)
    return keras.layers.Dense(x.shape[-1], activation="tanh", name="pooled")(first)


def classifier(inputs: dict[str, Any], x: Any, hparams: EncoderHParams) -> keras.Model:
    """The model from its inputs to the logits of ``x``."""
    if hparams.num_classes:
        x = keras.layers.Dropout(hparams.head_dropout_rate, name="dropout")(x)
    given = inputs if len(inputs) > 1 else inputs["tokens"]
    return Transformer(given, logits_head(x, hparams.num_classes))


TASKS = ("text-classification", "sequence-labeling", "regression")
SMALLEST: dict[str, Any] = {
    "vocab_size": 17,
    "sequence_length": 24,
    "num_layers": 1,
    "hidden_dim": 8,
    "num_heads": 2,
    "mlp_dim": 16,
    "attention_dropout_rate": 0.0,
    "head_dropout_rate": 0.0,
    "num_classes": 3,
}
VARIANTS = {
    "bert_tiny": BertHParams(num_layers=2, hidden_dim=128, num_heads=2, mlp_dim=512),
    "bert_base": BertHParams(),
    "bert_large": BertHParams(
        num_layers=24, hidden_dim=1024, num_heads=16, mlp_dim=4096
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=BertHParams(**SMALLEST),
    tasks=TASKS,
    paper={
        "bert_tiny": "1908.08962",
        "bert_base": "1810.04805",
        "bert_large": "1810.04805",
    },
)
