"""The Transformer: an encoder reads a source, a decoder writes what belongs to it.

Vaswani et al., "Attention is all you need", 2017 (1706.03762): one embedding for both
sides and for the logits, sinusoidal positions, and normalisation after each branch in
``transformer_base`` and ``transformer_big``; the small one normalises before it, as
Xiong et al. 2020 (2002.04745) found easier to train.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers import decoding
from kzoo.layers.attention import Attention, self_attention
from kzoo.layers.encoder import encoder_block
from kzoo.layers.positions import SinusoidalPositions
from kzoo.layers.scale import Scaled
from kzoo.layers.sequence import PaddingMask
from kzoo.models.family import (
    BY_HEADS,
    EncoderDecoderHParams,
    Family,
    check_heads,
)

EPSILON = 1e-6  # of all normalisations


@dataclass(frozen=True, kw_only=True)
class TransformerSeq2SeqHParams(EncoderDecoderHParams):
    """``tokens`` (batch, time) and ``decoder_tokens`` (batch, steps)."""

    num_layers: int = hp(
        2, "blocks of the encoder, and of the decoder", min=1, max=200, tune=(1, 6)
    )
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
    activation: str = hp("relu", "of the MLP", choices=("gelu", "relu", "silu"))
    norm: str = hp("pre", "before or after each branch", choices=("pre", "post"))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.hidden_dim, self.num_heads)


@keras.saving.register_keras_serializable("kzoo")
class TransformerSeq2Seq(decoding.EncoderDecoder):
    """Writes step by step, over keys and values that it keeps."""

    def decode_step(
        self, tokens: Any, cache: dict[str, Any], index: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Logits of new tokens, and the cache with them.

        Args:
            tokens: (batch, steps) of the text, which stand at ``index`` and after it.
            cache: of ``initial_cache`` and ``encode``, or of an earlier step.
            index: a number, or one a row (batch,).

        Returns:
            (batch, steps, vocab_size) in float32, and the cache.
        """
        layer = self.get_layer
        positions = decoding.positions_from(index, tokens)
        x = layer("scale")(layer("embedding")(tokens))
        x = layer("positions")(x, positions)
        memory_mask = decoding.some_keys(cache["memory_mask"])
        for block in self._blocks:
            heads = layer(f"{block}_attention").num_heads

            def attend(y: Any, block: str = block, heads: int = heads) -> Any:
                nonlocal cache
                parts = [layer(f"{block}_{p}")(y) for p in ("query", "key", "value")]
                y, new = decoding.attention_over(cache, block, parts, positions, heads)
                cache = cache | new
                return layer(f"{block}_output")(y)

            def look(y: Any, block: str = block, heads: int = heads) -> Any:
                query = layer(f"{block}_memory_query")(y)
                keys, values = (cache[f"{block}_memory_{p}"] for p in ("key", "value"))
                y = decoding.attention_to(query, keys, values, heads, mask=memory_mask)
                return layer(f"{block}_memory_output")(y)

            def transform(y: Any, block: str = block) -> Any:
                return layer(f"{block}_mlp_out")(layer(f"{block}_mlp_in")(y))

            x = self._residual(x, attend, f"{block}_attention_norm", block)
            x = self._residual(x, look, f"{block}_memory_norm", block)
            x = self._residual(x, transform, f"{block}_mlp_norm", block)
        x = layer("norm")(x)
        return layer("logits")(layer("embedding")(x, reverse=True)), cache

    def _residual(
        self, x: Any, branch: Callable[[Any], Any], norm: str, block: str
    ) -> Any:
        layer = self.get_layer
        if isinstance(layer(block), keras.layers.Add):  # pre
            return x + branch(layer(norm)(x))
        norm = block if norm.endswith("_mlp_norm") else norm
        return layer(norm)(x + branch(x))


