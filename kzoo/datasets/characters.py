"""Augmentation of raw texts, an array of str (batch,), a character at a time.

All characters of the batch are drawn for at once; a text that would be left empty, or
has nothing to exchange, stays as it is.
"""

import numpy as np


def drop(texts: np.ndarray, rng: np.random.Generator, rate: float) -> np.ndarray:
    """Leaves out this share of the characters."""
    points, ends = code_points(texts)
    kept = rng.random(len(points)) >= rate
    pieces = zip(np.split(points, ends), np.split(kept, ends), strict=True)
    return _texts([piece[keep] if keep.any() else piece for piece, keep in pieces])


def swap(texts: np.ndarray, rng: np.random.Generator, rate: float) -> np.ndarray:
    """Exchanges this share of the characters with the next one in the same text."""
    points, ends = code_points(texts)
    chosen = rng.random(len(points)) < rate
    chosen[1:] &= ~chosen[:-1]  # one that has moved stays where it is
    last = np.concatenate([ends, [len(points)]]) - 1
    chosen[last[last >= 0]] = False
    first = np.flatnonzero(chosen)
    swapped = points.copy()
    swapped[first], swapped[first + 1] = points[first + 1], points[first]
    return _texts(np.split(swapped, ends))


def code_points(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All characters in a row as numbers, and where each text but the last ends."""
    whole = "".join(texts).encode("utf-32-le", "surrogatepass")
    return np.frombuffer(whole, "<u4"), np.cumsum([len(text) for text in texts])[:-1]


def _texts(pieces: list[np.ndarray]) -> np.ndarray:
    texts = np.empty(len(pieces), object)
    texts[:] = [
        piece.tobytes().decode("utf-32-le", "surrogatepass") for piece in pieces
    ]
    return texts
