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


@keras.saving.register_keras_serializable("kzoo")
class RelativePositions(keras.layers.Layer):
    """A learned bias of attention scores by the distance (Raffel et al. 2020, 2.1).

    (batch, time, dim) -> (1, num_heads, time, time), of which only the time counts.
    Near distances have a bucket each, farther ones share buckets that grow as their
    logarithm.

    Args:
        num_heads: each has a bias of its own.
        num_buckets: rows of the table.
        max_distance: from which on all distances are in the last bucket.
        bidirectional: what comes later has half of the buckets; else it has the first.
        embeddings_initializer: of the table.
    """

    def __init__(
        self,
        num_heads: int,
        num_buckets: int,
        max_distance: int,
        bidirectional: bool,
        embeddings_initializer: Any = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape: Any) -> None:
        shape = (self.num_buckets, self.num_heads)
        self.table = self.add_weight(
            shape=shape, initializer=self.initializer, name="table"
        )

    def call(self, x: Any) -> Any:
        time = ops.shape(x)[1]
        return self.bias(ops.arange(time, dtype="int32")[None], time)

    def bias(self, positions: Any, length: Any) -> Any:
        """The bias of queries at (batch, steps) to keys at 0, 1, ... ``length - 1``.

        Returns:
            (batch, num_heads, steps, length).
        """
        keys = ops.arange(length, dtype="int32")
        distance = keys - positions[..., None]  # (batch, steps, length)
        table = ops.cast(self.table, self.compute_dtype)
        bias = ops.take(table, self.buckets(distance), axis=0)
        return ops.transpose(bias, (0, 3, 1, 2))

    def buckets(self, distance: Any) -> Any:
        """The row of the table for each distance, of the same shape."""
        buckets = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        exact = buckets // 2
        far = np.maximum(np.arange(self.max_distance + 1, dtype="float32"), 1)
        growth = np.log(far / exact) / math.log(self.max_distance / exact)
        shared = exact + (growth * (buckets - exact)).astype("int32")
        near = np.arange(self.max_distance + 1)
        rows = np.where(near < exact, near, np.minimum(shared, buckets - 1))
        away = ops.abs(distance) if self.bidirectional else ops.maximum(-distance, 0)
        row = ops.take(rows.astype("int32"), ops.minimum(away, self.max_distance))
        if not self.bidirectional:
            return row
        return row + ops.cast(distance > 0, "int32") * buckets

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (1, self.num_heads, input_shape[1], input_shape[1])

    def get_config(self) -> dict[str, Any]:
        names = ("num_heads", "num_buckets", "max_distance", "bidirectional")
        config = {name: getattr(self, name) for name in names}
        made = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), **config, "embeddings_initializer": made}
