"""What can be done to a batch of images, each by numbers of its own; in numpy.

Images are (batch, height, width, channels), of whole numbers or floating ones, and come
out in the same shape and type: whole numbers are rounded and kept in their type's
range. Nothing here is random, see ``augmentation.py``.
"""

import numpy as np

# Weights of red, green and blue in a grey (ITU-R 601-2), as Pillow has them.
LUMA = np.array([0.299, 0.587, 0.114], "float32")


def warp(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Each image seen through an affine map, bilinear; outside of it is 0.

    Args:
        images: (batch, height, width, channels).
        maps: (batch, 2, 3): the pixel that comes out at (x, y) was at
            ``(a x + b y + c, d x + e y + f)``.
    """
    count, height, width, channels = images.shape
    # One row and column of zeros around: what lies outside blends into them.
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    maps = maps.astype("float32")[:, :, :, None, None]  # (batch, 2, 3, 1, 1)
    x = np.arange(width, dtype="float32")
    y = np.arange(height, dtype="float32")[:, None]
    columns = maps[:, 0, 0] * x + maps[:, 0, 1] * y + maps[:, 0, 2]
    rows = maps[:, 1, 0] * x + maps[:, 1, 1] * y + maps[:, 1, 2]
    columns = columns.clip(-1, width)  # (batch, height, width)
    rows = rows.clip(-1, height)
    left = np.minimum(np.floor(columns), width - 1)
    top = np.minimum(np.floor(rows), height - 1)
    along, down = (columns - left)[..., None], (rows - top)[..., None]
    first = np.arange(count)[:, None, None] * ((height + 2) * (width + 2))
    first = first + (top.astype("int64") + 1) * (width + 2) + left.astype("int64") + 1
    flat = padded.reshape(-1, channels)

    def pixels(offset: int) -> np.ndarray:
        return np.take(flat, first + offset, axis=0).astype("float32")

    above = pixels(0) * (1 - along) + pixels(1) * along
    below = pixels(width + 2) * (1 - along) + pixels(width + 3) * along
    return as_type(above * (1 - down) + below * down, images.dtype)


def resized_boxes(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A box of each image, brought to the image's size, bilinear.

    Args:
        images: (batch, height, width, channels).
        boxes: (batch, 4) whole numbers: top, left, height and width.
    """
    count, height, width, channels = images.shape
    top, left, box_height, box_width = boxes.T
    above, down = _places(height, top, box_height)  # (batch, height)
    before, along = _places(width, left, box_width)  # (batch, width)
    each = np.arange(count)[:, None]
    last_row = (top + box_height - 1)[:, None]
    down = down[:, :, None, None]
    upper = images[each, above].astype("float32")
    lower = images[each, np.minimum(above + 1, last_row)].astype("float32")
    x = upper + (lower - upper) * down  # (batch, height, width, channels)
    rows = np.arange(count * height).reshape(count, height, 1) * width
    last_column = (left + box_width - 1)[:, None]
    flat = x.reshape(-1, channels)
    first = np.take(flat, rows + before[:, None, :], axis=0)
    after = np.minimum(before + 1, last_column)
    second = np.take(flat, rows + after[:, None, :], axis=0)
    x = first + (second - first) * along[:, None, :, None]
    return as_type(x, images.dtype)


def _places(size: int, start: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, ...]:
    """The old pixel before each new one, and how far it lies towards the next."""
    new = np.arange(size) + 0.5
    place = np.maximum(new[None, :] * (box / size)[:, None] - 0.5, 0)
    place = np.minimum(place, (box - 1)[:, None])
    before = np.floor(place).astype("int64")
    return before + start[:, None], (place - before).astype("float32")


def brightness(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Each image times its factor (batch,); 0 is black."""
    return blended(np.zeros_like(images, "float32"), images, factors)


def contrast(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Away from each image's mean grey (factor above 1), or towards it."""
    mean = grey(images).mean(axis=(1, 2, 3), keepdims=True)
    return blended(mean, images, factors)


def saturation(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Away from each pixel's grey (factor above 1), or towards it."""
    return blended(grey(images), images, factors)


def sharpness(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Away from a smoothed image (factor above 1), or towards it; the rim stays."""
    x = images.astype("float32")
    height, width = images.shape[1:3]
    if min(height, width) < 3:
        return images
    smooth = 4 * x[:, 1:-1, 1:-1]  # 5 with the one of the sum
    for i in range(3):
        for j in range(3):
            smooth += x[:, i : height - 2 + i, j : width - 2 + j]
    soft = x.copy()
    soft[:, 1:-1, 1:-1] = as_type(smooth / 13, images.dtype)
    return blended(soft, images, factors)


def grey(images: np.ndarray) -> np.ndarray:
    """(batch, height, width, 1), float32: of red, green and blue, else the mean."""
    x = images.astype("float32")
    if images.shape[-1] == 3:
        return (x @ LUMA)[..., None]
    return x.mean(axis=-1, keepdims=True)


def blended(other: np.ndarray, images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """From another image (factor 0) to this one (1), and beyond."""
    share = factors.astype("float32")[:, None, None, None]
    return as_type(other + (images.astype("float32") - other) * share, images.dtype)


def posterize(images: np.ndarray, bits: int) -> np.ndarray:
    """8-bit images with their highest bits alone."""
    return images & np.uint8(256 - (1 << (8 - bits)))


def solarize(images: np.ndarray, threshold: float) -> np.ndarray:
    """8-bit images with what reaches the threshold inverted."""
    return np.where(images >= threshold, 255 - images, images)


def autocontrast(images: np.ndarray) -> np.ndarray:
    """8-bit images, each channel stretched to 0 to 255."""
    low = images.min(axis=(1, 2), keepdims=True).astype("float64")
    high = images.max(axis=(1, 2), keepdims=True).astype("float64")
    scale = 255 / np.maximum(high - low, 1)
    # Cut off, in float64 and in two steps, as Pillow does.
    stretched = (images * scale - low * scale).clip(0, 255).astype("uint8")
    return np.where(high > low, stretched, images)


def equalize(images: np.ndarray) -> np.ndarray:
    """8-bit images, each channel with about as many pixels of every value."""
    count, height, width, channels = images.shape
    planes = np.moveaxis(images, -1, 1).reshape(count * channels, -1)
    shifted = planes + 256 * np.arange(len(planes))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=256 * len(planes))
    counts = counts.reshape(-1, 256)  # how often each value occurs in each plane
    greatest = 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    step = (height * width - counts[np.arange(len(planes)), greatest]) // 255
    below = np.cumsum(counts, axis=1) - counts
    table = (below + step[:, None] // 2) // np.maximum(step, 1)[:, None]
    table = np.where(step[:, None] > 0, table.clip(0, 255), np.arange(256))
    equal = np.take_along_axis(table.astype("uint8"), planes.astype("int64"), axis=1)
    return np.moveaxis(equal.reshape(count, channels, height, width), 1, -1)


def as_type(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Back to the type that images came in."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        x = np.rint(x).clip(limits.min, limits.max)
    return x.astype(dtype)
