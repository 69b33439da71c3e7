"""Raw examples of a split, and the fingerprint that tells them from others."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# An array, or a dict of arrays by the fixed names of a model's inputs: tokens,
# padding_mask, segment_ids, decoder_tokens, first, second. Texts are arrays of str,
# of dtype object.
Inputs = Any


class Examples(Protocol):
    """The raw examples of one split, wherever they lie."""

    @property
    def labels(self) -> np.ndarray:
        """One row an example: (examples,), or (examples, time) with -1 for padding."""

    def __len__(self) -> int: ...

    def rows(self, index: np.ndarray) -> Inputs:
        """The raw inputs of these examples, read now."""

    def contents(self) -> Iterator[bytes]:
        """Bytes that tell these examples from others, for the fingerprint."""


@dataclass(frozen=True)
class Split:
    """Examples in memory: inputs (examples, ...), or a dict of such, and labels."""

    inputs: Inputs
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: np.ndarray) -> Inputs:
        """The inputs of these examples."""
        if isinstance(self.inputs, dict):
            return {name: array[index] for name, array in self.inputs.items()}
        return self.inputs[index]

    def contents(self) -> Iterator[bytes]:
        """Shape, type and bytes of each array."""
        if isinstance(self.inputs, dict):
            for name in sorted(self.inputs):
                yield name.encode() + b" " + array_bytes(self.inputs[name])
        else:
            yield array_bytes(self.inputs)
        yield array_bytes(self.labels)


def fingerprint(splits: Mapping[str, Examples]) -> str:
    """sha256 of the names, shapes, types and bytes of all splits."""
    digest = hashlib.sha256()
    for name in sorted(splits):
        for piece in splits[name].contents():
            digest.update(f"{name} ".encode())
            digest.update(piece)
    return digest.hexdigest()


def array_bytes(array: np.ndarray) -> bytes:
    """Shape, type and contents of an array; of an array of texts, their UTF-8."""
    head = f"{array.shape} {array.dtype.str} ".encode()
    if array.dtype == object:
        texts = [text.encode("utf-8", "surrogatepass") for text in array.ravel()]
        return head + b"".join(b"%d %s" % (len(text), text) for text in texts)
    return head + np.ascontiguousarray(array).tobytes()
