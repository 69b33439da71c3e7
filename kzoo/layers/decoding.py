"""Decoding step by step: what a decoder keeps of the steps before.

A cache is a flat dict of tensors whose first axis is the batch. What a decoder wrote
at step ``i`` stands at place ``i`` of the second axis, and nothing ever looks past the
step that is asked for: prompts of unequal length are padded at their end, and the
padding is overwritten before it is seen.
"""

from typing import Any

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
