"""Multi-head attention whose query, key and value can be tapped.

Keras's ``MultiHeadAttention`` hides its projections inside one layer. Here they are
layers of the model's own graph, so that distillation and explanation can read them;
the product itself is ``keras.ops.dot_product_attention``, which takes the backend's
fused kernel where there is one.
"""

from typing import Any

import keras
from keras import ops

from kzoo.layers.sequence import MaskedLayer


@keras.saving.register_keras_serializable("kzoo")
class Attention(MaskedLayer):
    """softmax(q k / sqrt(head_dim)) v in each head (Vaswani et al. 2017, sec. 3.2).

    Args:
        num_heads: they divide the width of query, key and value.
        dropout_rate: of the attention weights; above 0 it costs the fused kernel in
            training, never in inference.
        causal: no step looks at a later one.
        scale: what q k is multiplied by; None = 1 / sqrt(head_dim).

    Query (batch, time, hidden_dim), key and value (batch, steps, hidden_dim) ->
    (batch, time, hidden_dim). ``mask`` (batch, steps) is true at the real keys;
    ``bias`` (1, num_heads, time, steps) is added to the scores.
    """

    def __init__(
        self,
        num_heads: int,
        dropout_rate: float = 0.0,
        causal: bool = False,
        scale: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout_rate
        self.causal = causal
        self.scale = scale
        self.dropout = keras.layers.Dropout(dropout_rate, name="dropout")

    def call(
        self,
        query: Any,
        key: Any,
        value: Any,
        bias: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        if mask is not None:
            # A row of padding alone attends everywhere: finite, whatever the kernel.
            empty = ops.logical_not(ops.any(mask, axis=1, keepdims=True))
            mask = ops.logical_or(mask, empty)[:, None, None, :]
        if self.causal:
            step = ops.arange(ops.shape(query)[1])
            earlier = (step[:, None] >= step)[None, None]  # (1, 1, time, time)
            mask = earlier if mask is None else ops.logical_and(mask, earlier)
        if training and self.dropout_rate > 0:
            weights = attention_weights(
                query, key, self.num_heads, mask, bias, self.scale
            )
            weights = self.dropout(weights, training=True)
            value = split_heads(value, self.num_heads)
            x = ops.einsum("bhts,bshd->bthd", weights, value)
        else:
            q, k, v = (split_heads(x, self.num_heads) for x in (query, key, value))
            x = fused_attention(q, k, v, mask, bias, self.scale)
        return ops.reshape(x, ops.shape(query))

    def compute_output_shape(
        self,
        query_shape: Any,
        key_shape: Any,
        value_shape: Any,
        bias_shape: Any = None,
    ) -> Any:
        return query_shape

    def get_config(self) -> dict[str, Any]:
        names = ("num_heads", "dropout_rate", "causal", "scale")
        return super().get_config() | {name: getattr(self, name) for name in names}


def split_heads(x: Any, num_heads: int) -> Any:
    """(batch, time, hidden_dim) -> (batch, time, num_heads, head_dim)."""
    batch, time = ops.shape(x)[:2]
    return ops.reshape(x, (batch, time, num_heads, x.shape[-1] // num_heads))


def fused_attention(
    q: Any, k: Any, v: Any, mask: Any, bias: Any, scale: float | None
) -> Any:
    """The backend's own attention, (batch, time, num_heads, head_dim) each."""
    if mask is not None and bias is not None:  # PyTorch takes one of them
        bias = ops.where(mask, ops.cast(bias, q.dtype), ops.cast(-1e30, q.dtype))
        mask = None
    return ops.dot_product_attention(q, k, v, bias=bias, mask=mask, scale=scale)


def attention_weights(
    query: Any,
    key: Any,
    num_heads: int,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
) -> Any:
    """The attention map that a query and a key tap give.

    Args:
        query: (batch, time, hidden_dim).
        key: (batch, steps, hidden_dim).
        num_heads: they divide hidden_dim.
        mask: true where a query may look, of a shape that broadcasts to the result's.
        bias: added to the scores, of such a shape too.
        scale: what q k is multiplied by; None = 1 / sqrt(head_dim).

    Returns:
        (batch, num_heads, time, steps); each row sums to 1.
    """
    query, key = split_heads(query, num_heads), split_heads(key, num_heads)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.einsum("bthd,bshd->bhts", query, key) * scale
    scores = ops.cast(scores, "float32")  # exp of bf16 scores loses small weights
    if bias is not None:
        scores = scores + ops.cast(bias, "float32")
    if mask is not None:
        scores = ops.where(mask, scores, -1e30)
    # Keras's softmax warns of sequences of one step.
    weights = ops.exp(scores - ops.logsumexp(scores, axis=-1, keepdims=True))
    return ops.cast(weights, query.dtype)


def self_attention(
    x: Any,
    mask: Any,
    num_heads: int,
    dropout_rate: float,
    name: str,
    causal: bool = False,
) -> Any:
    """Multi-head self-attention over (batch, time, hidden_dim), the same shape out.

    Adds the layers ``{name}_query``, ``_key``, ``_value``, ``_attention`` and
    ``_output`` to the graph.
    """
    hidden_dim = x.shape[-1]
    projections = [
        keras.layers.Dense(hidden_dim, name=f"{name}_{part}")(x)
        for part in ("query", "key", "value")
    ]
    attention = Attention(num_heads, dropout_rate, causal, name=f"{name}_attention")
    x = attention(*projections, mask=mask)
    return keras.layers.Dense(hidden_dim, name=f"{name}_output")(x)
