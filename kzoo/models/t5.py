"""T5: an encoder and a decoder that know how far apart two tokens are, not where.

Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
transformer", 2020 (1910.10683): a learned bias of the attention scores by distance, the
same in all blocks of a side; branches scaled by their root mean square before, and no
bias in any dense layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers import decoding
from kzoo.layers.attention import Attention
from kzoo.layers.positions import RelativePositions
from kzoo.layers.scale import Scaled
from kzoo.layers.sequence import PaddingMask
from kzoo.models.family import KERNELS_BY_HEADS, EncoderDecoderHParams, Family

EPSILON = 1e-6  # of all normalisations
SCALE = 1.0  # of q k: the initial weights of the queries have the root in them


@dataclass(frozen=True, kw_only=True)
class T5HParams(EncoderDecoderHParams):
    """``tokens`` (batch, time) and ``decoder_tokens`` (batch, steps)."""

    vocab_size: int = hp(32128, "tokens", min=1, max=10_000_000)
    end_token_id: int | None = hp(1, "the token that ends a text (none = none)", min=0)
    start_token_id: int = hp(0, "the token that a text begins after", min=0)
    num_layers: int = hp(
        6, "blocks of the encoder, and of the decoder", min=1, max=200, tune=(1, 6)
    )
    hidden_dim: int = hp(
        512, "width of the residual stream", min=1, max=65536, log=True
    )
    num_heads: int = hp(8, "attention heads", min=1, max=512)
    head_dim: int = hp(64, "width of an attention head", min=1, max=4096)
    mlp_dim: int = hp(
        2048, "width of a block's MLP", min=1, max=262144, log=True, tune=(64, 1024)
    )
    num_buckets: int = hp(32, "of distances, each with a bias a head", min=4, max=4096)
    max_distance: int = hp(128, "from which on all distances are one", min=4)
    dropout_rate: float = hp(
        0.1, "of embeddings, branches and attention", min=0.0, max=0.9, tune=(0.0, 0.5)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_buckets % 4 or self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"num_buckets={self.num_buckets} must be a multiple of 4, and less "
                f"than twice max_distance={self.max_distance}"
            )


@keras.saving.register_keras_serializable("kzoo")
class T5(decoding.EncoderDecoder):
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
        x = layer("embedding")(tokens)
        length = cache["stage_1_block_0_key"].shape[1]
        bias = layer("stage_1_positions").bias(positions, length)
        memory_mask = decoding.some_keys(cache["memory_mask"])
        for block in self._blocks:
            heads = layer(f"{block}_attention").num_heads
            y = layer(f"{block}_attention_norm")(x)
            parts = [layer(f"{block}_{part}")(y) for part in ("query", "key", "value")]
            y, new = decoding.attention_over(
                cache, block, parts, positions, heads, bias=bias, scale=SCALE
            )
            cache = cache | new
            x = x + layer(f"{block}_output")(y)
            query = layer(f"{block}_memory_query")(layer(f"{block}_memory_norm")(x))
            keys, values = (cache[f"{block}_memory_{p}"] for p in ("key", "value"))
            y = decoding.attention_to(
                query, keys, values, heads, mask=memory_mask, scale=SCALE
            )
            x = x + layer(f"{block}_memory_output")(y)
            y = layer(f"{block}_mlp_in")(layer(f"{block}_mlp_norm")(x))
            x = x + layer(f"{block}_mlp_out")(y)
        x = layer("scale")(layer("norm")(x))
        return layer("logits")(layer("embedding")(x, reverse=True)), cache


def build(hparams: T5HParams) -> keras.Model:
    """(batch, time) and (batch, steps) -> (batch, steps, vocab_size)."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    decoder_tokens = keras.Input((None,), dtype="int32", name="decoder_tokens")
    embedding = keras.layers.ReversibleEmbedding(
        hparams.vocab_size,
        hparams.hidden_dim,
        embeddings_initializer=normal(1.0),
        reverse_dtype="float32",
        name="embedding",
    )
    drop = keras.layers.Dropout(hparams.dropout_rate, name="stem")
    mask = PaddingMask(hparams.pad_token_id, name="mask")(tokens)

    def positions(stage: int) -> keras.layers.Layer:
        return RelativePositions(
            hparams.num_heads,
            hparams.num_buckets,
            hparams.max_distance,
            bidirectional=stage == 0,
            embeddings_initializer=normal(hparams.hidden_dim**-0.5),
            name=f"stage_{stage}_positions",
        )

    x = drop(embedding(tokens))  # (batch, time, hidden_dim)
    bias = positions(0)(x)  # (1, num_heads, time, time)
    for i in range(hparams.num_layers):
        name = f"stage_0_block_{i}"
        x = residual(x, attention(hparams, name, bias, mask), hparams, name)
        x = residual(x, mlp(hparams, name), hparams, name)
    x = keras.layers.Dropout(hparams.dropout_rate, name="memory_dropout")(
        keras.layers.RMSNormalization(epsilon=EPSILON, name="memory_norm")(x)
    )
    memory = keras.layers.Identity(name="memory")(x)

    x = drop(embedding(decoder_tokens))  # (batch, steps, hidden_dim)
    bias = positions(1)(x)  # (1, num_heads, steps, steps)
    for i in range(hparams.num_layers):
        name = f"stage_1_block_{i}"
        x = residual(x, attention(hparams, name, bias, causal=True), hparams, name)
        look = attention(hparams, f"{name}_memory", None, mask, memory)
        x = residual(x, look, hparams, name)
        x = residual(x, mlp(hparams, name), hparams, name)
    x = keras.layers.RMSNormalization(epsilon=EPSILON, name="norm")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="dropout")(x)
    # Embeddings are of size 1, so what meets them again is brought down.
    x = Scaled(1 / math.sqrt(hparams.hidden_dim), name="scale")(x)
    logits = embedding(x, reverse=True)  # (batch, steps, vocab_size)
    logits = keras.layers.Identity(dtype="float32", name="logits")(logits)
    return T5({"tokens": tokens, "decoder_tokens": decoder_tokens}, logits)


