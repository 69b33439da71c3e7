"""GPT-2: a decoder of tokens that guesses the next one.

Radford et al., "Language models are unsupervised multitask learners", 2019: blocks of
causal attention and an MLP, each normalised before, learned positions, and logits by
the table of the embedding.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers import decoding
from kzoo.layers.attention import Attention
from kzoo.layers.positions import LearnedPositions
from kzoo.models.family import BY_HEADS, DecoderHParams, Family, check_heads

EPSILON = 1e-5  # of all normalisations


@dataclass(frozen=True, kw_only=True)
class GPT2HParams(DecoderHParams):
    """Tokens (batch, time)."""

    vocab_size: int = hp(50257, "tokens", min=1, max=10_000_000)
    sequence_length: int = hp(
        1024, "longest sequence: rows of the position table", min=1
    )
    end_token_id: int | None = hp(
        50256, "the token that ends a text (none = none)", min=0
    )
    num_layers: int = hp(12, "decoder blocks", min=1, max=200, tune=(1, 6))
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

    def __post_init__(self) -> None:
        super().__post_init__()
        check_heads(self.hidden_dim, self.num_heads)


@keras.saving.register_keras_serializable("kzoo")
def gelu_tanh(x: Any) -> Any:
    """GELU by its approximation (Hendrycks & Gimpel 2016), as GPT-2 has it."""
    return keras.ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable("kzoo")
class GPT2(keras.Model):
    """A functional model that can also go on from where it was."""

    @property
    def _blocks(self) -> list[str]:
        names = (layer.name for layer in self.layers)
        return [n.removesuffix("_query") for n in names if n.endswith("_query")]

    def initial_cache(self, batch: int, length: int) -> dict[str, Any]:
        """Room for ``length`` steps of ``batch`` texts.

        Args:
            batch: texts side by side.
            length: steps that will be decoded at most.

        Returns:
            ``{"block_0_key": (batch, length, hidden_dim), ...}``.
        """
        query = self.get_layer("block_0_query")
        names = [f"{b}_{part}" for b in self._blocks for part in ("key", "value")]
        return decoding.empty(names, batch, length, query.units, query.compute_dtype)

    def decode_step(
        self, tokens: Any, cache: dict[str, Any], index: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Logits of new tokens, and the cache with them.

        Args:
            tokens: (batch, steps), which stand at ``index``, ``index + 1``, ...
            cache: of ``initial_cache``, or of an earlier step.
            index: a number, or one a row (batch,). What the cache holds from there on
                is not looked at.

        Returns:
            (batch, steps, vocab_size) in float32, and the cache.
        """
        layer = self.get_layer
        positions = decoding.positions_from(index, tokens)
        x = layer("positions")(layer("embedding")(tokens), positions)
        for block in self._blocks:
            y = layer(f"{block}_attention_norm")(x)
            parts = [layer(f"{block}_{p}")(y) for p in ("query", "key", "value")]
            heads = layer(f"{block}_attention").num_heads
            y, new = decoding.attention_over(cache, block, parts, positions, heads)
            cache = cache | new
            x = x + layer(f"{block}_output")(y)
            y = layer(f"{block}_mlp_in")(layer(f"{block}_mlp_norm")(x))
            x = x + layer(f"{block}_mlp_out")(y)
        x = layer("norm")(x)
        return layer("logits")(layer("embedding")(x, reverse=True)), cache


def build(hparams: GPT2HParams) -> keras.Model:
    """(batch, time) -> (batch, time, vocab_size)."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedding = keras.layers.ReversibleEmbedding(
        hparams.vocab_size,
        hparams.hidden_dim,
        embeddings_initializer=normal(),
        reverse_dtype="float32",
        name="embedding",
    )
    x = embedding(tokens)  # (batch, time, hidden_dim)
    x = LearnedPositions(hparams.sequence_length, name="positions")(x)
    x = keras.layers.Dropout(hparams.dropout_rate, name="stem")(x)
    for i in range(hparams.num_layers):
        x = block(x, hparams, f"block_{i}")
    x = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    logits = embedding(x, reverse=True)  # (batch, time, vocab_size)
    logits = keras.layers.Identity(dtype="float32", name="logits")(logits)
    return GPT2(tokens, logits)


def block(x: Any, hparams: GPT2HParams, name: str) -> Any:
    """Causal attention, then an MLP, each a residual branch: the same shape out."""

    def dense(units: int, part: str, **options: Any) -> keras.layers.Layer:
        options = {"kernel_initializer": normal()} | options
        return keras.layers.Dense(units, name=f"{name}_{part}", **options)

    def norm(branch: str) -> keras.layers.Layer:
        name_ = f"{name}_{branch}_norm"
        return keras.layers.LayerNormalization(epsilon=EPSILON, name=name_)

    def drop(branch: str) -> keras.layers.Layer:
        name_ = f"{name}_{branch}_dropout"
        return keras.layers.Dropout(hparams.dropout_rate, name=name_)

    # Each of the 2 num_layers branches adds to the stream: sec. 2.3 of the report.
    last = normal(1 / math.sqrt(2 * hparams.num_layers))
    width = hparams.hidden_dim
    y = norm("attention")(x)
    parts = [dense(width, part)(y) for part in ("query", "key", "value")]
    y = Attention(
        hparams.num_heads,
        hparams.attention_dropout_rate,
        causal=True,
        name=f"{name}_attention",
    )(*parts)
    y = dense(width, "output", kernel_initializer=last)(y)
    x = keras.layers.Add(name=f"{name}_attention_add")([x, drop("attention")(y)])

    y = dense(hparams.mlp_dim, "mlp_in", activation=gelu_tanh)(norm("mlp")(x))
    y = dense(width, "mlp_out", kernel_initializer=last)(y)
    return keras.layers.Add(name=name)([x, drop("mlp")(y)])


def normal(scale: float = 1.0) -> keras.initializers.Initializer:
    """Of all kernels and tables: a standard deviation of 0.02 (sec. 2.3)."""
    return keras.initializers.RandomNormal(stddev=0.02 * scale)


TINY = GPT2HParams(
    vocab_size=256,
    sequence_length=256,
    end_token_id=None,
    num_layers=4,
    hidden_dim=128,
    num_heads=4,
    mlp_dim=512,
)
VARIANTS = {
    "gpt2": GPT2HParams(),
    "gpt2_medium": GPT2HParams(
        num_layers=24, hidden_dim=1024, num_heads=16, mlp_dim=4096
    ),
    "gpt2_large": GPT2HParams(
        num_layers=36, hidden_dim=1280, num_heads=20, mlp_dim=5120
    ),
    "gpt2_xl": GPT2HParams(num_layers=48, hidden_dim=1600, num_heads=25, mlp_dim=6400),
    "gpt2_tiny": TINY,
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=replace(
        TINY, vocab_size=17, num_layers=1, hidden_dim=8, num_heads=2, mlp_dim=16
    ),
    tasks=("language-modeling",),
    paper="Radford et al., Language models are unsupervised multitask learners, 2019",
    layout={r"embedding/embeddings": (None, "model"), **BY_HEADS},
)
