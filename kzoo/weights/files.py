"""State dicts in files: .safetensors, PyTorch's .pth, .pt, .ckpt and .bin, Keras's .h5.

None of the readers runs what a file says. Suffixes count in any case.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kzoo.weights.h5_files import read_h5
from kzoo.weights.tensors import read_tensors, widened
from kzoo.weights.torch_files import StateDict, import_torch, read_torch

TORCH = (".pth", ".pth.tar", ".pt", ".ckpt", ".bin")
READERS = (".safetensors", *TORCH, ".h5")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by its own names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of another kind, or a damaged one.
    """
    return read_checkpoint(path).arrays


def read_checkpoint(path: str | os.PathLike[str], ema: bool = False) -> StateDict:
    """The arrays of a file, and which of its state dicts they are.

    Args:
        path: a file of one of ``READERS``.
        ema: take the averaged weights of a file that holds both.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of another kind, or a damaged one; or there are no averaged
            weights where they are asked for.
    """
    file = Path(path)
    check_readable(file)
    if file.name.lower().endswith(TORCH):
        return read_torch(file, ema)
    if ema:
        raise ValueError(
            f"{file} holds one state dict: ema=true is for files of {', '.join(TORCH)} "
            "that hold averaged weights too"
        )
    if file.name.lower().endswith(".h5"):
        return StateDict(read_h5(file))
    return StateDict({n: widened(array) for n, array in read_tensors(file).items()})


def check_readable(file: Path) -> None:
    """Raises where there is no such file, or one of another kind."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if not has_reader(file):
        raise ValueError(f"{file} is none of {', '.join(READERS)}")


def has_reader(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends as a file of weights does.

    >>> has_reader("model_best.pth.tar"), has_reader("LAST.CKPT"), has_reader("a.txt")
    (True, True, False)
    """
    return os.fspath(path).lower().endswith(READERS)


def write_state_dict(
    arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]
) -> Path:
    """Writes the arrays as safetensors, or as .pth where the path ends so.

    Raises:
        ValueError: a path of another kind.
    """
    file = Path(path)
    check_writable(file)
    if file.suffix.lower() == ".safetensors":
        save_file(dict(arrays), file)
    else:
        torch = import_torch(file)
        torch.save({k: torch.from_numpy(v.copy()) for k, v in arrays.items()}, file)
    return file


def check_writable(file: Path) -> None:
    """Raises a ``ValueError`` for a file of a kind that is not written."""
    if file.suffix.lower() not in (".safetensors", ".pth", ".pt"):
        raise ValueError(f"{file} ends neither in .safetensors nor in .pth")
