"""Blocks of convolutional networks.

Images are padded by as much on each side, as PyTorch does and as the papers draw it.
Keras's ``padding="same"`` puts the odd pixel of a stride on the right and the bottom:
other numbers on the same weights. Weights that were trained so want ``uneven``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

# Of PyTorch, which nearly all published weights come from.
EPSILON = 1e-5
MOMENTUM = 0.9


def he_fan_out() -> keras.initializers.Initializer:
    """Normal, variance 2 / (kernel area x filters): keeps gradients' size under ReLU.

    He et al. 2015 (1502.01852), eq. 14.
    """
    return keras.initializers.VarianceScaling(
        2.0, mode="fan_out", distribution="untruncated_normal"
    )


def small_normal() -> keras.initializers.Initializer:
    """Normal, standard deviation 0.02: of transformers, and of what is like them."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


def convolution(
    x: Any,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    strides: int = 1,
    padding: str = "same",
    uneven: bool = False,
    **options: Any,
) -> Any:
    """(batch, h, w, c) -> (batch, ceil(h / strides), ceil(w / strides), filters).

    Padded by ``kernel_size // 2`` on each side, or as Keras does where ``uneven``;
    without a bias and initialised by :func:`he_fan_out` unless ``options``, those of
    ``Conv2D``, say otherwise.
    """
    if not uneven:
        x, padding = padded(x, kernel_size, strides, padding, name)
    options = {"use_bias": False, "kernel_initializer": he_fan_out()} | options
    return keras.layers.Conv2D(
        filters, kernel_size, strides=strides, padding=padding, name=name, **options
    )(x)


