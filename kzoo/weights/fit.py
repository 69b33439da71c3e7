"""Whether arrays are weights of a model: their names, shapes, types and values."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kzoo.weights.tensors import is_floating

Shapes = Mapping[str, tuple[int, ...]]


def difference(
    left: Mapping[str, Any],
    right: Mapping[str, Any],
    sides: tuple[str, str] = ("the file", "the model"),
) -> str:
    """What two mappings disagree in, from both sides, in one line.

    >>> difference({"a": 1, "b": 2}, {"b": 3}, ("then", "now"))
    "'a' is 1 in then, missing in now; 'b' is 2 in then, 3 in now"
    """
    lines = []
    for key in sorted({*left, *right}):
        values = [side.get(key, "missing") for side in (left, right)]
        if values[0] != values[1]:
            both = zip(values, sides, strict=True)
            told = ", ".join(f"{value} in {side}" for value, side in both)
            lines.append(f"{key!r} is {told}")
    shown = lines[:8]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    return "; ".join(shown)


def check_shapes(found: Shapes, wanted: Shapes, source: str, name: str) -> None:
    """Compares what a file holds with what the model has.

    Raises:
        ValueError: they differ; the message shows both sides.
    """
    if dict(found) != dict(wanted):
        raise ValueError(f"{source} does not fit {name}: {difference(found, wanted)}")


def cast_exactly(array: np.ndarray, dtype: str, owner: str) -> np.ndarray:
    """The array in a weight's type.

    A floating type becomes another one, as the model's precision asks; integers keep
    their value.

    Raises:
        ValueError: numbers of another kind, an integer that the type does not have, or
            a number beyond its range.

    >>> cast_exactly(np.array([1, 2]), "uint8", "'seed'")
    array([1, 2], dtype=uint8)
    """
    wanted = np.dtype(dtype)
    if is_floating(wanted) != is_floating(array.dtype):
        raise ValueError(f"{owner} is of type {array.dtype}, the model's of {wanted}")
    with np.errstate(over="ignore"):
        cast = array.astype(wanted)
    if is_floating(wanted):
        lost = np.isfinite(array) & ~np.isfinite(cast)
        if lost.any():
            raise ValueError(f"{owner} holds {array[lost][0]}, beyond {wanted}")
    elif not np.array_equal(cast, array):
        raise ValueError(f"{owner} holds {array.dtype} that {wanted} does not have")
    return cast


def not_finite(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A line for each array that holds NaN or infinity."""
    for path, array in arrays.items():
        if is_floating(array.dtype):
            count = array.size - int(np.count_nonzero(np.isfinite(array)))
            if count:
                yield f"{count} of {array.size} values of {path!r} are NaN or infinite"


def in_one_line(error: BaseException, most: int = 400) -> str:
    r"""What an error says without its line breaks and colours.

    >>> in_one_line(ValueError("Two\n  lines."))
    'Two lines.'
    """
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    return shortened(text, most) or type(error).__name__


def in_short(value: Any, most: int = 60) -> str:
    """The value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except RecursionError:
        return type(value).__name__
    return shortened(text, most)


def shortened(text: str, most: int) -> str:
    """The text, cut where it is long."""
    return text if len(text) <= most else f"{text[: most - 3]}..."
