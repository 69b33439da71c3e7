"""What people hold in memory, as numpy arrays: lists, tensors, series and data frames.

Data frames are known by what they can do, so that no library of them is needed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kzoo.hparams import in_short, nearest

FLOAT32_MAX = float(np.finfo("float32").max)


def as_array(value: Any, what: str) -> np.ndarray:
    """The value as an array in this machine's byte order; texts are of dtype object.

    Args:
        value: an array of numpy, JAX, PyTorch or TensorFlow, a series or lists.
        what: it is, for errors.

    Raises:
        ValueError: something is masked or missing, rows differ in length, or the
            elements are neither numbers nor texts.

    Example:
        >>> as_array([[1, 2.5], [3, 4]], "inputs").dtype, as_array(["a"], "x").dtype
        (dtype('float64'), dtype('O'))
    """
    if hasattr(value, "detach"):  # PyTorch's
        value = value.detach().cpu().numpy()
    if hasattr(value, "toarray"):
        raise ValueError(
            f"{what} are a sparse {type(value).__name__}; pass its .toarray()"
        )
    if hasattr(value, "dense_shape"):
        raise ValueError(f"{what} are sparse; pass them through tf.sparse.to_dense")
    if isinstance(value, np.ma.MaskedArray):
        return as_array(_unmasked(value, what), what)
    if isinstance(value, list | tuple):
        value = _of_list(value, what)
    array = np.asarray(value)
    if array.dtype.kind == "V":
        raise ValueError(f"{what} are of {array.dtype}: pass an array of one type")
    if array.dtype == object and not array.ndim and not isinstance(value, np.ndarray):
        pad = "; pad it, as by .to_tensor()" if hasattr(value, "to_tensor") else ""
        raise ValueError(f"{what} are {type(value).__name__}, no array{pad}")
    if array.dtype == object:
        array = _of_objects(array, what)
    elif array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8").astype(object)
    elif array.dtype.kind == "U":  # in which each text has the room of the longest
        array = array.astype(object)
    elif array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype("float64")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def _unmasked(value: np.ma.MaskedArray, what: str) -> np.ndarray:
    masked = np.argwhere(np.ma.getmaskarray(value))
    if len(masked):
        raise ValueError(
            f"{what} are masked, first at {position(masked[0])}: fill them in, as by "
            ".filled(0), or leave those examples out"
        )
    return value.data


def _of_list(value: Sequence[Any], what: str) -> Any:
    """A list, as numpy would take it but for texts and masks, which it spoils."""
    for i, one in enumerate(value):
        if isinstance(one, np.ma.MaskedArray) and np.ma.getmaskarray(one).any():
            raise ValueError(f"{what} are masked, first in row {i}")
    if any(isinstance(one, str) for one in value):
        array = np.empty(len(value), object)
        array[:] = value
        return array
    if any(hasattr(one, "detach") for one in value):
        value = [as_array(one, what) for one in value]
    try:
        return np.asarray(value)
    except ValueError:
        lengths = [len(one) if hasattr(one, "__len__") else 0 for one in value]
        odd = next((i for i, n in enumerate(lengths) if n != lengths[0]), 0)
        raise ValueError(
            f"{what}: row 0 has {lengths[0]} elements, row {odd} has {lengths[odd]}; "
            "all must have one shape: pad or cut them"
        ) from None


def _of_objects(array: np.ndarray, what: str) -> np.ndarray:
    """Texts stay objects; numbers get a type of numbers."""
    flat = array.ravel()
    if all(isinstance(one, str) for one in flat):
        return array
    if all(isinstance(one, bytes) for one in flat):  # TensorFlow's texts
        decoded = [one.decode() for one in flat]
        return np.array(decoded, object).reshape(array.shape)
    for i, one in enumerate(flat.tolist()):
        at = position(np.unravel_index(i, array.shape))
        if one is None or one is np.ma.masked or str(one) in ("nan", "<NA>", "NaT"):
            raise ValueError(f"{what} are missing at {at} ({one})")
        if not isinstance(one, bool | int | float | str | np.generic | np.ndarray):
            raise ValueError(
                f"{what} hold {type(one).__name__} at {at}, neither number nor text"
            )
    if any(isinstance(one, str) for one in flat):
        i = next(i for i, one in enumerate(flat) if not isinstance(one, str))
        at = position(np.unravel_index(i, array.shape))
        raise ValueError(f"{what} mix texts and numbers: {flat[i]!r} at {at}")
    if any(isinstance(one, np.ndarray) for one in flat):
        return _of_list_of_arrays(flat.tolist(), what)
    try:
        return np.array(flat.tolist()).reshape(array.shape)
    except OverflowError:
        raise ValueError(f"{what} hold integers of over 64 bits") from None


def _of_list_of_arrays(rows: list[Any], what: str) -> np.ndarray:
    found: np.ndarray = np.asarray(_of_list(rows, what))
    if found.dtype == object:
        raise ValueError(f"{what}: rows differ in shape or type")
    return found


def position(index: Sequence[Any]) -> str:
    """Where in an array: ``row 7, column 2``."""
    if not len(index):
        return "their only element"
    row, *rest = (int(i) for i in index)
    if not rest:
        return f"row {row}"
    column = rest[0] if len(rest) == 1 else rest
    return f"row {row}, column {column}"


def is_frame(value: Any) -> bool:
    """Whether this is a table with named columns, as of pandas or polars."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def frame_inputs(
    frame: Any, what: str, wanted: Sequence[str] = ()
) -> tuple[Any, tuple[str, ...]]:
    """The inputs that a data frame holds, and the names of its columns.

    Columns of numbers and booleans are vectors (rows, columns) in float64; one column
    of texts is texts, two are pairs.

    Args:
        frame: of pandas or polars.
        what: it is, for errors.
        wanted: the columns to take, in this order; empty = all.

    Raises:
        ValueError: a column is missing, or holds categories or times.
    """
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{what} have two columns {twice!r}")
    for name in wanted:
        if name not in names:
            raise ValueError(f"{what} have no column {name!r}{nearest(name, names)}")
    named = dict(zip(names, frame.columns, strict=True))
    taken = tuple(wanted or names)
    if not taken:
        raise ValueError(f"{what} have no columns")
    columns = {
        name: as_array(_column(frame, named[name]), f"{what}: column {name!r}")
        for name in taken
    }
    texts = [name for name, one in columns.items() if one.dtype == object]
    if len(texts) == len(taken) <= 2:
        arrays = list(columns.values())
        two = dict(zip(("first", "second"), arrays, strict=False))
        return (arrays[0] if len(arrays) == 1 else two), taken
    if texts:
        raise ValueError(
            f"{what} have columns of texts or categories beside others, "
            f"{in_short(texts)}: encode them, as by pandas.get_dummies, or leave them "
            "out"
        )
    for name, one in columns.items():
        if one.dtype.kind not in "biuf" or one.ndim != 1:
            raise ValueError(f"{what}: column {name!r} holds {one.dtype}, no numbers")
    stacked = np.stack([one.astype("float64") for one in columns.values()], 1)
    return stacked, taken


def _column(frame: Any, name: Any) -> Any:
    column = frame[name]
    return column.to_numpy() if hasattr(column, "to_numpy") else column


def check_aligned(inputs: Any, labels: Any, where: str) -> None:
    """Raises a ``ValueError`` where both have the same index in different orders."""
    ours: Any = getattr(inputs, "index", None)
    theirs: Any = getattr(labels, "index", None)
    if not (hasattr(ours, "equals") and hasattr(theirs, "equals")):
        return
    if not ours.equals(theirs) and ours.sort_values().equals(theirs.sort_values()):
        raise ValueError(
            f"{where}inputs and labels have the same index in different orders: bring "
            "them into one order, as by labels.loc[inputs.index]"
        )


def check_finite(array: np.ndarray, what: str, columns: Sequence[str] = ()) -> None:
    """Raises a ``ValueError`` that says where the first NaN or infinity is."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    index = np.argwhere(~np.isfinite(array))[0]
    at = position(index)
    if columns and len(index) == 2:
        at = f"row {index[0]}, column {columns[index[1]]!r}"
    raise ValueError(f"{what} hold NaN or infinity, first in {at}")
