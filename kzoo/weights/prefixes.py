"""Prefixes that wrappers put before every name of a state dict.

``module.`` is PyTorch's DataParallel's, ``_orig_mod.`` torch.compile's, ``model.``
Lightning's; training code has others, and several at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def shared_prefixes(names: Iterable[str]) -> list[str]:
    """The dotted prefixes of more than half of the names, the shortest first.

    >>> shared_prefixes(["module.model.a.x", "module.model.b", "module.model.c", "d"])
    ['', 'module.', 'module.model.']
    """
    counts: Counter[str] = Counter()
    total = 0
    for name in names:
        total += 1
        end = name.find(".")
        while end >= 0:
            counts[name[: end + 1]] += 1
            end = name.find(".", end + 1) if name.count(".") < 64 else -1
    shared = [prefix for prefix, count in counts.items() if 2 * count > total]
    return ["", *sorted(shared, key=len)]


def stripped(arrays: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The arrays with the prefix off those names that have it.

    Raises:
        ValueError: two names would be one.

    >>> stripped({"module.a": 1, "b": 2}, "module.")
    {'a': 1, 'b': 2}
    """
    renamed = {name.removeprefix(prefix): array for name, array in arrays.items()}
    if len(renamed) < len(arrays):
        twice = next(n for n in arrays if prefix + n in arrays)
        raise ValueError(f"{twice!r} and {prefix + twice!r} are both in the file")
    return renamed


def fitting_prefix(names: Iterable[str], score: Callable[[str], int]) -> str:
    """The shared prefix without which most names fit; empty where none is better."""
    return max(shared_prefixes(names), key=score)


def common_prefix(names: Iterable[str]) -> str:
    """The longest dotted prefix of all names.

    >>> common_prefix(["encoder.q.a", "encoder.q.b"])
    'encoder.q.'
    """
    names = list(names)
    shared = shared_prefixes(names)
    return next(p for p in reversed(shared) if all(n.startswith(p) for n in names))
