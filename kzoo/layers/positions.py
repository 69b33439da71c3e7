"""Where a token stands: learned tables and sinusoids."""

import math
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
from keras import ops


@runtime_checkable
class Resampling(Protocol):
    """A layer with a table of positions that weights of another size can be fit to."""

    table: keras.Variable  # (positions, width)

    def resampled(self, table: np.ndarray) -> np.ndarray:
        """The table of another size -> one of this layer's."""


@keras.saving.register_keras_serializable("kzoo")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector for each position: (batch, time, dim) -> the same shape.

    ``positions`` (batch, time) say where the steps stand; None = from 0 on.

    Args:
        length: rows of the table; longer sequences are a ``ValueError``.
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length

    @property
    def rows(self) -> int:
        """Of the table."""
        return self.length

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.table = self.add_weight(
            shape=(self.rows, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, x: Any, positions: Any = None) -> Any:
        if positions is not None:
            return x + ops.take(self.table, positions, axis=0)
        self.check_length(x)
        return x + self.table[: ops.shape(x)[1]]

    def check_length(self, x: Any) -> None:
        """Raises a ``ValueError`` where the table has too few rows."""
        time = x.shape[1]
        if time is not None and time > self.length:
            raise ValueError(
                f"a sequence of {time} steps is longer than the position table: "
                f"sequence_length={self.length}"
            )

    def resampled(self, table: np.ndarray) -> np.ndarray:
        """The first rows of a longer table.

        Raises:
            ValueError: a shorter one: nobody has learned the rest.
        """
        if len(table) < self.rows:
            raise ValueError(
                f"positions were learned for {len(table)} steps, not for {self.rows}: "
                f"sequence_length is {self.length - self.rows + len(table)} at most"
            )
        return table[: self.rows]

    def compute_output_shape(self, input_shape: Any) -> Any:
        # Else JAX and PyTorch try the call on 83 steps, which may be too many.
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length}


@keras.saving.register_keras_serializable("kzoo")
class CountedPositions(LearnedPositions):
    """Learned vectors of the position among the real steps, as RoBERTa counts.

    ``positions(x, mask)``: the real steps get the rows ``first``, ``first + 1``, ...
    of the table, wherever the padding stands, and the padding the row before them.

    Args:
        length: longest sequence.
        first: row of the first real step.
    """

    def __init__(self, length: int, first: int, **kwargs: Any) -> None:
        super().__init__(length, **kwargs)
        self.first = first
        self.supports_masking = True  # or Keras warns that the mask is lost

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None

    @property
    def rows(self) -> int:
        return self.length + self.first

    def call(self, x: Any, mask: Any = None) -> Any:
        self.check_length(x)
        if mask is None:
            return x + self.table[self.first : self.first + ops.shape(x)[1]]
        real = ops.cast(mask, "int32")
        row = self.first - 1 + ops.cumsum(real, axis=1) * real  # (batch, time)
        return x + ops.take(self.table, row, axis=0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "first": self.first}


@keras.saving.register_keras_serializable("kzoo")
class SinusoidalPositions(keras.layers.Layer):
    """Adds sines and cosines of the position (Vaswani et al. 2017, sec. 3.5).

    ``positions`` (batch, time) say where the steps stand; None = from 0 on.
    """

    def call(self, x: Any, positions: Any = None) -> Any:
        dim = x.shape[-1]
        if positions is None:
            positions = ops.arange(ops.shape(x)[1])
        position = ops.cast(positions, "float32")[..., None]  # ([batch,] time, 1)
        rates = np.exp(-math.log(1e4) * np.arange(0, dim, 2) / dim).astype("float32")
        angles = ops.multiply(position, rates)  # ([batch,] time, ceil(dim / 2))
        # Interleaved as in the paper: sine at even, cosine at odd channels.
        table = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
        table = ops.reshape(table, (*ops.shape(positions), 2 * len(rates)))[..., :dim]
        return x + ops.cast(table, x.dtype)
