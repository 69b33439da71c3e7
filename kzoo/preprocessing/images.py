"""Images to the size that a model was trained on, in numpy; files by Pillow.

Resampling widens its kernel where it shrinks an image, as Pillow does, so that a model
sees what it saw when it was trained.
"""

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kzoo.preprocessing.image_modes import to_mode

# How a camera was held, by EXIF's number, and what shows the image upright.
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}

# What files are decoded as, whatever their suffix. Pillow's other formats run programs
# (EPS), have no pixels of their own, or take any bytes for an image (TGA).
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG"),
    *("PPM", "SGI", "TIFF", "WEBP"),
)


def read_image(
    file: Any,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    crop_rate: float = 1.0,
    interpolation: str = "bilinear",
    background: str = "white",
) -> np.ndarray:
    """An image file as 8-bit pixels, brought to a size.

    As :func:`resized_crop` does it; but a JPEG that is much too large is decoded at a
    fraction of its size, and a photograph is turned as its camera says. Of an animation
    it is the first picture.

    Args:
        file: a path, or the opened file.
        size: height and width to come out; None = the image's own.
        channels: 1 for grey, 3 for red, green and blue, 4 with opacity.
        crop_rate: above 0, at most 1; where a size is given.
        interpolation: bilinear or bicubic.
        background: the colour under a transparent image, where there is no opacity.

    Returns:
        (height, width, channels) of uint8.

    Raises:
        ValueError: not an image, a damaged one, or one of 32-bit numbers.
    """
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]

    kind = Image.Resampling[interpolation.upper()]

    def decoded(opened: Any) -> np.ndarray:
        if size is not None:
            # At twice the size or more no difference is seen.
            longest = 2 * max(size)
            opened.draft(None, (longest, longest))
        turn = TURNS.get(orientation(opened))
        image = to_mode(opened, mode, background)
        if turn is not None:
            image = image.transpose(Image.Transpose[turn])
        if size is not None:
            # In one step: the part of the file's pixels that resized_crop leaves.
            rows, columns, top, left = cover(image.size[::-1], size, crop_rate)
            down, along = image.height / rows, image.width / columns
            right, bottom = left + size[1], top + size[0]
            box = (left * along, top * down, right * along, bottom * down)
            image = image.resize(size[::-1], kind, box)
        return np.asarray(image, "uint8").reshape(image.height, image.width, channels)

    pixels: np.ndarray = with_image(file, decoded)
    return pixels


def with_image(file: Any, function: Callable[[Any], Any]) -> Any:
    """The function's result on the image in a file, opened by Pillow.

    Raises:
        ValueError: the file holds no image, or a damaged one.
    """
    from PIL import Image, UnidentifiedImageError

    is_path = isinstance(file, str | os.PathLike)
    try:
        with contextlib.ExitStack() as stack:
            # Of a path, Pillow would map uncompressed pixels into memory: those of a
            # TIFF that is turned by a quarter in rows of the wrong length.
            stream = stack.enter_context(open(file, "rb")) if is_path else file
            image = stack.enter_context(Image.open(stream, formats=_formats()))
            return function(image)
    except Exception as error:  # decoders raise whatever damaged bytes lead them to
        empty = is_path and os.path.isfile(file) and not os.path.getsize(file)
        why = "it is empty" if empty else str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError) and not empty:
            why = f"it begins like none of {', '.join(_formats())}"
        name = file if is_path else "a record"
        raise ValueError(f"{name} is no image that can be read: {why}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of ``FORMATS`` that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def orientation(image: Any) -> int:
    """How the camera was held, one of ``TURNS`` or 1, of an image that was opened."""
    # Pillow turns a TIFF itself, and would decode all pixels of other formats to find
    # out.
    if image.format not in ("AVIF", "JPEG", "MPO", "WEBP"):
        return 1
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:  # damaged data beside sound pixels
        return 1
    return found if found in TURNS else 1


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
    rows, columns, top, left = cover(images.shape[1:3], size, crop_rate)
    images = resize(images, (rows, columns), interpolation)
    return images[:, top : top + size[0], left : left + size[1]]


def cover(
    old: tuple[int, ...], size: tuple[int, int], crop_rate: float
) -> tuple[int, int, int, int]:
    """Rows and columns to resample to, and where a crop of ``size`` begins in them."""
    least = [int(side / crop_rate) for side in size]
    factor = max(least[0] / old[0], least[1] / old[1])
    # The side that decides is exact; the other one is cut off, as torchvision does.
    rows = max(least[0], int(old[0] * factor + 1e-6))
    columns = max(least[1], int(old[1] * factor + 1e-6))
    top, left = round((rows - size[0]) / 2), round((columns - size[1]) / 2)
    return rows, columns, top, left


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
