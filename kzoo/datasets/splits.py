"""Training, validation and test: which examples are in which, by a seed.

An example's split hangs on a hash of its key, never on its position: examples that come
or go leave the others where they are. Where a class is rare, or examples go together in
groups, chance alone would leave splits without it; those are shared out instead.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kzoo.datasets.examples import Split
from kzoo.hparams import in_short

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
SHARES = (0.7, 0.1, 0.2)
_HELD_OUT = (0.875, 0.125, 0.0)  # where the test examples are apart already
RARE = 100


def stratified_splits(
    inputs: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, Split]:
    """70/10/20, each class in its share, by the position of the examples."""
    return parted(inputs, labels, stratified_rows(labels, seed))


def stratified_rows(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The examples of each split of :func:`stratified_splits`."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    rest, test = train_test_split(
        rows, test_size=0.2, stratify=labels, random_state=seed
    )
    train, validation = train_test_split(
        rest, test_size=0.125, stratify=labels[rest], random_state=seed
    )
    return {"train": train, "validation": validation, "test": test}


def hashed_splits(
    inputs: Any, labels: np.ndarray, keys: Sequence[bytes], seed: int
) -> dict[str, Split]:
    """About 70/10/20 by a hash of the key: equal keys stay together."""
    return parted(inputs, labels, rows_of(hashed_parts(keys, seed)))


def parted(
    inputs: Any, labels: np.ndarray, rows: dict[str, np.ndarray]
) -> dict[str, Split]:
    """The examples of these rows for each split."""
    whole = Split(inputs, labels)
    return {name: Split(whole.rows(of), labels[of]) for name, of in rows.items()}


def rows_of(parts: np.ndarray) -> dict[str, np.ndarray]:
    """The examples of each split, where ``parts`` (examples,) has their splits."""
    return {name: np.flatnonzero(parts == i) for i, name in enumerate(SPLITS)}


def hashed_parts(
    keys: Iterable[bytes], seed: int, held_out: bool = False
) -> np.ndarray:
    """The split of each example (examples,), as a number of ``SPLITS``.

    Args:
        keys: of the examples; equal keys get the same split.
        seed: of the draw.
        held_out: the test examples are apart already: 7 to 1, without a test split.
    """
    draws = hashed_draws(seed, keys) * (0.8 if held_out else 1.0)
    return np.digitize(draws, (0.7, 0.8))


def split_of(key: bytes, seed: int) -> str:
    """Which split an example of this key is in: about 70/10/20."""
    return SPLITS[hashed_parts([key], seed)[0]]


def hashed_draws(seed: int, keys: Iterable[bytes]) -> np.ndarray:
    """A number in [0, 1) for each key, that is the key's own."""
    digests = (hashlib.sha256(f"{seed}/".encode() + key).digest() for key in keys)
    return np.array([int.from_bytes(one[:8], "big") / 2**64 for one in digests])


def fair_parts(
    keys: Iterable[bytes],
    labels: np.ndarray | None,
    seed: int,
    *,
    parts: np.ndarray | None = None,
    names: Sequence[str] = (),
    held_out: bool = False,
) -> np.ndarray:
    """The split of each example, with each rare class in its share of every split.

    A class is rare if it has fewer than ``RARE`` = 100 examples. A hash puts 10 +- 3 of
    100 into validation; of 20 it puts none there once in 8 times. A rare class that a
    hash leaves with less than its whole share of validation or test, or untrained, is
    split by itself: its keys in the order of their draws, the lowest 70 % for
    training, then 10 and 20 %, at least one each where it has three. Most examples
    keep the split that the hash gave them. Nothing hangs on the examples' order.

    Args:
        keys: of the examples; equal keys stay together.
        labels: the class of each example (examples,), any integers; None = no classes,
            and examples are shared out only if a split would be empty.
        seed: of the draws.
        parts: the splits where no class is rare, as numbers of ``SPLITS``; None = by a
            hash of the keys.
        names: of the classes 0, 1, ..., for the log.
        held_out: the test examples are apart already.

    Returns:
        Numbers of ``SPLITS`` (examples,).

    Example:
        >>> keys = [b"%d" % i for i in range(3)]
        >>> sorted(fair_parts(keys, np.array([7, 7, 7]), seed=0).tolist())
        [0, 1, 2]
    """
    if parts is None:
        keys = list(keys)
        parts = hashed_parts(keys, seed, held_out)
    shares = np.array(_HELD_OUT if held_out else SHARES)
    if labels is None:
        if len(set(parts.tolist())) == np.count_nonzero(shares):
            return parts
        labels, names = np.zeros(len(parts), int), ("all examples",)
    short = [
        (label, rows)
        for label, rows in _by_class(labels)
        if len(rows) < RARE and _is_short(parts[rows], shares)
    ]
    if not short:
        return parts
    number, draws = _numbered(keys, seed)
    moved = np.full(len(draws), -1)  # the new split of each key
    for _, rows in short:
        own, sizes = np.unique(number[rows], return_counts=True)
        free = moved[own] < 0  # a key of several classes is the first one's
        own, sizes = own[free], sizes[free]
        order = np.argsort(draws[own])
        moved[own[order]] = _cut(sizes[order], shares)
    shown = [f"{names[one] if names else one} ({len(rows)})" for one, rows in short]
    log.info(
        "rare classes are split by themselves, so that each split has its share: %s",
        in_short(shown),
    )
    drawn = moved[number]
    return np.where(drawn < 0, parts, drawn)


