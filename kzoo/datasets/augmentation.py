"""Augmentation of raw training batches, in numpy.

Each takes the raw inputs of a whole global batch, a generator and a strength, and gives
new inputs of the same shape and type. What is drawn hangs on the batch's size alone, so
that every backend and every number of workers sees the same pixels.

    augment(("shift", "rotation:15", "zoom:0.1"), images, rng)

Moves of the whole image that follow one another (rotation, zoom, stretch, shear,
translation) go through one resampling.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from kzoo.datasets import characters, pixels
from kzoo.hparams import nearest


@dataclass(frozen=True)
class Augmentation:
    """One kind of augmentation.

    Attributes:
        function: of raw inputs, generator and strength.
        strength: where none is given.
        most: the greatest legal strength; 0 is the least.
        unit: what the strength is.
        inputs: what it is for; images are raw arrays of four axes.
        bytes_only: for 8-bit images alone.
        affine: the function takes the images' shape, not the images, and gives each
            a map around its centre, (batch, 3, 3), from where a pixel comes to lie to
            where it was.
    """

    function: Callable[..., np.ndarray]
    strength: float
    most: float
    unit: str
    inputs: str = "images"
    bytes_only: bool = False
    affine: bool = False


def augment(
    names: Iterable[str], raw: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The raw inputs of a batch through these augmentations, in their order."""
    maps = None
    for name in names:
        found, strength = find_augmentation(name)
        if found.affine:
            drawn = found.function(raw.shape, rng, strength)
            maps = drawn if maps is None else maps @ drawn
            continue
        if maps is not None:
            raw, maps = pixels.warp(raw, around_centre(maps, raw.shape)), None
        raw = found.function(raw, rng, strength)
    return raw if maps is None else pixels.warp(raw, around_centre(maps, raw.shape))


def find_augmentation(name: str) -> tuple[Augmentation, float]:
    """The augmentation and the strength that ``name`` or ``name:strength`` says.

    Raises:
        ValueError: an unknown name, or a strength that is not legal.

    Example:
        >>> find_augmentation("rotation:15")[1]
        15.0
    """
    word, _, text = name.partition(":")
    if word not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {word!r}{nearest(word, AUGMENTATIONS)}")
    found = AUGMENTATIONS[word]
    try:
        strength = float(text) if text else found.strength
    except ValueError:
        strength = -1.0
    if not 0 <= strength <= found.most:
        raise ValueError(
            f"augmentation {name!r}: {text!r} is not {found.unit} from 0 to "
            f"{found.most:g}"
        )
    return found, strength


def shift(
    images: np.ndarray, rng: np.random.Generator, share: float = 1 / 8
) -> np.ndarray:
    """Moves each image by up to a share of its size, each way; zeros come in.

    By one eighth: a pixel for digits of 8x8, four for images of 32x32, as padding and
    cropping does (He et al. 2016, sec. 4.2).
    """
    count, height, width, channels = images.shape
    reach_y, reach_x = max(1, int(height * share)), max(1, int(width * share))
    margins = ((0, 0), (reach_y, reach_y), (reach_x, reach_x), (0, 0))
    padded = np.pad(images, margins)
    top = rng.integers(0, 2 * reach_y + 1, (count,))
    left = rng.integers(0, 2 * reach_x + 1, (count,))
    # A view of every place that an image can be cut out at, its rows in one piece,
    # which copies ten times as fast as picking pixel by pixel.
    image, row, pixel, _ = padded.strides
    places = np.lib.stride_tricks.as_strided(
        padded,
        (count, 2 * reach_y + 1, 2 * reach_x + 1, height, width * channels),
        (image, row, pixel, row, padded.itemsize),
        writeable=False,
    )
    return places[np.arange(count), top, left].reshape(images.shape)


def crop(images: np.ndarray, rng: np.random.Generator, least: float) -> np.ndarray:
    """A box of each image, of ``least`` of its area or more, at the image's size.

    Szegedy et al. 2015, sec. 6: the area is drawn evenly, the ratio of the sides from
    3/4 to 4/3; a side that is too long is cut.
    """
    count, height, width, _ = images.shape
    area = rng.uniform(least, 1.0, count) * (height * width)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), count))
    box_height = np.rint(np.sqrt(area / ratio)).clip(1, height).astype("int64")
    box_width = np.rint(np.sqrt(area * ratio)).clip(1, width).astype("int64")
    top = np.floor(rng.random(count) * (height - box_height + 1)).astype("int64")
    left = np.floor(rng.random(count) * (width - box_width + 1)).astype("int64")
    boxes = np.stack([top, left, box_height, box_width], axis=1)
    return pixels.resized_boxes(images, boxes)


