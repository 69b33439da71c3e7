"""Images in folders, one folder a class: ``folder:PATH``.

    photographs/cat/1.jpg    photographs/dog/1.jpg    ...

Files are decoded when their batch is made; small sets stay in memory after that.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kzoo.datasets.dataset import Dataset
from kzoo.datasets.image_files import (
    SUFFIXES,
    Found,
    find_images,
    is_ignored,
    kinds,
    log_left_out,
    similar_names,
    visible_folders,
)
from kzoo.datasets.images import ImageFiles, ImageOptions, images_dataset, reading
from kzoo.datasets.loading import parallel_map
from kzoo.datasets.splits import SPLITS, fair_parts
from kzoo.hparams import hp, in_short
from kzoo.preprocessing.images import read_image

log = logging.getLogger(__name__)

# What folders of splits are called, in any case; "Training_set" and "val2017" too.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SUFFIX_OF_SPLITS = re.compile(
    r"[\s_.-]*(sets?|data|dataset|splits?|images|imgs)?[\s_.-]*((19|20)\d\d)?$"
)


@dataclass(frozen=True, kw_only=True)
class FolderOptions(ImageOptions):
    """Options of ``folder:PATH``."""

    skip_corrupt: bool = hp(
        False, "decode all images first, and leave out those that cannot be read"
    )


def from_folder(path: str, options: FolderOptions) -> Dataset:
    """The images under a folder, each in the folder of its class.

    Folders of splits on top of these, such as ``train``, ``val`` and ``Test``, are the
    splits; see ``SPLIT_NAMES``. Where validation or test is missing, the other one is
    the test split, and an eighth of the training images validates. Without such
    folders each file is in a split by a hash of its path: 70, 10 and 20 %.

    Raises:
        ValueError: no such folder, no classes or images, too few of one class, or
            folders that may be splits or classes.
    """
    root = existing_folder(path)
    folders = _split_folders(root)
    listed = {split: _class_folders(folder, root) for split, folder in folders.items()}
    log_left_out(root, [one for parts in listed.values() for one in parts.values()])
    found = {
        split: [(part.name, file) for part, one in parts.items() for file in one.images]
        for split, parts in listed.items()
    }
    classes = sorted({name for files in found.values() for name, _ in files})
    for split, files in found.items():
        _check(folders[split], split, files, classes)
    for group in similar_names(classes):
        log.warning(
            "%s are %s classes of %s, though their names hardly differ",
            " and ".join(map(repr, group)),
            len(group),
            root,
        )
    if options.skip_corrupt:
        found = _without_damaged(root, found)
        for split, files in found.items():
            _check(folders[split], split, files, classes)
    paths = [file for files in found.values() for _, file in files]
    read = reading(paths, options, ADVICE)
    parts = _split(root, found, options.seed)
    splits = {}
    for split, files in parts.items():
        labels = np.array([classes.index(name) for name, _ in files], "int32")
        _check_split(root, split, labels, classes, options.seed)
        keys = [read.key(file.relative_to(root).as_posix(), file) for _, file in files]
        splits[split] = ImageFiles([file for _, file in files], labels, keys, read)
    return images_dataset(
        f"folder:{path}", options, splits, tuple(classes), read.size, read.channels
    )


def existing_folder(path: str) -> Path:
    """The folder; a ``ValueError`` where there is none."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"folder:{path}: there is no folder {root}")
    return root