def build(hparams: TransformerSeq2SeqHParams) -> keras.Model:
    """(batch, time) and (batch, steps) -> (batch, steps, vocab_size)."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    decoder_tokens = keras.Input((None,), dtype="int32", name="decoder_tokens")
    embedding = keras.layers.ReversibleEmbedding(
        hparams.vocab_size,
        hparams.hidden_dim,
        # Of the size of the positions once scaled, and of the logits' kernel before.
        embeddings_initializer=keras.initializers.RandomNormal(
            stddev=hparams.hidden_dim**-0.5
        ),
        reverse_dtype="float32",
        name="embedding",
    )
    scale = Scaled(math.sqrt(hparams.hidden_dim), name="scale")
    positions = SinusoidalPositions(name="positions")
    drop = keras.layers.Dropout(hparams.dropout_rate, name="stem")
    mask = PaddingMask(hparams.pad_token_id, name="mask")(tokens)

    def last(x: Any, name: str) -> Any:
        """After the last block of a stage: the stream itself is not normalised."""
        if hparams.norm == "post":
            return keras.layers.Identity(name=name)(x)
        return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)(x)

    x = drop(positions(scale(embedding(tokens))))  # (batch, time, hidden_dim)
    for i in range(hparams.num_layers):
        x = encoder_block(
            x, mask, hparams, f"stage_0_block_{i}", norm=hparams.norm, epsilon=EPSILON
        )
    memory = last(x, "memory")
    x = drop(positions(scale(embedding(decoder_tokens))))  # (batch, steps, hidden_dim)
    for i in range(hparams.num_layers):
        x = decoder_block(x, memory, mask, hparams, f"stage_1_block_{i}")
    logits = embedding(last(x, "norm"), reverse=True)  # (batch, steps, vocab_size)
    logits = keras.layers.Identity(dtype="float32", name="logits")(logits)
    inputs = {"tokens": tokens, "decoder_tokens": decoder_tokens}
    return TransformerSeq2Seq(inputs, logits)


def decoder_block(
    x: Any, memory: Any, mask: Any, hparams: TransformerSeq2SeqHParams, name: str
) -> Any:
    """Causal attention, attention to the source, then an MLP."""

    def attend(y: Any) -> Any:
        rate = hparams.attention_dropout_rate
        return self_attention(y, None, hparams.num_heads, rate, name, causal=True)

    def look(y: Any) -> Any:
        return attention_to_memory(y, memory, mask, hparams, f"{name}_memory")

    x = residual(x, attend, hparams, name, "attention")
    x = residual(x, look, hparams, name, "memory")
    return residual(x, mlp(hparams, name), hparams, name, "mlp")


def attention_to_memory(
    x: Any, memory: Any, mask: Any, hparams: TransformerSeq2SeqHParams, name: str
) -> Any:
    """Each step of the text looks at the real steps of the source."""

    def dense(part: str) -> keras.layers.Layer:
        return keras.layers.Dense(hparams.hidden_dim, name=f"{name}_{part}")

    query, key, value = dense("query")(x), dense("key")(memory), dense("value")(memory)
    attention = Attention(
        hparams.num_heads, hparams.attention_dropout_rate, name=f"{name}_attention"
    )
    return dense("output")(attention(query, key, value, mask=mask))


def mlp(hparams: TransformerSeq2SeqHParams, name: str) -> Callable[[Any], Any]:
    """Two dense layers (sec. 3.3)."""
    dense = keras.layers.Dense
    kind = hparams.activation
    first = dense(hparams.mlp_dim, activation=kind, name=f"{name}_mlp_in")
    second = dense(hparams.hidden_dim, name=f"{name}_mlp_out")
    return lambda x: second(first(x))


def residual(
    x: Any,
    branch: Callable[[Any], Any],
    hparams: TransformerSeq2SeqHParams,
    name: str,
    part: str,
) -> Any:
    """X + branch(norm(x)), or norm(x + branch(x)); the MLP's is what leaves a block."""
    pre = hparams.norm == "pre"
    leaves = part == "mlp"
    norm = keras.layers.LayerNormalization(
        epsilon=EPSILON, name=name if leaves and not pre else f"{name}_{part}_norm"
    )
    add = keras.layers.Add(name=name if leaves and pre else f"{name}_{part}_add")
    y = branch(norm(x) if pre else x)
    y = keras.layers.Dropout(hparams.dropout_rate, name=f"{name}_{part}_dropout")(y)
    x = add([x, y])
    return x if pre else norm(x)


VARIANTS = {
    "transformer_seq2seq": TransformerSeq2SeqHParams(),
    "transformer_base": TransformerSeq2SeqHParams(
        vocab_size=37000,
        num_layers=6,
        hidden_dim=512,
        num_heads=8,
        mlp_dim=2048,
        norm="post",
    ),
    "transformer_big": TransformerSeq2SeqHParams(
        vocab_size=37000,
        num_layers=6,
        hidden_dim=1024,
        num_heads=16,
        mlp_dim=4096,
        dropout_rate=0.3,
        norm="post",
    ),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=TransformerSeq2SeqHParams(
        vocab_size=17, num_layers=1, hidden_dim=8, num_heads=2, mlp_dim=16
    ),
    tasks=("translation", "summarization"),
    paper="1706.03762",
    layout={r"embedding/embeddings": (None, "model"), **BY_HEADS},
)
