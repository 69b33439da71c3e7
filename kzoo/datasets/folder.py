"""Images in folders, one folder a class: ``folder:PATH``.

    photographs/cat/1.jpg    photographs/dog/1.jpg    ...

Files are decoded when their batch is made; small sets stay in memory after that.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.datasets.dataset import Dataset, Spec
from kzoo.datasets.embedded import Options
from kzoo.datasets.examples import fingerprint
from kzoo.datasets.loading import kept_if_small, parallel_map
from kzoo.datasets.splits import SPLITS, fair_parts
from kzoo.hparams import hp, in_short
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.images import orientation, read_image

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """Options of images that are read as they are needed."""

    image_size: int | tuple[int, int] | None = hp(
        None, "height and width; none = the images' own if they agree, else 224", min=1
    )
    channels: int | None = hp(
        None, "none = 1 if all images are grey, else 3", choices=(None, 1, 3, 4)
    )
    memory: int = hp(1024, "MiB in which all decoded images must fit to stay", min=0)


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ImageOptions):
    """Options of ``folder:PATH``."""

    skip_corrupt: bool = hp(
        False, "decode all images first, and leave out those that cannot be read"
    )


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


def from_folder(path: str, options: FolderOptions) -> Dataset:
    """The images under a folder, each in the folder of its class.

    Folders ``train``, ``validation`` (or ``val``) and ``test`` on top of these are the
    splits. Where one of the last two is missing, the other one is the test split, and
    an eighth of the training images validates. Without them each file is in a split by
    a hash of its path: 70, 10 and 20 %.

    Raises:
        ValueError: no such folder, no classes or images, or too few of one class.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"folder:{path}: there is no folder {root}")
    found = _listed(root)
    classes = sorted({name for files in found.values() for name, _ in files})
    for split, files in found.items():
        _check(root, split, files, classes)
    paths = [file for files in found.values() for _, file in files]
    left_out = set(_damaged(paths)) if options.skip_corrupt else set()
    if left_out:
        log.warning(
            "%s of %s images under %s cannot be read and are left out, such as %s",
            len(left_out),
            len(paths),
            root,
            min(left_out),
        )
        found = {
            split: [pair for pair in files if pair[1] not in left_out]
            for split, files in found.items()
        }
        for split, files in found.items():
            _check(root, split, files, classes)
    paths = [file for files in found.values() for _, file in files]
    size, channels = common_shape(paths, options)
    parts = _split(root, found, options.seed)
    splits = {}
    for split, files in parts.items():
        labels = np.array([classes.index(name) for name, _ in files], "int32")
        _check_split(root, split, labels, classes, options.seed)
        keys = [
            f"{file.relative_to(root).as_posix()} {file.stat().st_size} ".encode()
            for _, file in files
        ]
        read = partial(read_image, size=size, channels=channels)
        splits[split] = ImageFiles([file for _, file in files], labels, keys, read)
    return images_dataset(
        f"folder:{path}", options, splits, tuple(classes), size, channels
    )


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
        preprocessing=Preprocessing((0.0,), (255.0,), classes=classes, image_size=size),
    )


Files = list[tuple[str, Path]]  # the class's name and the file


def _listed(root: Path) -> dict[str, Files]:
    """The files of each split that has a folder of its own, or of "all"."""
    names = {path.name for path in root.iterdir() if path.is_dir()}
    held_out = [name for name in ("validation", "val", "test") if name in names]
    if "train" not in names or not held_out:
        return {"all": _files(root)}
    if {"validation", "val"} <= names:
        raise ValueError(f"{root} has both a validation and a val folder")
    splits = {"val": "validation"}
    found = {splits.get(name, name): _files(root / name) for name in held_out}
    if len(found) == 1:
        (only,) = found.values()
        found = {"test": only}
    return {"train": _files(root / "train"), **found}


def _files(folder: Path) -> Files:
    found = []
    for part in sorted(folder.iterdir()):
        if part.is_dir() and not part.name.startswith("."):
            files = sorted(
                file
                for file in part.rglob("*")
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            )
            found += [(part.name, file) for file in files]
    return found


def _check(root: Path, split: str, files: Files, classes: Sequence[str]) -> None:
    where = root if split == "all" else root / split
    if not files:
        raise ValueError(
            f"there are no images in {where}: expected one folder for each class, with "
            f"files that end in {', '.join(SUFFIXES)}"
        )
    if len(classes) < 2:
        raise ValueError(f"{root} has one class alone, {classes[0]!r}; two are needed")
    if split == "all":
        counted = dict.fromkeys(classes, 0)
        for name, _ in files:
            counted[name] += 1
        for name, number in counted.items():
            if number < 2:
                raise ValueError(
                    f"class {name!r} in {root} has {number or 'no'} "
                    f"image{'' if number else 's'}; it needs one to learn from and one "
                    "to be tested on, at least"
                )


def _check_split(
    root: Path, split: str, labels: np.ndarray, classes: Sequence[str], seed: int
) -> None:
    missing = sorted(set(range(len(classes))) - set(labels.tolist()))
    if not len(labels) or (split == "train" and missing):
        what = f"of class {classes[missing[0]]!r} " if len(labels) else ""
        raise ValueError(
            f"no image {what}in {root} is in the {split} split with seed={seed}: add "
            "images, or split them by folders train, validation and test"
        )


def _split(root: Path, found: dict[str, Files], seed: int) -> dict[str, Files]:
    """Training, validation and test files."""
    if "validation" in found:
        return {name: found[name] for name in SPLITS}
    everything = found.get("all") or found["train"]
    keys = [file.relative_to(root).as_posix().encode() for _, file in everything]
    classes = sorted({name for name, _ in everything})
    labels = np.array([classes.index(name) for name, _ in everything])
    drawn = fair_parts(keys, labels, seed, names=classes, held_out="test" in found)
    parts: dict[str, Files] = {name: [] for name in SPLITS}
    for pair, part in zip(everything, drawn.tolist(), strict=True):
        parts[SPLITS[part]].append(pair)
    return parts | {"test": found["test"]} if "test" in found else parts


def _damaged(paths: Sequence[Path]) -> list[Path]:
    """The files that cannot be decoded."""

    def sound(path: Path) -> bool:
        try:
            read_image(path)
        except ValueError:
            return False
        return True

    sounds = parallel_map(sound, paths)
    return [path for path, good in zip(paths, sounds, strict=True) if not good]


def common_shape(
    paths: Sequence[Path], options: ImageOptions
) -> tuple[tuple[int, int], int]:
    """Height and width, and channels, by the files' headers where not given."""
    found = set(parallel_map(_header, paths))
    sizes = {size for size, _ in found}
    size = options.image_size
    if size is None:
        size = next(iter(sizes)) if len(sizes) == 1 else 224
        if len(sizes) > 1:
            shown = in_short(sorted(f"{h}x{w}" for h, w in sizes), 3)
            log.info("images of %s: all are brought to 224x224", shown)
    grey = all(is_grey for _, is_grey in found)
    channels = options.channels or (1 if grey else 3)
    return (size, size) if isinstance(size, int) else (size[0], size[1]), channels


def _header(path: Path) -> tuple[tuple[int, int], bool]:
    """Height and width of an image, and whether it is grey."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = orientation(image) > 4  # a camera on its side
            size = (image.width, image.height) if turned else image.size[::-1]
            return size, image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path} is no image that can be read: {error}; --data skip_corrupt=true "
            "leaves such files out"
        ) from None
