"""From the features of one network to the width and the places of another's."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class Projection(keras.layers.Layer):
    """A linear map of the features at each place: a convolution of size 1.

    ``projection(x, like)`` gives (batch, places of ``like``, width).

    Args:
        width: features that come out.
        learned_variance: keep a variance for each of them too, ``.variance``, which
            starts at 5 (Ahn et al. 2019).
    """

    def __init__(
        self, width: int, learned_variance: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.learned_variance = learned_variance

    def build(self, input_shape: Any, like_shape: Any = None) -> None:
        shape = (input_shape[-1], self.width)
        self.kernel = self.add_weight(shape=shape, name="kernel")
        self.bias = self.add_weight(
            shape=(self.width,), initializer="zeros", name="bias"
        )
        if self.learned_variance:
            # softplus of it is the variance: log(e^5 - 1).
            self.raw_variance = self.add_weight(
                shape=(self.width,),
                initializer=keras.initializers.Constant(4.99323925),
                name="raw_variance",
            )

    @property
    def variance(self) -> Any:
        """(width,), above 0."""
        return ops.softplus(self.raw_variance) + 1e-5

    def call(self, x: Any, like: Any) -> Any:
        return resized(ops.matmul(x, self.kernel) + self.bias, like)

    def compute_output_shape(self, input_shape: Any, like_shape: Any) -> Any:
        return (*like_shape[:-1], self.width)

    def get_config(self) -> dict[str, Any]:
        config = {"width": self.width, "learned_variance": self.learned_variance}
        return {**super().get_config(), **config}


def resized(x: Any, like: Any) -> Any:
    """``x`` at the places of ``like``, interpolated between its own.

    Both are (batch, height, width, features), (batch, time, features) or (batch,
    features).
    """
    if places(x) == places(like) or len(x.shape) == 2:
        return x
    if len(x.shape) == 3:  # a sequence is an image one pixel high
        size = (1, ops.shape(like)[1])
        return ops.image.resize(x[:, None], size, data_format="channels_last")[:, 0]
    size = tuple(ops.shape(like)[1:3])
    return ops.image.resize(x, size, data_format="channels_last")


def at_the_fewer(x: Any, y: Any) -> tuple[Any, Any]:
    """Both at the places of the one that has fewer."""
    if places(x) == places(y):
        return x, y
    if None in places(x) or None in places(y) or places(x) > places(y):
        return resized(x, y), y
    return x, resized(y, x)


def places(x: Any) -> tuple[int | None, ...]:
    """The shape between batch and features."""
    return tuple(x.shape[1:-1])
