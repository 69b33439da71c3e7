"""Decoding step by step: what a decoder keeps of the steps before.

A cache is a flat dict of tensors whose first axis is the batch. What a decoder wrote
at step ``i`` stands at place ``i`` of the second axis, and nothing ever looks past the
step that is asked for: prompts of unequal length are padded at their end, and the
padding is overwritten before it is seen.
"""

from typing import Any

import keras
from keras import ops

from kzoo.layers.attention import fused_attention, split_heads


def positions_from(index: Any, tokens: Any) -> Any:
    """Where new tokens stand: (batch, steps), from ``index``, one or one a row, on."""
    batch, steps = ops.shape(tokens)[:2]
    first = ops.broadcast_to(ops.cast(index, "int32"), (batch,))
    return first[:, None] + ops.arange(steps, dtype="int32")


def written(memory: Any, x: Any, positions: Any) -> Any:
    """The memory with new steps in their places.

    Args:
        memory: (batch, length, features).
        x: (batch, steps, features).
        positions: (batch, steps), each row one after the other.

    Returns:
        (batch, length, features), of the memory's type.
    """
    x = ops.cast(x, memory.dtype)
    steps = x.shape[1]
    step = ops.arange(memory.shape[1], dtype="int32") - positions[:, :1]
    new = ops.logical_and(step >= 0, step < steps)[..., None]  # (batch, length, 1)
    if steps > 1:
        step = ops.clip(step, 0, steps - 1)[..., None]
        x = ops.take_along_axis(x, ops.broadcast_to(step, ops.shape(memory)), axis=1)
    return ops.where(new, x, memory)


def read(memory: Any, positions: Any) -> Any:
    """What stands at one place of each row.

    Args:
        memory: (batch, length, features).
        positions: (batch,).

    Returns:
        (batch, features).
    """
    places = ops.broadcast_to(
        positions[:, None, None], (memory.shape[0], 1, memory.shape[2])
    )
    return ops.squeeze(ops.take_along_axis(memory, places, axis=1), axis=1)


def attention_to(
    query: Any,
    key: Any,
    value: Any,
    num_heads: int,
    *,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
) -> Any:
    """Multi-head attention of new steps to what is kept.

    Args:
        query: (batch, steps, hidden_dim).
        key: (batch, length, hidden_dim).
        value: of the same shape.
        num_heads: they divide hidden_dim.
        mask: (batch, steps, length), true where a query may look.
        bias: (batch or 1, num_heads, steps, length), added to the scores.
        scale: what q k is multiplied by; None = 1 / sqrt(head_dim).

    Returns:
        (batch, steps, hidden_dim).
    """
    q, k, v = (split_heads(x, num_heads) for x in (query, key, value))
    mask = None if mask is None else mask[:, None]
    x = fused_attention(q, k, v, mask, bias, scale)
    return ops.reshape(x, ops.shape(query))


def attention_over(
    cache: dict[str, Any],
    name: str,
    projections: list[Any],
    positions: Any,
    num_heads: int,
    **options: Any,
) -> tuple[Any, dict[str, Any]]:
    """Causal self-attention of new steps, which it adds to the cache.

    Args:
        cache: has ``{name}_key`` and ``{name}_value``, (batch, length, hidden_dim).
        name: of the block.
        projections: query, key and value of the new steps (batch, steps, hidden_dim).
        positions: (batch, steps), where these stand.
        num_heads: they divide hidden_dim.
        **options: ``bias`` and ``scale`` of :func:`attention_to`.

    Returns:
        (batch, steps, hidden_dim), and the two entries of the cache anew.
    """
    query, key, value = projections
    entries = {
        f"{name}_key": written(cache[f"{name}_key"], key, positions),
        f"{name}_value": written(cache[f"{name}_value"], value, positions),
    }
    keys, values = entries.values()
    mask = up_to(positions, keys.shape[1])
    return attention_to(query, keys, values, num_heads, mask=mask, **options), entries


def empty(names: list[str], batch: int, length: int, dim: int, dtype: str) -> Any:
    """A cache with room for ``length`` steps of ``dim`` features in each entry."""
    return {name: ops.zeros((batch, length, dim), dtype) for name in names}


def up_to(positions: Any, length: int) -> Any:
    """A causal mask over a cache: (batch, steps, length), true up to each position."""
    return ops.arange(length, dtype="int32") <= positions[..., None]


def some_keys(mask: Any) -> Any:
    """A mask of keys (batch, steps) for queries: (batch, 1, steps).

    A row of padding alone is looked at everywhere: its answer is finite.
    """
    empty = ops.logical_not(ops.any(mask, axis=1, keepdims=True))
    return ops.logical_or(mask, empty)[:, None]


class EncoderDecoder(keras.Model):
    """A functional model that reads a source and can write step by step.

    The decoder's blocks are ``stage_1_block_{i}``; each has ``{block}_query``, ``_key``
    and ``_value``, and ``{block}_memory_key`` and ``_memory_value`` on ``memory``.
    """

    @property
    def _blocks(self) -> list[str]:
        """The decoder's."""
        found = [layer.name for layer in self.layers]
        end = "_memory_query"
        return [name.removesuffix(end) for name in found if name.endswith(end)]

    def initial_cache(self, batch: int, length: int) -> dict[str, Any]:
        """Room for ``length`` steps of ``batch`` texts, which :meth:`encode` adds to.

        Returns:
            ``{"stage_1_block_0_key": (batch, length, num_heads * head_dim), ...}``.
        """
        query = self.get_layer("stage_1_block_0_query")
        names = [f"{b}_{part}" for b in self._blocks for part in ("key", "value")]
        return empty(names, batch, length, query.units, query.compute_dtype)

    def encode(self, tokens: Any) -> dict[str, Any]:
        """What the decoder looks at of a source (batch, time): keys, values, mask."""
        layer = self.get_layer
        outputs = {name: layer(name).output for name in ("memory", "mask")}
        read = keras.Model(layer("tokens").output, outputs)(tokens, training=False)
        entries = {"memory_mask": read["mask"]}
        for block in self._blocks:
            for part in ("memory_key", "memory_value"):
                entries[f"{block}_{part}"] = layer(f"{block}_{part}")(read["memory"])
        return entries