Branch = tuple[str, Callable[[Any], Any]]


def attention(
    hparams: T5HParams,
    name: str,
    bias: Any,
    mask: Any = None,
    memory: Any = None,
    causal: bool = False,
) -> Branch:
    """Attention to the stream itself, or to the memory: the branch and its name."""
    width = hparams.num_heads * hparams.head_dim
    root = hparams.hidden_dim**-0.5

    def attend(x: Any) -> Any:
        seen = x if memory is None else memory
        query = dense(width, f"{name}_query", root * hparams.head_dim**-0.5)(x)
        key = dense(width, f"{name}_key", root)(seen)
        value = dense(width, f"{name}_value", root)(seen)
        heads = Attention(
            hparams.num_heads,
            hparams.dropout_rate,
            causal,
            SCALE,
            name=f"{name}_attention",
        )
        y = heads(query, key, value, bias=bias, mask=mask)
        return dense(hparams.hidden_dim, f"{name}_output", width**-0.5)(y)

    return ("memory" if memory is not None else "attention"), attend


def mlp(hparams: T5HParams, name: str) -> Branch:
    """Two dense layers with a ReLU between: the branch and its name."""
    first = dense(hparams.mlp_dim, f"{name}_mlp_in", hparams.hidden_dim**-0.5, "relu")
    second = dense(hparams.hidden_dim, f"{name}_mlp_out", hparams.mlp_dim**-0.5)
    return "mlp", lambda x: second(first(x))


def residual(x: Any, branch: Branch, hparams: T5HParams, name: str) -> Any:
    """X + branch(norm(x)); after the MLP it is what leaves the block."""
    part, function = branch
    y = keras.layers.RMSNormalization(epsilon=EPSILON, name=f"{name}_{part}_norm")(x)
    rate = hparams.dropout_rate
    y = keras.layers.Dropout(rate, name=f"{name}_{part}_dropout")(function(y))
    last = name if part == "mlp" else f"{name}_{part}_add"
    return keras.layers.Add(name=last)([x, y])


def dense(
    units: int, name: str, spread: float, activation: str | None = None
) -> keras.layers.Layer:
    """A dense layer without bias, its weights of this standard deviation."""
    return keras.layers.Dense(
        units,
        activation=activation,
        use_bias=False,
        kernel_initializer=normal(spread),
        name=name,
    )


def normal(spread: float) -> keras.initializers.Initializer:
    """Normally distributed weights, as the authors' code draws them."""
    return keras.initializers.RandomNormal(stddev=spread)


VARIANTS = {
    "t5_small": T5HParams(),
    "t5_base": T5HParams(num_layers=12, hidden_dim=768, num_heads=12, mlp_dim=3072),
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=replace(
        T5HParams(),
        vocab_size=17,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        head_dim=4,
        mlp_dim=16,
        num_buckets=8,
    ),
    tasks=("translation", "summarization"),
    paper="1910.10683",
    layout={r"embedding/embeddings": (None, "model"), **KERNELS_BY_HEADS},
)
