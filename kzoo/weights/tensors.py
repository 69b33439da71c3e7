"""Tensors of .safetensors files, in every type of number that weights come in."""

import json
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

# Types that numpy has no name for, by the name that the format gives them.
NARROW_FLOATS: dict[str, Any] = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}
NUMPY = {"F64", "F32", "F16", "BOOL"} | {
    f"{s}{n}" for s in "IU" for n in (8, 16, 32, 64)
}


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, each in its stored type.

    Raises:
        ValueError: a damaged file, or a type of number that weights do not have here.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            types = {name: str(file.get_slice(name).get_dtype()) for name in names}
            for name, kind in types.items():
                if kind not in NUMPY | NARROW_FLOATS.keys():
                    raise ValueError(
                        f"{path}: {name!r} is of type {kind}; weights are read from "
                        f"{', '.join(sorted(NUMPY | NARROW_FLOATS.keys()))}"
                    )
            arrays = {n: file.get_tensor(n) for n in names if types[n] in NUMPY}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    narrow = {name: types[name] for name in names if name not in arrays}
    return arrays | (_narrow_arrays(path, narrow) if narrow else {})


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file by name; reads no tensor.

    Raises:
        ValueError: a damaged file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether weights may be of this type.

    >>> is_floating(np.dtype(ml_dtypes.bfloat16)), is_floating(np.dtype("int32"))
    (True, False)
    """
    return dtype.type in NARROW_FLOATS.values() or np.issubdtype(dtype, np.floating)


def widened(array: np.ndarray) -> np.ndarray:
    """The same values in float32 where the type is one that numpy has no name for."""
    if array.dtype.type in NARROW_FLOATS.values():
        return array.astype("float32")
    return array


def _narrow_arrays(path: Path, types: dict[str, str]) -> dict[str, np.ndarray]:
    """Tensors of a file whose header was checked already."""
    arrays = {}
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        for name, kind in types.items():
            begin, end = header[name]["data_offsets"]
            file.seek(8 + length + begin)
            flat = np.frombuffer(file.read(end - begin), NARROW_FLOATS[kind])
            arrays[name] = flat.reshape(header[name]["shape"])
    return arrays