def _numbered(keys: Iterable[bytes], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each example's key (examples,), and each key's draw (keys,)."""
    numbers: dict[bytes, int] = {}
    number = [numbers.setdefault(key, len(numbers)) for key in keys]
    return np.array(number), hashed_draws(seed, numbers)


def _by_class(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each class, from the least, and the rows of its examples."""
    classes, counts = np.unique(labels, return_counts=True)
    rows = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    return zip(classes.tolist(), rows, strict=True)


def _is_short(parts: np.ndarray, shares: np.ndarray) -> bool:
    """Whether a split holds less of a class than its whole share."""
    counts = np.bincount(parts, minlength=3)
    least = np.floor(shares * len(parts) + 1e-9)
    least[0] = 1  # as long as the others have theirs
    wanted = (1, 3, 2)  # examples of the class, for one of them to be in the split
    least = np.maximum(least, (len(parts) >= np.array(wanted)) & (shares > 0))
    return bool((counts < least).any())


def _cut(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The splits of a class's keys, in the order of their draws.

    Args:
        sizes: examples of each key.
        shares: of the splits.
    """
    middles = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    validation, test = np.searchsorted(middles, np.cumsum(shares[:2]) - 1e-9)
    if shares[2] and len(sizes) > 1:
        test = min(test, len(sizes) - 1)
    if shares[1] and len(sizes) > (2 if shares[2] else 1):
        validation = min(validation, test - 1)
    parts = np.zeros(len(sizes), int)
    parts[validation:test], parts[test:] = 1, 2
    return parts


def grouped_parts(
    groups: Sequence[str],
    labels: np.ndarray | None,
    seed: int,
    *,
    names: Sequence[str] = (),
    held_out: bool = False,
) -> np.ndarray:
    """The split of each example, where those of one group go together.

    A group is in a split by a hash of its name. The groups of a class that is in fewer
    than ``RARE`` = 100 of them are shared out instead, as scikit-learn's
    StratifiedGroupKFold does it: the largest first, each to the split that lacks most
    of its classes, measured by the split's share.

    Args:
        groups: the name of each example's group (examples,).
        labels: the class of each example; None = targets of a regression.
        seed: of the draws.
        names: of the classes, for the error.
        held_out: the test examples are apart already.

    Returns:
        Numbers of ``SPLITS`` (examples,).

    Raises:
        ValueError: the groups are too few for all splits, or for a class to be trained.

    Example:
        >>> patients = ["ann", "bob", "cem", "dee", "eve"] * 4
        >>> parts = grouped_parts(patients, np.arange(20) % 2, seed=0)
        >>> np.bincount(parts)
        array([12,  4,  4])
    """
    keys = [group.encode("utf-8", "surrogatepass") for group in groups]
    number, draws = _numbered(keys, seed)
    parts = hashed_parts(keys, seed, held_out)
    labels = np.zeros(len(groups), int) if labels is None else labels
    rare = [
        rows for _, rows in _by_class(labels) if len(np.unique(number[rows])) < RARE
    ]
    if rare:
        shares = np.array(_HELD_OUT if held_out else SHARES)
        moved = np.full(len(draws), -1)
        _share_out(number, draws, rare, shares, moved)
        drawn = moved[number]
        parts = np.where(drawn < 0, parts, drawn)
    for i, name in enumerate(SPLITS[: 2 if held_out else 3]):
        if not (parts == i).any():
            raise ValueError(
                f"{len(draws)} group{'s are' if len(draws) > 1 else ' is'} too few to "
                f"split by groups: no {name} example"
            )
    untrained = np.setdiff1d(labels, labels[parts == 0])
    if len(untrained):
        label = int(untrained[0])
        raise ValueError(
            f"the class {names[label] if names else label!r} has no training example: "
            "its groups are in other splits; give it more groups"
        )
    return parts


def _share_out(
    number: np.ndarray,
    draws: np.ndarray,
    rare: Sequence[np.ndarray],
    shares: np.ndarray,
    moved: np.ndarray,
) -> None:
    """Writes the splits of all groups that have examples of rare classes.

    Args:
        number: of each example's group (examples,).
        draws: of each group.
        rare: the rows of each rare class.
        shares: of the splits.
        moved: the split of each group, to be written.
    """
    # What part of each rare class a group holds, and in the last column, of them all.
    columns = [*rare, np.concatenate(rare)]
    held: dict[int, tuple[list[int], list[float]]] = {}
    for column, rows in enumerate(columns):
        own, counts = np.unique(number[rows], return_counts=True)
        for group, count in zip(own.tolist(), counts.tolist(), strict=True):
            at, parts = held.setdefault(group, ([], []))
            at.append(column)
            parts.append(count / len(rows))
    filled = np.zeros((len(shares), len(columns)))
    filled[shares == 0] = np.inf
    safe = np.where(shares > 0, shares, 1.0)[:, None]
    for group in sorted(held, key=lambda one: (-max(held[one][1]), draws[one])):
        at, part = held[group][0], np.array(held[group][1])
        lacking = 1 - filled[:, at] / safe
        lacking[0] += filled[0, at] == 0  # what is not trained cannot be tested
        split = int((lacking @ part).argmax())
        filled[split, at] += part
        moved[group] = split