ADVICE = "; --data skip_corrupt=true leaves such files out"
Files = list[tuple[str, Path]]  # the class's name and the file


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split, or of "all" where the folders are classes.

    Raises:
        ValueError: folders that may be either, or two of one split.
    """
    named: dict[str, list[Path]] = {}
    others = []
    for folder in visible_folders(root):
        split = split_named(folder.name)
        if split is None:
            others.append(folder)
        else:
            named.setdefault(split, []).append(folder)
    likely = sorted(folder for folders in named.values() for folder in folders)
    if not likely:
        return {"all": root}
    others = [folder for folder in others if find_images(folder, root).images]
    shown = ", ".join(folder.name for folder in likely)
    complete = "train" in named and len(named) > 1
    hold_classes = any(_holds_classes(folder, root) for folder in likely)
    if others and not hold_classes and not complete:
        log.warning(
            "%s in %s, which holds images itself, is a class, not a split", shown, root
        )
        return {"all": root}
    if others and not (hold_classes and complete):
        raise ValueError(
            f"{root} holds {shown}, named as a split is, beside {_shown(others)}: put "
            "all classes into folders train, validation and test, or rename it"
        )
    for split, folders in named.items():
        if len(folders) > 1:
            raise ValueError(
                f"{root} has two folders for the {split} split, "
                f"{' and '.join(folder.name for folder in folders)}: leave one"
            )
    if not complete:
        only = likely[0]
        hint = (
            f", or give folder:{only} to split its images" if len(likely) == 1 else ""
        )
        raise ValueError(
            f"{root} has the folder {shown} of a split, and "
            f"{'no other' if 'train' in named else 'none of the training split'}: add "
            f"{'validation or test' if 'train' in named else 'train'}{hint}"
        )
    if others:
        log.warning("%s has the splits %s; %s left out", root, shown, _shown(others))
    order = [split for split in SPLIT_NAMES if split in named]
    if len(order) == 2:
        return {"train": named["train"][0], "test": named[order[1]][0]}
    return {split: named[split][0] for split in order}


def split_named(name: str) -> str | None:
    """The split that a folder of this name holds.

    >>> [split_named(name) for name in ("Train", "valid", "test_set", "cat")]
    ['train', 'validation', 'test', None]
    """
    word = SUFFIX_OF_SPLITS.sub("", name.strip().casefold())
    return next((key for key, words in SPLIT_NAMES.items() if word in words), None)


def _holds_classes(folder: Path, root: Path) -> bool:
    """Whether there are images in its subfolders, and none in itself."""
    images = find_images(folder, root).images
    return bool(images) and all(image.parent != folder for image in images)


def _shown(folders: Sequence[Path]) -> str:
    return in_short([f"{folder.name}/" for folder in folders], 3)


def _class_folders(folder: Path, root: Path) -> dict[Path, Found]:
    """What lies in each class folder; images in none, and empty ones, are logged."""
    parts = {part: find_images(part, root) for part in visible_folders(folder)}
    loose = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not is_ignored(path.name)
    ]
    if loose and any(found.images for found in parts.values()):
        log.warning(
            "%s image%s directly in %s, such as %s, in no class, and left out",
            len(loose),
            " lies" if len(loose) == 1 else "s lie",
            folder,
            min(loose),
        )
    for part, found in parts.items():
        if not found.images:
            log.warning("%s is no class: %s", part, _why_empty(found))
    return parts


def _why_empty(found: Found) -> str:
    if not found.others:
        return "it holds no image"
    return f"it holds no image that kzoo reads, but {kinds(found.others)}"


def _check(folder: Path, split: str, files: Files, classes: Sequence[str]) -> None:
    if not files:
        raise ValueError(
            f"there are no images in {folder}: expected one folder for each class, "
            f"with files that end in {', '.join(SUFFIXES)}{_what_is_there(folder)}"
        )
    if len(classes) < 2:
        inner = folder / classes[0]
        nested = sum(bool(find_images(sub).images) for sub in visible_folders(inner))
        hint = f"; is it folder:{inner}?" if nested > 1 else ""
        raise ValueError(
            f"{folder} has one class alone, {classes[0]!r}; two are needed{hint}"
        )
    if split == "all":
        counted = dict.fromkeys(classes, 0)
        for name, _ in files:
            counted[name] += 1
        for name, number in counted.items():
            if number < 2:
                raise ValueError(
                    f"class {name!r} in {folder} has {number or 'no'} "
                    f"image{'' if number else 's'}; it needs one to learn from and one "
                    "to be tested on, at least"
                )


def _what_is_there(folder: Path) -> str:
    """The end of an error: files of other kinds, or images in no class folder."""
    found = find_images(folder)
    if found.images:
        return f"; {found.images[0]} is in none"
    return f"; there are {kinds(found.others)}" if found.others else ""


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
    keys = [os.fsencode(file.relative_to(root).as_posix()) for _, file in everything]
    classes = sorted({name for name, _ in everything})
    labels = np.array([classes.index(name) for name, _ in everything])
    drawn = fair_parts(keys, labels, seed, names=classes, held_out="test" in found)
    parts: dict[str, Files] = {name: [] for name in SPLITS}
    for pair, part in zip(everything, drawn.tolist(), strict=True):
        parts[SPLITS[part]].append(pair)
    return parts | {"test": found["test"]} if "test" in found else parts


def _without_damaged(root: Path, found: Mapping[str, Files]) -> dict[str, Files]:
    """The files that can be decoded; the others are logged."""
    paths = [file for files in found.values() for _, file in files]
    left_out = set(_damaged(paths))
    if left_out:
        log.warning(
            "%s of %s images under %s cannot be read and are left out, such as %s",
            len(left_out),
            len(paths),
            root,
            min(left_out),
        )
    return {
        split: [pair for pair in files if pair[1] not in left_out]
        for split, files in found.items()
    }


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
