"""Images to the size that a model was trained on, in numpy.

Resampling widens its kernel where it shrinks an image, as Pillow does, so that a model
sees what it saw when it was trained.
"""

from collections.abc import Callable

import numpy as np


def resized_crop(
    images: np.ndarray, size: tuple[int, int], crop_rate: float, interpolation: str
) -> np.ndarray:
    """The middle of each image, at a size.

    The image is resampled, its sides in proportion, until ``size`` is ``crop_rate`` of
    what it must cover; then the middle is cut out.

    Args:
        images: (batch, height, width, channels).
        size: height and width to come out.
        crop_rate: above 0, at most 1.
        interpolation: bilinear or bicubic.

    Returns:
        (batch, *size, channels), of the images' type; whole numbers are rounded.
    """
    height, width = images.shape[1:3]
    cover = [int(side / crop_rate) for side in size]
    factor = max(cover[0] / height, cover[1] / width)
    # The side that decides is exact; the other one is cut off, as torchvision does.
    rows = max(cover[0], int(height * factor + 1e-6))
    columns = max(cover[1], int(width * factor + 1e-6))
    images = resize(images, (rows, columns), interpolation)
    top, left = round((rows - size[0]) / 2), round((columns - size[1]) / 2)
    return images[:, top : top + size[0], left : left + size[1]]


def resize(images: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Images (batch, height, width, channels) at another size, of the same type."""
    if images.shape[1:3] == tuple(size):
        return images
    kernel, support = KERNELS[interpolation]
    rows = resampling(images.shape[1], size[0], kernel, support)
    columns = resampling(images.shape[2], size[1], kernel, support)
    x = np.einsum("rh,bhwc->brwc", rows, images.astype("float32"), optimize=True)
    x = np.einsum("sw,brwc->brsc", columns, x, optimize=True)
    if np.issubdtype(images.dtype, np.integer):
        limits = np.iinfo(images.dtype)
        x = np.rint(x).clip(limits.min, limits.max)
    return x.astype(images.dtype)


def resampling(
    old: int, new: int, kernel: Callable[[np.ndarray], np.ndarray], support: float
) -> np.ndarray:
    """(new, old): row i is the mean of old pixels that makes new pixel i."""
    scale = max(old / new, 1.0)
    centers = (np.arange(new)[:, None] + 0.5) * (old / new)
    distance = np.arange(old)[None, :] + 0.5 - centers
    weights = np.where(
        np.abs(distance) < support * scale, kernel(np.abs(distance) / scale), 0.0
    )
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - x, 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    # Keys 1981 with a = -0.5.
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}
