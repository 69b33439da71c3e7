"""Multiply-accumulates of a model, a closed form per layer.

What papers count: the products of dense, convolutional, recurrent and attention
layers, one example, forward. Biases, normalisation, activations, pooling and look-ups
count nothing. Half of what is often called FLOPs.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

from kzoo.hparams import identity
from kzoo.layers.attention import Attention
from kzoo.layers.patches import GridPositions
from kzoo.layers.positions import CountedPositions, LearnedPositions, RelativePositions
from kzoo.layers.recurrent import AttentionLSTM
from kzoo.layers.sequence import AttentionPooling
from kzoo.layers.windows import WindowAttention

# Where a model leaves its input open, it is counted at this size.
OPEN_PIXELS = 32
OPEN_STEPS = 128


def macs(model: keras.Model) -> int:
    """Multiply-accumulates for one example.

    Sizes that the model's hyper-parameters leave open are 32 pixels and 128 steps.

    Raises:
        ValueError: a model that kzoo did not build, or one with a layer that holds a
            kernel and that no closed form is known for.

    Example:
        >>> import kzoo
        >>> kzoo.macs(kzoo.build_model("mlp_xor"))       # 2 x 4 + 4 x 1
        12
    """
    shapes = input_shapes(model)
    with shapes_only():
        fixed = _at(model, shapes)
    return sum(_layer_macs(layer) for layer in fixed.layers)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """What is built inside has shapes and no memory: weights of any number cost none.

    Keras 3.15 notes such weights on a list of its own, and allocates all of them when
    it next traces a layer, long after their model is gone: they are taken off again.
    """
    noted = "uninitialized_variables"
    before = list(global_state.get_global_attribute(noted) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        global_state.set_global_attribute(noted, before)


def input_shapes(model: keras.Model) -> Any:
    """The shape at which the model is counted, without the batch.

    A dict of shapes where the model has several inputs.
    """
    sizes = identity(model).hparams
    image_size = sizes.get("image_size") or OPEN_PIXELS
    height, width = image_size if isinstance(image_size, list) else [image_size] * 2
    steps = sizes.get("sequence_length") or OPEN_STEPS

    def fixed(shape: tuple[int | None, ...]) -> list[int]:
        open_sizes = iter([height, width] if len(shape) == 4 else [steps])
        return [next(open_sizes) if size is None else size for size in shape[1:]]

    shapes = {tensor.name: fixed(tensor.shape) for tensor in model.inputs}
    return shapes if len(shapes) > 1 else next(iter(shapes.values()))


def _at(model: keras.Model, shapes: Any) -> keras.Model:
    """The same graph with every shape known."""
    if not isinstance(shapes, dict):
        shapes = {model.inputs[0].name: shapes}
    inputs = [
        keras.Input(shapes[tensor.name], dtype=tensor.dtype, name=tensor.name)
        for tensor in model.inputs
    ]
    plain = keras.Model(model.inputs, model.outputs)
    return keras.models.clone_model(plain, input_tensors=inputs)


def _layer_macs(layer: keras.layers.Layer) -> int:
    """Summed over the layer's calls: a shared layer counts each time."""
    count = _RULES.get(type(layer))
    if count is None:
        kernels = [w.path for w in layer.weights if len(w.shape) > 1]
        if kernels:
            raise ValueError(
                f"no closed form for the multiply-accumulates of {layer.name} "
                f"({type(layer).__name__}), which holds {kernels[0]}"
            )
        return 0
    return sum(
        count(layer, node.input_tensors, node.output_tensors[0].shape)
        for node in layer._inbound_nodes  # no public name for the calls of a layer
    )


def _of_dense(layer: Any, inputs: Any, output: Any) -> int:
    return math.prod(output[1:]) * inputs[0].shape[-1]


def _of_convolution(layer: Any, inputs: Any, output: Any) -> int:
    # Each output pixel and filter sees kernel x input channels of its group.
    places = math.prod(output[1:-1])
    return places * math.prod(layer.kernel.shape)


def _of_transposed_convolution(layer: Any, inputs: Any, output: Any) -> int:
    # Each pixel that comes in goes to a kernel's size of places.
    return math.prod(inputs[0].shape[1:-1]) * math.prod(layer.kernel.shape)


def _of_recurrent(layer: Any, inputs: Any, output: Any) -> int:
    cell = layer.cell
    kernels = (cell.kernel, cell.recurrent_kernel)  # gates are columns of both
    return inputs[0].shape[1] * sum(math.prod(k.shape) for k in kernels)


def _of_bidirectional(layer: Any, inputs: Any, output: Any) -> int:
    ways = (layer.forward_layer, layer.backward_layer)
    return sum(_of_recurrent(way, inputs, output) for way in ways)


def _of_attention(layer: Any, inputs: Any, output: Any) -> int:
    _, time, hidden_dim = inputs[0].shape
    steps = inputs[1].shape[1]
    return 2 * time * steps * hidden_dim  # q k, then weights v


def _of_window_attention(layer: Any, inputs: Any, output: Any) -> int:
    _, height, width, hidden_dim = inputs[0].shape
    # Each pixel looks at those of its window.
    return 2 * height * width * layer.window_size**2 * hidden_dim


def _of_attention_pooling(layer: Any, inputs: Any, output: Any) -> int:
    _, time, features = inputs[0].shape
    return time * (features * features + features + features)


def _of_attention_lstm(layer: Any, inputs: Any, output: Any) -> int:
    _, steps, _ = inputs[0].shape
    _, places, width = inputs[1].shape
    units = layer.units
    step = sum(math.prod(k.shape) for k in (layer.cell.kernel, layer.answer.kernel))
    step += units * 4 * units + places * (units + width)  # scores, the weighted sum
    if layer.attention == "bahdanau":
        step += units * units
    return places * width * units + steps * step


def _of_tied_embedding(layer: Any, inputs: Any, output: Any) -> int:
    looks_up = len(output) > len(inputs[0].shape)
    return 0 if looks_up else _of_dense(layer, inputs, output)


def _of_nothing(layer: Any, inputs: Any, output: Any) -> int:
    return 0


_RULES: dict[type, Callable[[Any, Any, Any], int]] = {
    keras.layers.Dense: _of_dense,
    keras.layers.Conv1D: _of_convolution,
    keras.layers.Conv2D: _of_convolution,
    keras.layers.Conv2DTranspose: _of_transposed_convolution,
    keras.layers.DepthwiseConv2D: _of_convolution,
    keras.layers.SimpleRNN: _of_recurrent,
    keras.layers.LSTM: _of_recurrent,
    keras.layers.GRU: _of_recurrent,
    keras.layers.Bidirectional: _of_bidirectional,
    keras.layers.Embedding: _of_nothing,
    keras.layers.ReversibleEmbedding: _of_tied_embedding,
    LearnedPositions: _of_nothing,
    CountedPositions: _of_nothing,
    RelativePositions: _of_nothing,
    GridPositions: _of_nothing,
    Attention: _of_attention,
    AttentionLSTM: _of_attention_lstm,
    WindowAttention: _of_window_attention,
    AttentionPooling: _of_attention_pooling,
}
