"""Examples that are image files: how they are read, and the dataset of them."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.embedded import Options
from kzoo.datasets.examples import fingerprint
from kzoo.datasets.loading import kept_if_small, parallel_map
from kzoo.hparams import hp, in_short
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.image_modes import (
    check_colour,
    check_mode,
    is_grey,
    is_transparent,
)
from kzoo.preprocessing.images import TURNS, orientation, read_image, with_image

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """Options of images that are read as they are needed."""

    image_size: int | tuple[int, int] | None = hp(
        None, "height and width; none = the images' own if they agree, else 224", min=1
    )
    channels: int | None = hp(
        None, "none = 1 if all images are grey, else 3", choices=(None, 1, 3, 4)
    )
    background: str = hp(
        "white", "colour under transparent images: white, black, #rrggbb ..."
    )
    memory: int = hp(1024, "MiB in which all decoded images must fit to stay", min=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_colour("background", self.background)


@dataclass(frozen=True)
class Reading:
    """How the image files of a dataset are read.

    Attributes:
        size: height and width that they are brought to.
        channels: of each.
        background: the colour that transparent ones are composited on.
        transparent: those of them that are.
        advice: the end of the error of a file that cannot be read.
    """

    size: tuple[int, int]
    channels: int
    background: str = "white"
    transparent: frozenset[Path] = frozenset()
    advice: str = ""

    def __call__(self, path: Path) -> np.ndarray:
        """The image (height, width, channels)."""
        try:
            return read_image(
                path, self.size, self.channels, background=self.background
            )
        except ValueError as error:
            raise ValueError(f"{error}{self.advice}") from None

    def key(self, name: str, path: Path) -> bytes:
        """What tells a file of this name, as it is read, from others."""
        ground = f"on {self.background} " if path in self.transparent else ""
        return os.fsencode(f"{name} {path.stat().st_size} {ground}")


@dataclass(frozen=True)
class ImageFiles:
    """Examples of one split that are image files.

    Attributes:
        files: their paths.
        labels: (examples,).
        keys: what tells each file from others, for the fingerprint.
        read: from a path to the image.
    """

    files: Sequence[Path]
    labels: np.ndarray
    keys: Sequence[bytes] = field(repr=False)
    read: Any = read_image

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """The images of these examples (examples, height, width, channels)."""
        return np.stack(parallel_map(self.read, [self.files[i] for i in index]))

    def contents(self) -> Iterator[bytes]:
        """Names and sizes of the files, and the labels."""
        yield from self.keys
        yield self.labels.tobytes()


def images_dataset(
    name: str,
    options: ImageOptions,
    splits: dict[str, Any],
    classes: tuple[str, ...],
    size: tuple[int, int],
    channels: int,
) -> Dataset:
    """Classified images of 8 bits as a dataset; they are scaled to [0, 1]."""
    return Dataset(
        name=name,
        options=options.to_json(),
        splits=kept_if_small(splits, (*size, channels), options.memory),
        spec=Spec(
            task="image-classification",
            inputs="images",
            hparams={
                "image_size": size[0] if size[0] == size[1] else size,
                "channels": channels,
                "num_classes": len(classes),
            },
            classes=classes,
            fingerprint=fingerprint(splits),
        ),
        preprocessing=Preprocessing(
            input_mean=(0.0,),
            input_scale=(255.0,),
            classes=classes,
            image_size=size,
            background=options.background,
        ),
    )


SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


def reading(paths: Sequence[Path], options: ImageOptions, advice: str = "") -> Reading:
    """How to read these files: what the options leave open, by the files' headers.

    Args:
        paths: of all splits.
        options: the dataset's.
        advice: the end of the error of a file that cannot be read.

    Raises:
        ValueError: the header of one cannot be read, or it has pixels of 32 bits.
    """

    def header_of(path: Path) -> Header:
        try:
            return header(path)
        except ValueError as error:
            raise ValueError(f"{error}{advice}") from None

    headers = parallel_map(header_of, paths)
    size = options.image_size
    if size is None:
        sizes = {one.size for one in headers}
        size = next(iter(sizes)) if len(sizes) == 1 else 224
        if len(sizes) > 1:
            shown = in_short(sorted(f"{h}x{w}" for h, w in sizes), 3)
            log.info("images of %s: all are brought to 224x224", shown)
    grey = all(one.grey for one in headers)
    channels = options.channels or (1 if grey else 3)
    transparent: frozenset[Path] = frozenset()
    if channels < 4:
        pairs = zip(paths, headers, strict=True)
        transparent = _transparent([path for path, one in pairs if one.opacity])
    if transparent:
        log.info(
            "%s of %s images are transparent, such as %s: they are composited on %s; "
            "--data background=COLOUR takes another colour",
            len(transparent),
            len(paths),
            min(transparent),
            options.background,
        )
    return Reading(
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        channels=channels,
        background=options.background,
        transparent=transparent,
        advice=advice,
    )


@dataclass(frozen=True)
class Header:
    """What the header of an image file says.

    Attributes:
        size: height and width.
        grey: whether it has no colours.
        opacity: whether its pixels may be transparent.
    """

    size: tuple[int, int]
    grey: bool
    opacity: bool


def header(path: Path) -> Header:
    """The header of an image file; the pixels are not decoded.

    Raises:
        ValueError: it is no image that can be read.
    """

    def read(image: Any) -> Header:
        check_mode(image)
        turned = TURNS.get(orientation(image), "") in SIDEWAYS
        size = (image.width, image.height) if turned else image.size[::-1]
        return Header(size, is_grey(image), image.has_transparency_data)

    found: Header = with_image(path, read)
    return found


def _transparent(paths: Sequence[Path]) -> frozenset[Path]:
    """Those whose pixels are not all opaque; decodes them, as headers do not say."""

    def clear(path: Path) -> bool:
        try:
            return bool(with_image(path, is_transparent))
        except ValueError:  # reported when its batch is read
            return False

    found = parallel_map(clear, paths)
    return frozenset(path for path, yes in zip(paths, found, strict=True) if yes)
