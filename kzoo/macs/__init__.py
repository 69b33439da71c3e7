"""Multiply-accumulates of a model, a closed form per layer.

What papers count: the products of dense, convolutional, recurrent and attention
layers, one example, forward. Biases, normalisation, activations, pooling and look-ups
count nothing. Half of what is often called FLOPs.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state

from kzoo.hparams import Identity
from kzoo.macs.counting import NotCountedError, graph_macs

# Where a model leaves its input open, it is counted at this size.
OPEN_PIXELS = 32
OPEN_STEPS = 128


def macs(model: keras.Model) -> int | None:
    """Multiply-accumulates for one example; None where a layer's are not known.

    Sizes that a model leaves open are 32 pixels and 128 steps. A layer of Keras's, or a
    subclass of one with no further matrices, has a closed form; a layer of one's own
    that holds a matrix has none.

    Args:
        model: any model with a graph of layers, nested models included.

    Example:
        >>> import kzoo
        >>> kzoo.macs(kzoo.build_model("mlp_xor"))       # 2 x 4 + 4 x 1
        12
    """
    try:
        return counted(model)
    except NotCountedError:
        return None


def counted(model: keras.Model) -> int:
    """As :func:`macs`.

    Raises:
        NotCountedError: names the first layer whose products are not known.
    """
    if not getattr(model, "inputs", None):
        raise NotCountedError(model)
    shapes = input_shapes(model)
    if not isinstance(shapes, dict):
        shapes = {model.inputs[0].name: shapes}
    inputs = [
        keras.KerasTensor((None, *shapes[tensor.name]), dtype=tensor.dtype)
        for tensor in model.inputs
    ]
    with shapes_only():
        return graph_macs(model, inputs)


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
    known = getattr(model, "kzoo", None)
    sizes = known.hparams if isinstance(known, Identity) else {}
    image_size = sizes.get("image_size") or OPEN_PIXELS
    height, width = image_size if isinstance(image_size, list) else [image_size] * 2
    steps = sizes.get("sequence_length") or OPEN_STEPS

    def fixed(shape: tuple[int | None, ...]) -> list[int]:
        images = iter([height, width])
        return [
            size
            if size is not None
            else next(images, steps)
            if len(shape) == 4
            else steps
            for size in shape[1:]
        ]

    shapes = {tensor.name: fixed(tensor.shape) for tensor in model.inputs}
    return shapes if len(shapes) > 1 else next(iter(shapes.values()))
