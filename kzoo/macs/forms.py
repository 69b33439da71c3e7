"""Closed forms: the multiply-accumulates of one call of a layer, for one example."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from kzoo.layers.attention import Attention
from kzoo.layers.patches import GridPositions
from kzoo.layers.positions import CountedPositions, LearnedPositions, RelativePositions
from kzoo.layers.recurrent import AttentionLSTM
from kzoo.layers.sequence import AttentionPooling
from kzoo.layers.windows import WindowAttention

# Names of the matrices that the forms below count; a subclass may have no others.
KERNELS = frozenset(
    {"kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel"}
)
# Operations of keras.ops that multiply matrices and have no form in OPERATIONS.
PRODUCTS = frozenset(
    {
        "Conv", "ConvTranspose", "Correlate", "DepthwiseConv", "Inner", "Kron", "Outer",
        "SeparableConv", "Solve", "SolveTriangular", "Vdot",
    }
)  # fmt: skip


class UnknownError(Exception):
    """The form does not hold for this call."""


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        layer: a layer, or an operation of ``keras.ops``.
        args, kwargs: what it was called with.
        output: what it gave.
        inner: counts another layer, called with the arguments that follow it.
    """

    layer: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    inner: Callable[..., int]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of all tensors that came in, in order."""
        tensors = keras.tree.flatten((self.args, self.kwargs))
        return [t.shape for t in tensors if isinstance(t, keras.KerasTensor)]

    @property
    def out(self) -> tuple[int, ...]:
        """The shape of the first output."""
        shape: tuple[int, ...] = keras.tree.flatten(self.output)[0].shape
        return shape

    @property
    def arguments(self) -> dict[str, Any]:
        """By the names of the layer's ``call``."""
        bound = inspect.signature(self.layer.call).bind(*self.args, **self.kwargs)
        return dict(bound.arguments)


def size(dims: Iterable[int | None]) -> int:
    """The product of the dimensions.

    Raises:
        UnknownError: one of them is open.
    """
    dims = list(dims)
    if None in dims:
        raise UnknownError
    return math.prod(dims)  # type: ignore[arg-type]


