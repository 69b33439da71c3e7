"""Weights in Keras's .h5 files, of Keras 3 and of Keras 2."""

from pathlib import Path
from typing import Any

import numpy as np

MAX_RATE = 10  # by which all that is read may be longer than the file


def read_h5(file: Path) -> dict[str, np.ndarray]:
    """``{layer}.{weight}``, of Keras 3's .weights.h5 and of the older .h5.

    Raises:
        ValueError: a damaged file, a link out of it, or a layout of neither.
    """
    import h5py

    size = file.stat().st_size
    if not size:
        raise ValueError(f"{file} is empty")
    try:
        with h5py.File(file, "r") as stored:
            if "layers" in stored:
                return _by_order(_Part(file, size, stored).group("layers"))
            top = _Part(file, size, stored)
            arrays = _by_name(
                top.group("model_weights") if "model_weights" in stored else top
            )
    except (OSError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        reason = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise ValueError(f"{file} is damaged: {reason[0][:200]}") from None
    if not arrays:
        raise ValueError(f"{file} holds no weights as Keras writes them")
    return arrays


class _Part:
    """A group of a file, opened without ever leaving the file."""

    def __init__(
        self,
        file: Path,
        size: int,
        group: Any,
        path: str = "",
        read: list[int] | None = None,
    ) -> None:
        self.file = file
        self.size = size
        self.stored = group
        self.path = path
        # Bytes of each dataset that was read: many links may lead to one of them.
        self.read = [] if read is None else read

    def names(self) -> list[str]:
        return list(self.stored)

    def group(self, name: str) -> "_Part":
        """The group of this name.

        Raises:
            ValueError: it is absent, no group, or lies in another file.
        """
        import h5py

        inner = self._member(name)
        if not isinstance(inner, h5py.Group):
            raise ValueError(f"{self.file} is damaged: {self.path}/{name} is no group")
        return _Part(self.file, self.size, inner, f"{self.path}/{name}", self.read)

    def array(self, name: str) -> np.ndarray:
        """The numbers of the dataset of this name.

        Raises:
            ValueError: it is absent, no dataset of numbers, or lies in another file.
        """
        import h5py

        inner = self._member(name)
        whole = f"{self.path}/{name}"
        if not isinstance(inner, h5py.Dataset):
            raise ValueError(f"{self.file} is damaged: {whole} is no dataset")
        if inner.external or inner.is_virtual:
            raise ValueError(f"{self.file}: {whole} lies in another file; not read")
        if inner.shape is None or inner.dtype.kind not in "fiub":
            raise ValueError(f"{self.file} is damaged: {whole} holds no numbers")
        if sum(self.read) + inner.nbytes > MAX_RATE * self.size:
            raise ValueError(
                f"{self.file} is damaged: {whole} says to be {inner.shape}, which with "
                f"the {len(self.read)} arrays before it is more than the file holds"
            )
        self.read.append(inner.nbytes)
        return np.array(inner)

    def _member(self, name: str) -> Any:
        import h5py

        inner = self.stored
        for part in name.strip("/").split("/"):
            if not isinstance(inner, h5py.Group):
                raise ValueError(
                    f"{self.file} is damaged: {self.path}/{name} is not in it"
                )
            link = inner.get(part, getlink=True) if part in (".", *inner) else None
            if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
                raise ValueError(
                    f"{self.file}: {self.path}/{name} is a link to elsewhere; not read"
                )
            if link is None:
                raise ValueError(
                    f"{self.file} is damaged: {self.path}/{name} is not in it"
                )
            inner = inner[part]
        return inner


def _by_order(layers: _Part) -> dict[str, np.ndarray]:
    """Keras 3 numbers a layer's weights; the layer says its own name."""
    arrays: dict[str, np.ndarray] = {}
    for key in layers.names():
        layer = layers.group(key)
        if "vars" not in layer.stored:
            continue
        stored = layer.group("vars")
        count = len(stored.names())
        if not count:
            continue
        name = stored.stored.attrs.get("name")
        own = [stored.array(str(i)) for i in range(count)]
        for array, kind in zip(own, _kinds([a.ndim for a in own]), strict=True):
            arrays[f"{name}.{kind}"] = array
    return arrays


def _kinds(ranks: list[int]) -> list[str]:
    """What a layer's weights are, by their number and ranks, in Keras's order."""
    if len(ranks) <= 2 and ranks[0] > 1:
        return ["kernel", "bias"][: len(ranks)]
    if len(ranks) == 4:
        return ["gamma", "beta", "moving_mean", "moving_variance"]
    if len(ranks) == 3:  # normalised without a scale
        return ["beta", "moving_mean", "moving_variance"]
    return [str(i) for i in range(len(ranks))]


def _by_name(layers: _Part) -> dict[str, np.ndarray]:
    """Keras 2: a group a layer, which lists its weights as ``layer/kernel:0``."""
    arrays: dict[str, np.ndarray] = {}
    for name in layers.names():
        layer = layers.group(name)
        for path in layer.stored.attrs.get("weight_names", ()):
            text = (
                path.decode("utf-8", "replace")
                if isinstance(path, bytes)
                else str(path)
            )
            kind = text.rpartition("/")[2].removesuffix(":0")
            kind = "kernel" if kind == "depthwise_kernel" else kind
            arrays[f"{name}.{kind}"] = layer.array(text)
    return arrays
