"""A function of a model's weights as one compiled call, on any backend."""

from collections.abc import Callable
from typing import Any

import keras


def compiled(
    model: keras.Model, function: Callable[..., Any], donated: tuple[int, ...] = ()
) -> Callable[..., Any]:
    """The function, traced once for each set of shapes that it is called with.

    Weights are read at each call, so that training between two calls is seen. PyTorch
    runs the function as it is, without gradients.

    Args:
        model: whose weights and layers the function uses.
        function: of tensors, and of lists and dicts of tensors, to the same.
        donated: places of the arguments that nobody needs afterwards: JAX may write
            the results over them.
    """
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if keras.config.backend() == "jax":
        import jax

        variables = model.variables

        def stateless(values: list[Any], *arguments: Any) -> Any:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return function(*arguments)

        places = tuple(place + 1 for place in donated)
        traced = jax.jit(stateless, donate_argnums=places)

        def call(*arguments: Any) -> Any:
            return traced([variable.value for variable in variables], *arguments)

        return call
    import torch

    def plain(*arguments: Any) -> Any:
        with torch.no_grad():
            return function(*keras.tree.map_structure(_tensor, arguments))

    return plain


def _tensor(value: Any) -> Any:
    return keras.ops.convert_to_tensor(value)
