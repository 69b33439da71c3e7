"""The encoder block of Vaswani et al. 2017: attention, then an MLP, each a branch."""

from typing import Any, Protocol

import keras

from kzoo.layers.attention import self_attention
from kzoo.layers.convolution import drop_path
from kzoo.layers.scale import layer_scale


class BlockSizes(Protocol):
    """What a block reads of a family's hyper-parameters."""

    @property
    def num_heads(self) -> int: ...
    @property
    def mlp_dim(self) -> int: ...
    @property
    def activation(self) -> str: ...
    @property
    def dropout_rate(self) -> float: ...
    @property
    def attention_dropout_rate(self) -> float: ...


def encoder_block(
    x: Any,
    mask: Any,
    sizes: BlockSizes,
    name: str,
    *,
    norm: str,
    epsilon: float = 1e-3,
    scale: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Any:
    """One block on (batch, time, hidden_dim), the same shape out.

    The layer ``name`` is the last one, so that the tap is what leaves the block. The
    others are ``{name}_query``, ``_key``, ``_value``, ``_attention``, ``_output``,
    ``_attention_norm``, ``_mlp_in``, ``_mlp_out`` and, with the norm before each
    branch, ``_mlp_norm``.

    Args:
        x: what comes in.
        mask: (batch, time), true at real positions, or None.
        sizes: the family's hyper-parameters.
        name: of the block, ``block_{i}``.
        norm: ``pre`` = x + f(norm(x)), ``post`` = norm(x + f(x)).
        epsilon: of the layer normalisations.
        scale: what each branch's channels are scaled by at the start; 0 = no scale.
        drop_path_rate: of examples that go by without a branch, in training.
    """
    hidden_dim = x.shape[-1]
    pre = norm == "pre"

    def normalize(x: Any, name: str) -> Any:
        return keras.layers.LayerNormalization(epsilon=epsilon, name=name)(x)

    def drop(x: Any, branch: str) -> Any:
        branch = f"{name}_{branch}"
        x = keras.layers.Dropout(sizes.dropout_rate, name=f"{branch}_dropout")(x)
        x = layer_scale(x, scale, f"{branch}_scale")
        return drop_path(x, drop_path_rate, f"{branch}_drop_path")

    y = normalize(x, f"{name}_attention_norm") if pre else x
    y = self_attention(y, mask, sizes.num_heads, sizes.attention_dropout_rate, name)
    x = keras.layers.Add(name=f"{name}_attention_add")([x, drop(y, "attention")])
    x = x if pre else normalize(x, f"{name}_attention_norm")

    y = normalize(x, f"{name}_mlp_norm") if pre else x
    y = keras.layers.Dense(
        sizes.mlp_dim, activation=sizes.activation, name=f"{name}_mlp_in"
    )(y)
    y = keras.layers.Dense(hidden_dim, name=f"{name}_mlp_out")(y)
    last = name if pre else f"{name}_mlp_add"
    x = keras.layers.Add(name=last)([x, drop(y, "mlp")])
    return x if pre else normalize(x, name)
