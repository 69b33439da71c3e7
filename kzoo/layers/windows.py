"""Attention inside windows of an image, which shift from block to block.

Liu et al., "Swin transformer", 2021 (2103.14030). Images come padded to a multiple of
the window, so that every window is whole.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.layers.attention import split_heads
from kzoo.layers.convolution import small_normal


def split_windows(x: Any, window_size: int) -> Any:
    """(batch, h, w, dim) -> (batch x windows, window_size^2, dim), by rows."""
    height, width, dim = x.shape[1:]
    rows, columns = height // window_size, width // window_size
    x = ops.reshape(x, (-1, rows, window_size, columns, window_size, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, window_size**2, dim))


def join_windows(x: Any, height: int, width: int) -> Any:
    """The way back from :func:`split_windows`."""
    time, dim = x.shape[1:]
    size = math.isqrt(time)
    x = ops.reshape(x, (-1, height // size, width // size, size, size, dim))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, dim))


def relative_positions(window_size: int) -> np.ndarray:
    """(time, time): the row of the table of biases for each query and key.

    >>> relative_positions(2)[0].tolist()       # how far the others are from the first
    [4, 3, 1, 0]
    """
    place = np.stack(np.divmod(np.arange(window_size**2), window_size))  # row, column
    far = place[:, :, None] - place[:, None, :] + window_size - 1
    return far[0] * (2 * window_size - 1) + far[1]


def parts_of_windows(
    height: int, width: int, window_size: int, shifts: tuple[int, int]
) -> np.ndarray:
    """(windows, time, time): true where query and key were neighbours all along.

    A shift carries the first rows and columns round to the other side, into windows
    with the last ones, where they must not see one another.
    """
    labels = np.zeros((1, height, width, 1), "int32")
    for axis, shift in enumerate(shifts, start=1):
        if shift:
            size = labels.shape[axis]
            where = np.arange(size)
            # The last window is cut in two; those before it are whole.
            part = (where >= size - window_size).astype("int32")
            part += where >= size - shift
            labels = 3 * labels + np.expand_dims(part, [0, 3 - axis, 3])
        else:
            labels = 3 * labels
    shape = (height // window_size, window_size, width // window_size, window_size)
    windows = labels.reshape(shape).transpose(0, 2, 1, 3).reshape(-1, window_size**2)
    return windows[:, :, None] == windows[:, None, :]


@keras.saving.register_keras_serializable("kzoo")
class WindowAttention(keras.layers.Layer):
    """Multi-head attention in each window, with a bias for each relative position.

    Args:
        num_heads: they divide the width of query, key and value.
        window_size: height and width of a window.
        shift: pixels that the image moves up and to the left before it is cut, round
            the edge. None along a side that one window covers.

    Query, key and value (batch, height, width, dim), height and width multiples of
    ``window_size`` -> the same shape.
    """

    def __init__(
        self, num_heads: int, window_size: int, shift: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift

    def build(self, query_shape: Any, key_shape: Any, value_shape: Any) -> None:
        self.table = self.add_weight(
            shape=((2 * self.window_size - 1) ** 2, self.num_heads),
            initializer=small_normal(),
            name="table",
        )

    def call(self, query: Any, key: Any, value: Any) -> Any:
        height, width = query.shape[1:3]
        shifts = self._shifts(height, width)
        q, k, v = (
            split_heads(
                split_windows(
                    ops.roll(x, [-s for s in shifts], (1, 2)), self.window_size
                ),
                self.num_heads,
            )
            for x in (query, key, value)
        )
        bias = self._bias(height, width, shifts)  # (windows or 1, heads, time, time)
        if bias.shape[0] > 1:
            batch = ops.shape(query)[0]
            bias = ops.tile(bias, (batch, 1, 1, 1))
        x = ops.dot_product_attention(q, k, v, bias=ops.cast(bias, query.dtype))
        x = ops.reshape(x, (-1, self.window_size**2, query.shape[-1]))
        return ops.roll(join_windows(x, height, width), shifts, (1, 2))

    def _shifts(self, height: int, width: int) -> tuple[int, int]:
        return (
            self.shift if height > self.window_size else 0,
            self.shift if width > self.window_size else 0,
        )

    def _bias(self, height: int, width: int, shifts: tuple[int, int]) -> Any:
        bias = ops.take(self.table, relative_positions(self.window_size), axis=0)
        bias = ops.transpose(ops.cast(bias, "float32"), (2, 0, 1))[None]
        if not any(shifts):
            return bias
        seen = parts_of_windows(height, width, self.window_size, shifts)
        return ops.add(bias, np.where(seen[:, None], 0, -1e9).astype("float32"))

    def compute_output_shape(
        self, query_shape: Any, key_shape: Any, value_shape: Any
    ) -> Any:
        return query_shape

    def resampled(self, table: np.ndarray) -> np.ndarray:
        """A table for another window -> one for this, as the authors' code has it.

        By cubic convolution (Keys 1981, a = -0.75) with the edge repeated.

        Raises:
            ValueError: its rows are those of no square window.
        """
        old, new = math.isqrt(len(table)), 2 * self.window_size - 1
        if old**2 != len(table):
            raise ValueError(f"{len(table)} relative positions are those of no window")
        weights = cubic_convolution(old, new)
        image = table.reshape(old, old, -1)
        image = np.einsum("ro,sp,opn->rsn", weights, weights, image, optimize=True)
        return image.reshape(new**2, -1).astype(table.dtype)

    def get_config(self) -> dict[str, Any]:
        names = ("num_heads", "window_size", "shift")
        return super().get_config() | {name: getattr(self, name) for name in names}


def cubic_convolution(old: int, new: int) -> np.ndarray:
    """(new, old): row i holds the weights of the four old points about new point i.

    Past the edge the last point stands for those that are not there.
    """
    center = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        point = np.floor(center).astype(int) + offset
        x = np.abs(center - point)
        near = (1.25 * x - 2.25) * x * x + 1
        far = ((-0.75 * x + 3.75) * x - 6) * x + 3
        point = point.clip(0, old - 1)
        np.add.at(weights, (np.arange(new), point), np.where(x <= 1, near, far))
    return weights
