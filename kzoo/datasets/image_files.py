"""Finding image files under a folder, the same way for training and prediction."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kzoo.hparams import in_short

log = logging.getLogger(__name__)

SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".dib",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
# Left behind by file managers and archivers; hidden files (".*") are ignored as well.
IGNORED = frozenset({"__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin"})


@dataclass
class Found:
    """What lies under a folder.

    Attributes:
        images: the image files, sorted by path.
        others: the files of other kinds, sorted by path.
        links: links to folders that were not followed.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden or left by a file manager."""
    return name.startswith(".") or name.lower() in IGNORED


def visible_folders(folder: Path) -> list[Path]:
    """The subfolders that are not ignored, sorted by path."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not is_ignored(p.name))


def find_images(folder: Path, root: Path | None = None) -> Found:
    """The image files under a folder, at any depth.

    Hidden files and folders are ignored. A link to a folder outside of ``root`` is
    followed, once; a link to a folder inside it would give images twice, or never end,
    and is listed instead.

    Args:
        folder: where to look.
        root: the data that the folder is a part of; None = the folder.

    Raises:
        OSError: a folder that cannot be read.
    """
    found = Found()
    inside = {Path(folder).resolve(), Path(root or folder).resolve()}
    followed: set[Path] = set()

    def fail(error: OSError) -> None:
        raise error

    def goes_on(link: Path) -> bool:
        target = link.resolve()
        nested = any(
            target.is_relative_to(one) or one.is_relative_to(target)
            for one in inside | followed
        )
        if nested:
            found.links.append(link)
        else:
            followed.add(target)
        return not nested

    for where, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [
            name
            for name in sorted(folders)
            if not is_ignored(name)
            and (not (link := Path(where, name)).is_symlink() or goes_on(link))
        ]
        for file in (Path(where, name) for name in names if not is_ignored(name)):
            # A broken link is reported where it is read; a pipe would never end.
            is_image = file.suffix.lower() in SUFFIXES
            if is_image and (file.is_file() or file.is_symlink()):
                found.images.append(file)
            else:
                found.others.append(file)
    found.images.sort()
    found.others.sort()
    return found


def log_left_out(where: Path, parts: Iterable[Found]) -> None:
    """Logs how many files of other kinds were left out, and links not followed."""
    parts = list(parts)
    others = [file for part in parts for file in part.others]
    links = [link for part in parts for link in part.links]
    if others:
        log.info(
            "%s under %s %s no image that kzoo reads, and left out: %s, such as %s",
            "1 file" if len(others) == 1 else f"{len(others)} files",
            where,
            "is" if len(others) == 1 else "are",
            kinds(others),
            others[0],
        )
    if links:
        log.warning(
            "links to folders that are read already are not followed: %s",
            in_short([str(link) for link in links], 3),
        )


def kinds(files: Sequence[Path]) -> str:
    """How many files there are of each suffix, the most frequent first.

    >>> kinds([Path("a.heic"), Path("b.HEIC"), Path("c")])
    '2 .heic, 1 without a suffix'
    """
    counted = Counter(file.suffix.lower() or "without a suffix" for file in files)
    return in_short([f"{n} {suffix}" for suffix, n in counted.most_common()], 5)


def similar_names(names: Iterable[str]) -> Iterator[list[str]]:
    """Groups of names that differ by case, spaces, zeros or Unicode form alone.

    >>> list(similar_names(["cat", "Cat ", "dog", "1", "01"]))
    [['Cat ', 'cat'], ['01', '1']]
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        key = unicodedata.normalize("NFKC", name).casefold()
        key = "".join(key.split())
        groups.setdefault(key.lstrip("0") if key.isdecimal() else key, []).append(name)
    yield from (group for group in groups.values() if len(group) > 1)
