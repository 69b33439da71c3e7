"""Transformer encoder of tokens or features.

Vaswani et al., "Attention is all you need", 2017 (1706.03762), with the pre-norm
residuals of Xiong et al. 2020 (2002.04745) as the default.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kzoo.hparams import hp
from kzoo.layers.attention import attention_weights
from kzoo.layers.encoder import encoder_block
from kzoo.layers.positions import LearnedPositions, SinusoidalPositions
from kzoo.layers.sequence import FirstStep, MaskedMean
from kzoo.models.family import (
    BY_HEADS,
    Family,
    SequenceHParams,
    check_heads,
    logits_head,
    sequence_input,
)


@dataclass(frozen=True, kw_only=True)
class TransformerHParams(SequenceHParams):
    """Tokens (batch, time) or features (batch, time, num_features)."""

    num_layers: int = hp(2, "encoder blocks", min=1, max=200, tune=(1, 6))
    hidden_dim: int = hp(
        128, "width of the residual stream", min=1, max=65536, log=True
    )
    num_heads: int = hp(4, "attention heads; they divide hidden_dim", min=1, max=512)
    mlp_dim: int = hp(
        512, "width of a block's MLP", min=1, max=262144, log=True, tune=(64, 1024)
    )
    dropout_rate: float = hp(
        0.1, "of embeddings and branches", min=0.0, max=0.9, tune=(0.0, 0.5)
    )
    attention_dropout_rate: float = hp(
        0.0, "of the attention weights", min=0.0, max=0.9, tune=(0.0, 0.3)
    )
    positions: str = hp(
        "sinusoidal", "how order comes in", choices=("learned", "sinusoidal")
    )
    norm: str = hp("pre", "before or after each branch", choices=("pre", "post"))
    activation: str = hp("gelu", "of the MLP", choices=("gelu", "relu", "silu"))
    pooling: str = hp("mean", "from steps to one vector", choices=("mean", "first"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.hidden_dim, self.num_heads)
        if self.positions == "learned" and self.sequence_length is None:
            raise ValueError(
                "positions='learned' needs sequence_length, the rows of its table"
            )


@keras.saving.register_keras_serializable("kzoo")
class Transformer(keras.Model):
    """A functional model that can also show where it looked."""

    def attention_maps(self, inputs: Any) -> dict[str, Any]:
        """Attention of each block, computed beside the graph from its taps.

        Args:
            inputs: what the model takes.

        Returns:
            ``{"block_0": (batch, heads, time, time), ...}``; rows sum to 1, and padded
            keys get nothing.
        """
        names = [layer.name for layer in self.layers]
        blocks = [name.removesuffix("_query") for name in names if "_query" in name]
        taps = [f"{block}_{part}" for block in blocks for part in ("query", "key")]
        outputs = {tap: self.get_layer(tap).output for tap in taps}
        mask = inputs.get("padding_mask") if isinstance(inputs, dict) else None
        if "mask" in names:
            outputs["mask"] = self.get_layer("mask").output
        found = keras.Model(self.input, outputs)(inputs)
        mask = found.get("mask", mask)
        if mask is not None:
            mask = ops.cast(mask, "bool")[:, None, None, :]
        heads = {b: self.get_layer(f"{b}_attention").num_heads for b in blocks}
        return {
            block: attention_weights(
                found[f"{block}_query"], found[f"{block}_key"], heads[block], mask
            )
            for block in blocks
        }


def build(hparams: TransformerHParams) -> keras.Model:
    """(batch, time[, num_features]) -> (batch, num_classes)."""
    inputs, x, mask = sequence_input(hparams, hparams.hidden_dim)
    if not hparams.vocab_size:
        x = keras.layers.Dense(hparams.hidden_dim, name="projection")(x)
    if hparams.positions == "learned" and hparams.sequence_length:
        x = LearnedPositions(hparams.sequence_length, name="positions")(x)
    else:
        x = SinusoidalPositions(name="positions")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="stem")(x)
    for i in range(hparams.num_layers):
        # (batch, time, hidden_dim)
        x = encoder_block(x, mask, hparams, f"block_{i}", norm=hparams.norm)
    if hparams.norm == "pre":
        x = keras.layers.LayerNormalization(name="norm")(x)
    if hparams.pooling == "mean":
        x = MaskedMean(name="pooled")(x, mask=mask)
    else:
        x = FirstStep(name="pooled")(x)
    return Transformer(inputs, logits_head(x, hparams.num_classes))


VARIANTS = {"transformer": TransformerHParams()}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=TransformerHParams(
        vocab_size=17,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        mlp_dim=16,
        num_classes=3,
    ),
    tasks=("text-classification", "sequence-classification", "regression"),
    paper="1706.03762",
    layout={
        r"(embedding|projection)/(embeddings|kernel)": (None, "model"),
        **BY_HEADS,
    },
)
