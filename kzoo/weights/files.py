"""State dicts in files: .safetensors, .pth and .pt, .weights.h5 and .h5.

None of the readers runs what a file says.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from kzoo.weights import read_weights

READERS = (".safetensors", ".pth", ".pt", ".bin", ".h5")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by its own names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of another kind, or a damaged one.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    if file.suffix == ".safetensors":
        return read_weights(file)
    if file.suffix in (".pth", ".pt", ".bin"):
        return _read_torch(file)
    if file.suffix == ".h5":
        return _read_h5(file)
    raise ValueError(f"{file} is none of {', '.join(READERS)}")


def write_state_dict(
    arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]
) -> Path:
    """Writes the arrays as safetensors, or as .pth where the path ends so.

    Raises:
        ValueError: a path of another kind.
    """
    file = Path(path)
    if file.suffix == ".safetensors":
        save_file(dict(arrays), file)
    elif file.suffix in (".pth", ".pt"):
        torch = _torch(file)
        torch.save({k: torch.from_numpy(v.copy()) for k, v in arrays.items()}, file)
    else:
        raise ValueError(f"{file} ends neither in .safetensors nor in .pth")
    return file


def _torch(file: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{file.suffix} files need PyTorch: pip install 'kzoo[torch]'"
        ) from None
    return torch


def _read_torch(file: Path) -> dict[str, np.ndarray]:
    torch = _torch(file)
    try:
        # Tensors and plain containers alone: a pickle may otherwise run anything.
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise each their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "damaged"
        raise ValueError(f"{file} is not a state dict of tensors: {reason}") from None
    # Training scripts put the state dict inside what else they keep.
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise ValueError(f"{file} is not a state dict of tensors")
    return {re.sub(r"^module\.", "", key): _numpy(v) for key, v in found.items()}


def _numpy(tensor: Any) -> np.ndarray:
    if str(tensor.dtype) == "torch.bfloat16":  # numpy has none
        tensor = tensor.float()
    array: np.ndarray = tensor.detach().numpy()
    return array


def _read_h5(file: Path) -> dict[str, np.ndarray]:
    """``{layer}.{weight}``, of Keras 3's .weights.h5 and of the older .h5."""
    import h5py

    try:
        with h5py.File(file) as stored:
            if "layers" in stored:
                return _by_order(stored["layers"])
            return _by_name(stored.get("model_weights", stored))
    except OSError as error:
        raise ValueError(f"{file} is damaged: {error}") from None


def _by_order(layers: Any) -> dict[str, np.ndarray]:
    """Keras 3 numbers a layer's weights; the layer says its own name."""
    arrays = {}
    for group in layers.values():
        stored = group.get("vars", {})
        if not len(stored):
            continue
        name = stored.attrs.get("name")
        ranks = [stored[str(i)].ndim for i in range(len(stored))]
        for i, kind in enumerate(_kinds(ranks)):
            arrays[f"{name}.{kind}"] = np.array(stored[str(i)])
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


def _by_name(layers: Any) -> dict[str, np.ndarray]:
    """Keras 2: a group a layer, which lists its weights as ``layer/kernel:0``."""
    arrays = {}
    for layer, group in layers.items():
        for path in group.attrs.get("weight_names", ()):
            text = path.decode() if isinstance(path, bytes) else str(path)
            kind = text.rpartition("/")[2].removesuffix(":0")
            kind = "kernel" if kind == "depthwise_kernel" else kind
            arrays[f"{layer}.{kind}"] = np.array(group[text])
    return arrays