def flip(images: np.ndarray, rng: np.random.Generator, rate: float) -> np.ndarray:
    """Mirrors this share of the images, left and right."""
    chosen = rng.random(len(images)) < rate
    images = images.copy()
    # Whole pixels change places, not their channels one by one.
    size = images.shape[-1] * images.itemsize
    pixel = images.view(np.dtype((np.void, size)))[..., 0]
    pixel[chosen] = pixel[chosen, :, ::-1]
    return images


def rotation(
    shape: tuple[int, ...], rng: np.random.Generator, degrees: float
) -> np.ndarray:
    """Turns around the centre, by up to so many degrees each way."""
    return affine(turns(np.deg2rad(rng.uniform(-degrees, degrees, shape[0]))))


def zoom(shape: tuple[int, ...], rng: np.random.Generator, most: float) -> np.ndarray:
    """Larger or smaller, by a factor from exp(-most) to exp(most)."""
    factors = np.exp(rng.uniform(-most, most, shape[0]))
    return affine(np.eye(2) / factors[:, None, None])


def stretch(
    shape: tuple[int, ...], rng: np.random.Generator, most: float
) -> np.ndarray:
    """Wider or narrower, and taller or flatter, each by a factor as of ``zoom``."""
    factors = np.exp(rng.uniform(-most, most, (shape[0], 1, 2)))
    return affine(np.eye(2) / factors)


def shear(
    shape: tuple[int, ...], rng: np.random.Generator, degrees: float
) -> np.ndarray:
    """Leans to the left or the right, by up to so many degrees."""
    linear = np.tile(np.eye(2), (shape[0], 1, 1))
    linear[:, 0, 1] = np.tan(np.deg2rad(rng.uniform(-degrees, degrees, shape[0])))
    return affine(linear)


def translation(
    shape: tuple[int, ...], rng: np.random.Generator, share: float
) -> np.ndarray:
    """Moves by up to a share of the size, each way, and not by whole pixels alone.

    So a small image keeps its rim, where ``shift`` takes a whole row of it.
    """
    offset = rng.uniform(-share, share, (shape[0], 2)) * (shape[2], shape[1])  # x, y
    return affine(np.tile(np.eye(2), (shape[0], 1, 1)), offset)