def positions(layer: Any, shape: Sequence[int]) -> int:
    """How many steps or pixels a shape has, wherever its channels stand."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return size(shape[2:] if first else shape[1:-1])


def _of_nothing(call: Call) -> int:
    return 0


def _of_dense(call: Call) -> int:
    return size(call.out[1:]) * call.shapes[0][-1]


def _of_einsum_dense(call: Call) -> int:
    shapes = [call.shapes[0], tuple(call.layer.kernel.shape)]
    return contraction(call.layer.equation, shapes)


def _of_convolution(call: Call) -> int:
    # Each output pixel and filter sees kernel x input channels of its group.
    return positions(call.layer, call.out) * size(call.layer.kernel.shape)


def _of_transposed_convolution(call: Call) -> int:
    # Each pixel that comes in goes to a kernel's size of places.
    return positions(call.layer, call.shapes[0]) * size(call.layer.kernel.shape)


def _of_separable_convolution(call: Call) -> int:
    layer = call.layer
    kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
    return positions(layer, call.out) * sum(size(k.shape) for k in kernels)


def _of_recurrent(call: Call) -> int:
    cell = call.layer.cell
    cells = cell.cells if isinstance(cell, keras.layers.StackedRNNCells) else [cell]
    if not all(isinstance(one, GATED) for one in cells):
        raise UnknownError
    # The gates are columns of both kernels.
    kernels = [k for one in cells for k in (one.kernel, one.recurrent_kernel)]
    return call.shapes[0][1] * sum(size(k.shape) for k in kernels)


def _of_convolutional_lstm(call: Call) -> int:
    cell, rank = call.layer.cell, call.layer.cell.rank
    first = cell.data_format == "channels_first"
    pixels = call.out[-rank:] if first else call.out[-rank - 1 : -1]
    kernels = size(cell.kernel.shape) + size(cell.recurrent_kernel.shape)
    return call.shapes[0][1] * size(pixels) * kernels


def _of_bidirectional(call: Call) -> int:
    ways = (call.layer.forward_layer, call.layer.backward_layer)
    return sum(call.inner(way, call.args[0]) for way in ways)


def _of_time_distributed(call: Call) -> int:
    _, steps, *rest = call.shapes[0]
    step = keras.KerasTensor((None, *rest), dtype=call.args[0].dtype)
    return size([steps]) * call.inner(call.layer.layer, step)


def _of_wrapped(call: Call) -> int:
    return call.inner(call.layer.layer, *call.args)


def _of_multi_head_attention(call: Call) -> int:
    layer, given = call.layer, call.arguments
    query, value = given["query"].shape, given["value"].shape
    key = value if given.get("key") is None else given["key"].shape
    heads, axes = layer.num_heads, layer.attention_axes
    width = layer.key_dim + layer.value_dim
    projections = heads * (
        size(query[1:]) * layer.key_dim
        + size(key[1:]) * layer.key_dim
        + size(value[1:]) * layer.value_dim
        + size(query[1:-1]) * layer.value_dim * call.out[-1]
    )
    # Each position along the attention's axes looks at each of the key's.
    return projections + heads * size(query[1:-1]) * size(key[a] for a in axes) * width


def _of_grouped_query_attention(call: Call) -> int:
    layer, given = call.layer, call.arguments
    query, value = given["query"].shape, given["value"].shape
    key = value if given.get("key") is None else given["key"].shape
    asking = layer.num_query_heads * layer.head_dim
    answering = layer.num_key_value_heads * layer.head_dim
    sides = 3 if getattr(layer, "use_gate", False) else 2  # query, output, the gate
    return (
        sides * size(query[1:]) * asking
        + (size(key[1:]) + size(value[1:])) * answering
        + 2 * query[1] * key[1] * asking
    )


def _of_dot_attention(call: Call) -> int:
    return _of_scores(call.args[0])  # q k, then weights v


def _of_scores(tensors: Sequence[Any]) -> int:
    query, value, *key = (tensor.shape for tensor in tensors)
    width = (key[0] if key else value)[-1] + value[-1]
    return size([query[1], value[1], width])


def _of_dot(call: Call) -> int:
    axes = call.layer.axes
    left = axes if isinstance(axes, int) else axes[0]
    return size(call.out[1:]) * call.shapes[0][left]


def _of_attention(call: Call) -> int:
    _, time, hidden_dim = call.shapes[0]
    return 2 * time * call.shapes[1][1] * hidden_dim  # q k, then weights v


def _of_window_attention(call: Call) -> int:
    # Each pixel looks at those of its window.
    return 2 * size(call.shapes[0][1:]) * call.layer.window_size**2


def _of_attention_pooling(call: Call) -> int:
    _, time, features = call.shapes[0]
    return time * (features * features + features + features)


def _of_attention_lstm(call: Call) -> int:
    layer = call.layer
    _, steps, _ = call.shapes[0]
    _, read, width = call.shapes[1]
    units = layer.units
    step = sum(size(k.shape) for k in (layer.cell.kernel, layer.answer.kernel))
    step += units * 4 * units + read * (units + width)  # scores, the weighted sum
    if layer.attention == "bahdanau":
        step += units * units
    return read * width * units + steps * step


def _of_tied_embedding(call: Call) -> int:
    looks_up = len(call.out) > len(call.shapes[0])
    return 0 if looks_up else _of_dense(call)


def _of_matmul(call: Call) -> int:
    return size(call.out[1:]) * call.shapes[0][-1]


def _of_einsum(call: Call) -> int:
    return contraction(call.layer.subscripts, call.shapes)


def _of_tensordot(call: Call) -> int:
    left, axes = call.shapes[0], call.layer.axes
    if isinstance(axes, int):
        summed = left[len(left) - axes :]
    else:
        chosen = axes[0] if isinstance(axes[0], list | tuple) else axes[:1]
        summed = tuple(left[axis] for axis in chosen)
    return size(call.out[1:]) * size(summed)


def _of_attention_operation(call: Call) -> int:
    query, key, value = call.shapes[:3]  # (batch, time, heads, width)
    return size([query[1], query[2], key[1], query[3] + value[3]])


def contraction(equation: str, shapes: Sequence[Sequence[int | None]]) -> int:
    """Multiply-accumulates of an einsum of two tensors; the batch counts as one.

    >>> contraction("abc,cd->abd", [(None, 10, 4), (4, 7)])
    280
    >>> contraction("...x,xy->...y", [(None, 10, 4), (4, 7)])
    280
    """
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2:
        raise UnknownError
    sizes: dict[str, int | None] = {}
    for term, shape in zip(terms, shapes, strict=False):
        before, dots, after = term.partition("...")
        sizes |= zip(before, shape, strict=False)
        if dots:
            end = len(shape) - len(after)
            sizes |= zip(after, shape[end:], strict=True)
            rest = shape[len(before) : end]
            # Named from the right, as they are broadcast.
            sizes |= {f"...{i}": dim for i, dim in enumerate(reversed(rest))}
    return size(1 if dim is None else dim for dim in sizes.values())


GATED = (keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell)

FORMS: dict[type, Callable[[Call], int]] = {
    keras.layers.Dense: _of_dense,
    keras.layers.EinsumDense: _of_einsum_dense,
    keras.layers.Conv1D: _of_convolution,
    keras.layers.Conv2D: _of_convolution,
    keras.layers.Conv3D: _of_convolution,
    keras.layers.Conv1DTranspose: _of_transposed_convolution,
    keras.layers.Conv2DTranspose: _of_transposed_convolution,
    keras.layers.Conv3DTranspose: _of_transposed_convolution,
    keras.layers.DepthwiseConv1D: _of_convolution,
    keras.layers.DepthwiseConv2D: _of_convolution,
    keras.layers.SeparableConv1D: _of_separable_convolution,
    keras.layers.SeparableConv2D: _of_separable_convolution,
    keras.layers.SimpleRNN: _of_recurrent,
    keras.layers.LSTM: _of_recurrent,
    keras.layers.GRU: _of_recurrent,
    keras.layers.RNN: _of_recurrent,
    keras.layers.ConvLSTM1D: _of_convolutional_lstm,
    keras.layers.ConvLSTM2D: _of_convolutional_lstm,
    keras.layers.ConvLSTM3D: _of_convolutional_lstm,
    keras.layers.Bidirectional: _of_bidirectional,
    keras.layers.TimeDistributed: _of_time_distributed,
    keras.layers.SpectralNormalization: _of_wrapped,
    keras.layers.MultiHeadAttention: _of_multi_head_attention,
    keras.layers.GroupQueryAttention: _of_grouped_query_attention,
    keras.layers.Attention: _of_dot_attention,
    keras.layers.AdditiveAttention: _of_dot_attention,
    keras.layers.Dot: _of_dot,
    keras.layers.Embedding: _of_nothing,
    keras.layers.ReversibleEmbedding: _of_tied_embedding,
    keras.layers.LayerNormalization: _of_nothing,
    keras.layers.RMSNormalization: _of_nothing,
    keras.layers.Normalization: _of_nothing,
    keras.layers.PReLU: _of_nothing,
    LearnedPositions: _of_nothing,
    CountedPositions: _of_nothing,
    RelativePositions: _of_nothing,
    GridPositions: _of_nothing,
    Attention: _of_attention,
    AttentionLSTM: _of_attention_lstm,
    WindowAttention: _of_window_attention,
    AttentionPooling: _of_attention_pooling,
}
# Operations of keras.ops that a graph may hold, by their class's name.
OPERATIONS: dict[str, Callable[[Call], int]] = {
    "Matmul": _of_matmul,
    "Dot": _of_matmul,
    "Einsum": _of_einsum,
    "Tensordot": _of_tensordot,
    "DotProductAttention": _of_attention_operation,
}
