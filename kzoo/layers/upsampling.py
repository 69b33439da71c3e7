"""From a vector back to an image, or to anything else of one shape."""

import math
from typing import Any

import keras


def decoded(x: Any, shape: tuple[int, ...], units: int, last: str) -> Any:
    """(batch, features) -> (batch, *shape): images by two doublings, others densely.

    Args:
        x: features.
        shape: of one example; an image where it has three axes.
        units: channels, or units, of the hidden layers.
        last: name of the layer that the outcome leaves, in float32.
    """
    if len(shape) != 3:
        x = dense(units, "decoder_dense")(x)
        x = keras.layers.Dense(math.prod(shape), dtype="float32", name="decoder_out")(x)
        return keras.layers.Reshape(shape, dtype="float32", name=last)(x)
    height, width, channels = shape
    small = -(-height // 4), -(-width // 4)
    x = dense(math.prod(small) * units, "decoder_dense")(x)
    x = keras.layers.Reshape((*small, units), name="decoder_reshape")(x)
    for i in range(2):
        x = keras.layers.Conv2DTranspose(
            units,
            4,
            strides=2,
            padding="same",
            activation="relu",
            name=f"decoder_{i}",
        )(x)
    x = keras.layers.Conv2D(
        channels, 3, padding="same", dtype="float32", name="decoder_out"
    )(x)
    cut = (0, 4 * small[0] - height), (0, 4 * small[1] - width)
    return keras.layers.Cropping2D(cut, dtype="float32", name=last)(x)


def dense(units: int, name: str) -> keras.layers.Layer:
    """A hidden layer."""
    return keras.layers.Dense(units, activation="relu", name=name)
