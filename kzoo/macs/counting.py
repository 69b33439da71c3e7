"""The walk through a model's graph, each layer at the shapes that it is called with."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from kzoo.macs import forms
from kzoo.macs.forms import FORMS, OPERATIONS, Call


class NotCountedError(ValueError):
    """A layer's multiply-accumulates are not known.

    Attributes:
        layer: its name, after those of the models that it is nested in, and its class.
    """

    def __init__(self, layer: Any, inside: str = "") -> None:
        self.layer = inside or f"{layer.name} ({type(layer).__name__})"
        super().__init__(f"the multiply-accumulates of {self.layer} are not known")


def graph_macs(model: keras.Model, inputs: Sequence[Any]) -> int:
    """Multiply-accumulates of a graph, each call of a shared layer counted.

    Args:
        model: functional or sequential.
        inputs: a ``KerasTensor`` for each of ``model.inputs``.

    Raises:
        NotCountedError: names the first layer that has no closed form.
    """
    total = 0

    def counting(operation: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal total
            output = _output(operation, args, kwargs)
            total += operation_macs(operation, args, kwargs, output)
            return output

        return call

    # A model with methods of its own is walked as the graph that it was made of.
    plain = keras.Model(model.inputs, model.outputs)
    plain._run_through_graph(list(inputs), operation_fn=counting)  # no public name
    return total


def operation_macs(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any
) -> int:
    """Multiply-accumulates of one call of a layer, a model or an operation."""
    if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
        try:
            return graph_macs(operation, keras.tree.flatten(args[0]))
        except NotCountedError as error:
            inside = f"{operation.name}/{error.layer}"
            raise NotCountedError(operation, inside) from None
    form = _form_of(operation)
    if form is None:
        if _is_free(operation):
            return 0
        raise NotCountedError(operation)
    call = Call(operation, tuple(args), dict(kwargs), output, _inner)
    try:
        return form(call)
    except forms.UnknownError:
        raise NotCountedError(operation) from None


def _inner(layer: Any, *args: Any) -> int:
    """Of a layer that another one wraps."""
    return operation_macs(layer, args, {}, _output(layer, args, {}))


def _output(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a call gives, as bare shapes; the operation remembers no call."""
    result = operation(*args, **kwargs)
    operation._inbound_nodes.pop()
    return keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), result
    )


def _form_of(operation: Any) -> Callable[[Call], int] | None:
    """The closed form of the class, or of the nearest base class that has one.

    A subclass counts as its base class unless it has a ``call`` of its own and more
    matrices than its base class: what it does with those is not known.
    """
    if not isinstance(operation, keras.layers.Layer):
        return OPERATIONS.get(type(operation).__name__)
    for i, base in enumerate(type(operation).__mro__):
        if base in FORMS:
            between = type(operation).__mro__[:i]
            own = any("call" in vars(one) for one in between)
            return None if own and _adds_matrices(operation) else FORMS[base]
    return None


def _adds_matrices(layer: Any) -> bool:
    inner = [
        w for one in layer._flatten_layers(include_self=False) for w in one.weights
    ]
    names = {w.name for w in layer.weights if len(w.shape) > 1}
    return bool(names - forms.KERNELS) or any(len(w.shape) > 1 for w in inner)


def _is_free(operation: Any) -> bool:
    """Whether nothing that counts can be inside: a layer without a matrix."""
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ not in forms.PRODUCTS
    return not any(len(w.shape) > 1 and math.prod(w.shape) for w in operation.weights)
