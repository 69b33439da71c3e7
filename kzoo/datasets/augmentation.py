"""Augmentation of raw image batches (batch, height, width, channels), in numpy.

Each takes the batch and a generator, and gives a new batch of the same shape and type.
"""

from collections.abc import Callable

import numpy as np


def none(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images as they are."""
    return images


def shift(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Moves each image by up to one eighth of its size, each way; zeros come in.

    One pixel for digits of 8x8, four for images of 32x32 (He et al. 2016, sec. 4.2).
    """
    count, height, width, _ = images.shape
    reach_y, reach_x = max(1, height // 8), max(1, width // 8)
    margins = ((0, 0), (reach_y, reach_y), (reach_x, reach_x), (0, 0))
    padded = np.pad(images, margins)
    top = rng.integers(0, 2 * reach_y + 1, count)
    left = rng.integers(0, 2 * reach_x + 1, count)
    rows = top[:, None, None] + np.arange(height)[None, :, None]
    columns = left[:, None, None] + np.arange(width)[None, None, :]
    return padded[np.arange(count)[:, None, None], rows, columns]


AUGMENTATIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "none": none,
    "shift": shift,
}
