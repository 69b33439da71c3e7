"""Sequences with padding: where the mask comes from, and how to pool under it.

A mask is a boolean tensor (batch, time), true at real positions, and is handed from
layer to layer as an argument; ``None`` means that every position is real. Each layer
here gives the same answer when padding is appended, and a finite one for a row that is
padding alone.
"""

from typing import Any

import keras
from keras import ops


class MaskedLayer(keras.layers.Layer):
    """A layer that takes the mask as an argument, and sends none on with its output."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True  # or Keras warns that the mask is lost

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None


@keras.saving.register_keras_serializable("kzoo")
class PaddingMask(keras.layers.Layer):
    """Tokens (batch, time) -> mask (batch, time): true where not ``pad_token_id``."""

    def __init__(self, pad_token_id: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pad_token_id = pad_token_id

    def call(self, tokens: Any) -> Any:
        return ops.not_equal(tokens, self.pad_token_id)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pad_token_id": self.pad_token_id}


@keras.saving.register_keras_serializable("kzoo")
class NonEmptyMask(keras.layers.Layer):
    """A mask in which a row of padding alone keeps its first position.

    Fused recurrent kernels refuse a row without a real step.
    """

    def call(self, mask: Any) -> Any:
        mask = ops.cast(mask, "bool")
        first = ops.arange(ops.shape(mask)[1]) == 0  # (time,)
        empty = ops.logical_not(ops.any(mask, axis=1, keepdims=True))  # (batch, 1)
        return ops.logical_or(mask, ops.logical_and(empty, first))


@keras.saving.register_keras_serializable("kzoo")
class ZeroPadding(MaskedLayer):
    """Zero at the padded positions, as a convolution sees the world past the edge."""

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is None:
            return x
        return x * ops.cast(mask, x.dtype)[..., None]


@keras.saving.register_keras_serializable("kzoo")
class MaskedMean(MaskedLayer):
    """Mean over the real steps: (batch, time, features) -> (batch, features)."""

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is None:
            return ops.mean(x, axis=1)
        weights = ops.cast(mask, x.dtype)[..., None]
        count = ops.maximum(ops.sum(weights, axis=1), 1)  # padding alone: 0 / 1
        return ops.sum(x * weights, axis=1) / count


@keras.saving.register_keras_serializable("kzoo")
class MaskedMax(MaskedLayer):
    """Maximum over the real steps: (batch, time, features) -> (batch, features)."""

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is None:
            return ops.max(x, axis=1)
        return ops.max(masked_fill(x, mask), axis=1)


@keras.saving.register_keras_serializable("kzoo")
class LastStep(MaskedLayer):
    """The last real step; of a bidirectional layer, each direction's own last step.

    (batch, time, features) -> (batch, features). The second half of a bidirectional
    layer's features has read the sequence backwards, so its last step is the first.
    """

    def __init__(self, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bidirectional = bidirectional

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is None:
            last = x[:, -1]
        else:
            steps = ops.arange(ops.shape(x)[1])
            index = ops.max(ops.where(mask, steps, 0), axis=1)  # (batch,)
            picked = ops.cast(steps == index[:, None], x.dtype)  # one-hot in time
            last = ops.sum(x * picked[..., None], axis=1)
        if not self.bidirectional:
            return last
        half = x.shape[-1] // 2
        return ops.concatenate([last[:, :half], x[:, 0, half:]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bidirectional": self.bidirectional}


@keras.saving.register_keras_serializable("kzoo")
class FirstStep(keras.layers.Layer):
    """(batch, time, features) -> (batch, features) of the first step."""

    def call(self, x: Any) -> Any:
        return x[:, 0]


@keras.saving.register_keras_serializable("kzoo")
class AttentionPooling(MaskedLayer):
    """A learned weighted mean over the steps (Bahdanau et al. 2015, one query).

    (batch, time, features) -> (batch, features), by softmax of v . tanh(W x).
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = input_shape[-1]
        self.kernel = self.add_weight(shape=(features, features), name="kernel")
        self.query = self.add_weight(shape=(features, 1), name="query")

    def call(self, x: Any, mask: Any = None) -> Any:
        scores = ops.matmul(ops.tanh(ops.matmul(x, self.kernel)), self.query)
        if mask is not None:
            scores = masked_fill(scores, mask)
        # Keras's softmax warns of sequences of one step.
        weights = ops.exp(scores - ops.logsumexp(scores, axis=1, keepdims=True))
        return ops.sum(x * weights, axis=1)


def masked_fill(x: Any, mask: Any) -> Any:
    """``x`` with a finite minimum at padded positions, which no maximum picks."""
    # Half of the type's range: differences of two such values stay finite.
    low = -1e30 if keras.backend.standardize_dtype(x.dtype) != "float16" else -3e4
    return ops.where(mask[..., None], x, ops.cast(low, x.dtype))


def pooling(kind: str, *, bidirectional: bool = False) -> keras.layers.Layer:
    """The layer ``pooled``: ``(x, mask)`` -> one vector an example."""
    if kind == "last":
        return LastStep(bidirectional, name="pooled")
    pools = {"mean": MaskedMean, "max": MaskedMax, "attention": AttentionPooling}
    return pools[kind](name="pooled")
