"""Images as patches, each a token (Dosovitskiy et al. 2021, 2010.11929)."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from kzoo.layers.convolution import small_normal
from kzoo.preprocessing.images import resize

STEMS = ("imagenet", "small")


def check_patches(height: int, width: int, patch_size: int) -> None:
    """Raises a ``ValueError`` with the nearest sizes where patches do not fill images.

    >>> check_patches(30, 32, 16)
    Traceback (most recent call last):
    ...
    ValueError: images of 30x32 do not divide into patches of 16x16: the nearest ...
    """
    if height % patch_size == 0 and width % patch_size == 0:
        return
    lower = [max(1, size // patch_size) * patch_size for size in (height, width)]
    upper = [math.ceil(size / patch_size) * patch_size for size in (height, width)]
    nearest = " and ".join(
        dict.fromkeys(f"{rows}x{columns}" for rows, columns in (lower, upper))
    )
    raise ValueError(
        f"images of {height}x{width} do not divide into patches of {patch_size}x"
        f"{patch_size}: the nearest sizes are {nearest}"
    )


def patch_embedding(x: Any, hidden_dim: int, patch_size: int, stem: str) -> Any:
    """(batch, h, w, c) -> (batch, h / patch_size, w / patch_size, hidden_dim).

    Args:
        x: images, or features.
        hidden_dim: width of a token.
        patch_size: height and width of a patch in pixels.
        stem: ``imagenet`` = one linear map of each patch, as published; ``small`` = a
            3x3 convolution before it, which a network for small images needs less
            data to make use of (Xiao et al. 2021, 2106.14881).
    """
    if stem == "small":
        x = keras.layers.Conv2D(
            max(1, hidden_dim // 2), 3, padding="same", name="stem_conv"
        )(x)
        x = keras.layers.LayerNormalization(epsilon=1e-6, name="stem_conv_norm")(x)
        x = keras.layers.Activation("gelu", name="stem_conv_gelu")(x)
    return keras.layers.Conv2D(
        hidden_dim,
        patch_size,
        strides=patch_size,
        kernel_initializer="lecun_normal",
        name="patches",
    )(x)


def patches_of(images: Any, patch_size: int) -> Any:
    """(batch, h, w, c) -> (batch, patches, patch_size * patch_size * c), row by row.

    >>> patches_of(np.arange(16.0).reshape(1, 4, 4, 1), 2)[0, 1].tolist()
    [2.0, 3.0, 6.0, 7.0]
    """
    height, width, channels = images.shape[1:]
    rows, columns = height // patch_size, width // patch_size
    x = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * columns, patch_size**2 * channels))


def images_of(patches: Any, grid: tuple[int, int], patch_size: int) -> Any:
    """:func:`patches_of` undone: (batch, patches, pixels) -> (batch, h, w, c)."""
    rows, columns = grid
    channels = patches.shape[-1] // patch_size**2
    x = ops.reshape(patches, (-1, rows, columns, patch_size, patch_size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * patch_size, columns * patch_size, channels))


@keras.saving.register_keras_serializable("kzoo")
class LeadingToken(keras.layers.Layer):
    """Puts a learned token before the others: (batch, time, dim) -> time + 1."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.token = self.add_weight(
            shape=(input_shape[-1],), initializer="zeros", name="token"
        )

    def call(self, x: Any) -> Any:
        batch, _, dim = ops.shape(x)
        token = ops.broadcast_to(ops.cast(self.token, x.dtype), (batch, 1, dim))
        return ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, time, dim = input_shape
        return (batch, time and time + 1, dim)


@keras.saving.register_keras_serializable("kzoo")
class GridPositions(keras.layers.Layer):
    """Adds a learned vector for each patch and each leading token.

    (batch, leading + rows x columns, dim) -> the same shape.

    Args:
        grid: rows and columns of patches.
        leading: tokens before the patches.
    """

    def __init__(self, grid: tuple[int, int], leading: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid = tuple(grid)
        self.leading = leading

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rows, columns = self.grid
        self.table = self.add_weight(
            shape=(self.leading + rows * columns, input_shape[-1]),
            initializer=small_normal(),
            name="table",
        )

    def call(self, x: Any) -> Any:
        return x + self.table

    def resampled(self, table: np.ndarray) -> np.ndarray:
        """A table of a square grid -> one of this grid, by cubic interpolation.

        Raises:
            ValueError: its rows are those of no square grid.
        """
        leading, patches = np.split(table, [self.leading])
        side = math.isqrt(len(patches))
        if side**2 != len(patches):
            raise ValueError(
                f"{len(table)} positions are not {self.leading} and a square of patches"
            )
        image = patches.reshape(1, side, side, -1)
        image = resize(image, (self.grid[0], self.grid[1]), "bicubic")
        return np.concatenate([leading, image.reshape(-1, table.shape[-1])])

    def get_config(self) -> dict[str, Any]:
        config = {"grid": self.grid, "leading": self.leading}
        return {**super().get_config(), **config}