def colour(images: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Brightness, contrast and saturation, each by a factor from 1 - most to 1 + most.

    Floating pixels may leave the range that they had.
    """
    factors = rng.uniform(1 - most, 1 + most, (3, len(images)))
    images = pixels.brightness(images, factors[0])
    images = pixels.contrast(images, factors[1])
    if images.shape[-1] == 3:
        images = pixels.saturation(images, factors[2])
    return images


def erasing(images: np.ndarray, rng: np.random.Generator, rate: float) -> np.ndarray:
    """In this share of the images, a box takes the image's mean colour.

    Zhong et al. 2020: 2 to 33 % of the area, sides in a ratio of 0.3 to 1/0.3.
    """
    count, height, width, _ = images.shape
    chosen = rng.random((count,)) < rate
    area = rng.uniform(0.02, 1 / 3, count) * (height * width)
    ratio = np.exp(rng.uniform(np.log(0.3), -np.log(0.3), count))
    box_height = np.rint(np.sqrt(area / ratio)).clip(1, height)
    box_width = np.rint(np.sqrt(area * ratio)).clip(1, width)
    top = np.floor(rng.random(count) * (height - box_height + 1))
    left = np.floor(rng.random(count) * (width - box_width + 1))
    within = in_boxes(images.shape, top, left, box_height, box_width)
    within &= chosen[:, None, None, None]
    mean = images.mean(axis=(1, 2), keepdims=True, dtype="float32")
    return np.where(within, pixels.as_type(mean, images.dtype), images)


def randaugment(
    images: np.ndarray, rng: np.random.Generator, magnitude: float
) -> np.ndarray:
    """Two of fourteen changes to each 8-bit image, at a magnitude from 0 to 30.

    Cubuk et al. 2020 (1909.13719), with torchvision's scale of magnitudes; shears and
    turns are around the centre.
    """
    changes = list(CHANGES.values())
    for _ in range(2):
        picked = rng.integers(0, len(changes), len(images))
        signs = rng.integers(0, 2, len(images)) * 2 - 1
        changed = images.copy()
        for i, change in enumerate(changes):
            rows = np.flatnonzero(picked == i)
            if len(rows):
                changed[rows] = change(images[rows], magnitude / 30, signs[rows])
        images = changed
    return images


def turns(angles: np.ndarray) -> np.ndarray:
    """The linear maps (batch, 2, 2) that turn by these angles in radians."""
    sine, cosine = np.sin(angles), np.cos(angles)
    return np.stack([cosine, -sine, sine, cosine], axis=-1).reshape(-1, 2, 2)


def affine(linear: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """The maps (batch, 3, 3) of linear parts (batch, 2, 2) and offsets (batch, 2)."""
    maps = np.tile(np.eye(3), (len(linear), 1, 1))
    maps[:, :2, :2], maps[:, :2, 2] = linear, offset
    return maps


def around_centre(maps: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps (batch, 3, 3) around the images' centre as :func:`pixels.warp` has them."""
    centre = np.array([(shape[2] - 1) / 2, (shape[1] - 1) / 2])  # x, y
    linear, offset = maps[:, :2, :2], maps[:, :2, 2]
    return affine(linear, centre - linear @ centre + offset)[:, :2]


def in_boxes(
    shape: tuple[int, ...],
    top: np.ndarray,
    left: np.ndarray,
    box_height: np.ndarray,
    box_width: np.ndarray,
) -> np.ndarray:
    """Which pixels lie in the image's box: (batch, height, width, 1)."""
    y, x = np.arange(shape[1]), np.arange(shape[2])
    rows = (y >= top[:, None]) & (y < (top + box_height)[:, None])
    columns = (x >= left[:, None]) & (x < (left + box_width)[:, None])
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def _sheared(images: np.ndarray, slopes: np.ndarray, row: int) -> np.ndarray:
    linear = np.tile(np.eye(2), (len(images), 1, 1))
    linear[:, row, 1 - row] = slopes
    return pixels.warp(images, around_centre(affine(linear), images.shape))


def _turned(images: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    maps = affine(turns(np.deg2rad(degrees)))
    return pixels.warp(images, around_centre(maps, images.shape))


def _moved(images: np.ndarray, shares: np.ndarray, axis: int) -> np.ndarray:
    maps = np.tile(np.eye(2, 3), (len(images), 1, 1))
    maps[:, axis, 2] = np.trunc(shares * images.shape[2 - axis])
    return pixels.warp(images, maps)


# RandAugment's: images, magnitude from 0 to 1, signs -> images
CHANGES: dict[str, Callable[[np.ndarray, float, np.ndarray], np.ndarray]] = {
    "identity": lambda x, m, sign: x,
    "shear_x": lambda x, m, sign: _sheared(x, 0.3 * m * sign, 0),
    "shear_y": lambda x, m, sign: _sheared(x, 0.3 * m * sign, 1),
    "move_x": lambda x, m, sign: _moved(x, 150 / 331 * m * sign, 0),
    "move_y": lambda x, m, sign: _moved(x, 150 / 331 * m * sign, 1),
    "rotation": lambda x, m, sign: _turned(x, 30 * m * sign),
    "brightness": lambda x, m, sign: pixels.brightness(x, 1 + 0.9 * m * sign),
    "saturation": lambda x, m, sign: pixels.saturation(x, 1 + 0.9 * m * sign),
    "contrast": lambda x, m, sign: pixels.contrast(x, 1 + 0.9 * m * sign),
    "sharpness": lambda x, m, sign: pixels.sharpness(x, 1 + 0.9 * m * sign),
    "posterize": lambda x, m, sign: pixels.posterize(x, 8 - round(4 * m)),
    "solarize": lambda x, m, sign: pixels.solarize(x, 255 * (1 - m)),
    "autocontrast": lambda x, m, sign: pixels.autocontrast(x),
    "equalize": lambda x, m, sign: pixels.equalize(x),
}

AUGMENTATIONS = {
    "shift": Augmentation(shift, 1 / 8, 1.0, "a share of the image's size"),
    "crop": Augmentation(crop, 0.08, 1.0, "the least share of the area"),
    "flip": Augmentation(flip, 0.5, 1.0, "a share of the images"),
    "rotation": Augmentation(rotation, 10.0, 180.0, "degrees", affine=True),
    "zoom": Augmentation(zoom, 0.1, 2.0, "the log of a factor", affine=True),
    "stretch": Augmentation(stretch, 0.1, 2.0, "the log of a factor", affine=True),
    "shear": Augmentation(shear, 10.0, 80.0, "degrees", affine=True),
    "translation": Augmentation(
        translation, 0.1, 1.0, "a share of the image's size", affine=True
    ),
    "colour": Augmentation(colour, 0.4, 1.0, "the greatest change of a factor"),
    "randaugment": Augmentation(randaugment, 9.0, 30.0, "a magnitude", bytes_only=True),
    "erasing": Augmentation(erasing, 0.25, 1.0, "a share of the images"),
    "character_drop": Augmentation(
        characters.drop, 0.1, 1.0, "a share of the characters", inputs="texts"
    ),
    "character_swap": Augmentation(
        characters.swap, 0.05, 1.0, "a share of the characters", inputs="texts"
    ),
}