def padded(
    x: Any, kernel_size: int | tuple[int, int], strides: int, padding: str, name: str
) -> tuple[Any, str]:
    """What a convolution takes in, and its own padding, to pad both edges alike."""
    sizes = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    margins = tuple(size // 2 for size in sizes)
    if padding != "same" or strides == 1 or not any(margins):
        return x, padding
    return keras.layers.ZeroPadding2D(margins, name=f"{name}_padding")(x), "valid"


def batch_norm(
    x: Any, name: str, *, momentum: float = MOMENTUM, epsilon: float = EPSILON
) -> Any:
    """Batch normalisation, with PyTorch's constants unless told otherwise."""
    return keras.layers.BatchNormalization(
        momentum=momentum, epsilon=epsilon, name=name
    )(x)


def norm_activation(x: Any, name: str, activation: str = "relu") -> Any:
    """Batch normalisation and activation: layers ``{name}`` and ``{name}_relu``."""
    x = batch_norm(x, name)
    return keras.layers.Activation(activation, name=f"{name}_{activation}")(x)


@dataclass(frozen=True)
class ConvNorm:
    """Convolution, batch normalisation, activation: the unit of one network.

    The layers ``{name}_conv``, ``{name}_norm`` and ``{name}``.

    Attributes:
        activation: Keras's name for it; None = none, and no layer ``{name}``.
        epsilon: what the normalisation adds to the variance.
        momentum: of the running statistics; PyTorch's is one minus it.
        initializer: makes one for each kernel; the same one would draw the same.
        depthwise_initializer: as well, of depthwise kernels.
        uneven: pad as Keras does, not by as much on each side.
    """

    activation: str | None = "relu"
    epsilon: float = EPSILON
    momentum: float = MOMENTUM
    initializer: Callable[[], keras.initializers.Initializer] = he_fan_out
    depthwise_initializer: Callable[[], keras.initializers.Initializer] = he_fan_out
    uneven: bool = False

    def __call__(
        self,
        x: Any,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        strides: int = 1,
        *,
        name: str,
        padding: str = "same",
    ) -> Any:
        """(batch, h, w, c) -> (batch, h / strides, w / strides, filters)."""
        x = convolution(
            x,
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            uneven=self.uneven,
            kernel_initializer=self.initializer(),
            name=f"{name}_conv",
        )
        return self._normalized(x, name)

    def depthwise(
        self, x: Any, kernel_size: int = 3, strides: int = 1, *, name: str
    ) -> Any:
        """The same with a kernel for each channel, which sees no other."""
        padding = "same"
        if not self.uneven:
            x, padding = padded(x, kernel_size, strides, padding, f"{name}_conv")
        x = keras.layers.DepthwiseConv2D(
            kernel_size,
            strides,
            padding=padding,
            use_bias=False,
            depthwise_initializer=self.depthwise_initializer(),
            name=f"{name}_conv",
        )(x)
        return self._normalized(x, name)

    @property
    def linear(self) -> "ConvNorm":
        """The same without activation."""
        return replace(self, activation=None)

    def _normalized(self, x: Any, name: str) -> Any:
        x = batch_norm(x, f"{name}_norm", momentum=self.momentum, epsilon=self.epsilon)
        if self.activation is None:
            return x
        return keras.layers.Activation(self.activation, name=name)(x)


def drop_path(x: Any, rate: float, name: str) -> Any:
    """Stochastic depth: drops the whole branch of an example (Huang et al. 2016).

    What is kept is divided by the probability of being kept. No layer where the rate
    is 0.
    """
    if rate == 0:
        return x
    shape = (None, *[1] * (len(x.shape) - 1))  # one draw an example
    return keras.layers.Dropout(rate, noise_shape=shape, name=name)(x)


def drop_path_rates(rate: float, num_blocks: int) -> list[float]:
    """Rising in a line from 0 at the first block to ``rate`` at the last.

    >>> drop_path_rates(0.2, 3)
    [0.0, 0.1, 0.2]
    """
    return [rate * i / max(num_blocks - 1, 1) for i in range(num_blocks)]


def squeeze_excite(
    x: Any,
    filters: int,
    *,
    name: str,
    activation: str = "relu",
    gate: str = "sigmoid",
) -> Any:
    """Scales each channel by what the whole image says (Hu et al. 2018, 1709.01507).

    (batch, h, w, c) -> the same shape, through ``filters`` units: the layers
    ``{name}_reduce`` and ``{name}_expand``.
    """
    channels = x.shape[-1]
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    for part, units, act in (
        ("reduce", filters, activation),
        ("expand", channels, gate),
    ):
        scale = keras.layers.Conv2D(
            units,
            1,
            activation=act,
            kernel_initializer=he_fan_out(),
            name=f"{name}_{part}",
        )(scale)  # (batch, 1, 1, units)
    return keras.layers.Multiply(name=name)([x, scale])


@keras.saving.register_keras_serializable("kzoo")
class PaddedMaxPooling2D(keras.layers.Layer):
    """Max pooling padded by as much on each side, with what no maximum picks.

    Args:
        pool_size: of the square window.
        strides: between windows.
        padding: pixels on each side.
        ceil_mode: a last window that the image fills in part counts too.
    """

    def __init__(
        self,
        pool_size: int,
        strides: int,
        padding: int = 0,
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pool_size
        self.strides = strides
        self.padding = padding
        self.ceil_mode = ceil_mode

    @property
    def _margins(self) -> tuple[int, int]:
        # Up to strides - 1 pixels are left over on the right: with as many more, a
        # last partial window is a whole one.
        return self.padding, self.padding + (self.strides - 1) * self.ceil_mode

    def call(self, x: Any) -> Any:
        sides = ((0, 0), self._margins, self._margins, (0, 0))
        x = ops.pad(x, sides, constant_values=float("-inf"))
        return ops.max_pool(x, self.pool_size, self.strides, padding="valid")

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, *sizes, channels = input_shape
        margin = sum(self._margins)
        sizes = [
            size and (size + margin - self.pool_size) // self.strides + 1
            for size in sizes
        ]
        return (batch, *sizes, channels)

    def get_config(self) -> dict[str, Any]:
        own = {
            name: getattr(self, name)
            for name in ("pool_size", "strides", "padding", "ceil_mode")
        }
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kzoo")
class AdaptiveAveragePooling2D(keras.layers.Layer):
    """Means over a grid of windows: (batch, h, w, c) -> (batch, grid, grid, c).

    Window i of n pixels runs from floor(i n / grid) to ceil((i + 1) n / grid), as in
    PyTorch: windows overlap where the grid does not divide the image, and repeat where
    the image is smaller.
    """

    def __init__(self, grid: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = grid

    def call(self, x: Any) -> Any:
        height, width = ops.shape(x)[1:3]
        x = ops.einsum("gh,bhwc->bgwc", self._means(height, x.dtype), x)
        return ops.einsum("gw,bhwc->bhgc", self._means(width, x.dtype), x)

    def _means(self, size: Any, dtype: Any) -> Any:
        """(grid, size): row i is the mean over window i."""
        window = ops.arange(self.grid)[:, None]
        first = window * size // self.grid
        last = -((window + 1) * -size // self.grid)
        pixel = ops.arange(size)[None, :]
        inside = ops.logical_and(pixel >= first, pixel < last)
        inside = ops.cast(inside, "float32")
        return ops.cast(inside / ops.sum(inside, axis=1, keepdims=True), dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.grid, self.grid, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}
