"""State dicts in PyTorch's files, and in what training scripts wrap around them.

No object of the file runs: ``weights_only`` reads tensors and plain containers, and
what a script keeps beside them (its arguments, numpy scalars) becomes a stand-in that
forgets its contents.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Where training scripts keep the weights, and those averaged over the steps (EMA).
RAW = ("state_dict", "model_state_dict", "model", "net", "network", "module")
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
MAX_DEPTH = 5
# What a script keeps beside the weights; numpy 1 calls its module core.
BESIDE = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)


@dataclass(frozen=True)
class StateDict:
    """Weights by name, and what a reader should know of where they stood.

    Attributes:
        arrays: by the file's own names.
        notes: a line for each choice between several state dicts.
    """

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


class Forgotten:
    """A stand-in for an object beside the weights: takes anything, keeps nothing."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def import_torch(file: Path) -> Any:
    """The torch package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{file.suffix} files need PyTorch: pip install 'kzoo[torch]'"
        ) from None
    return torch


def read_torch(file: Path, ema: bool = False) -> StateDict:
    """The state dict of a file that ``torch.save`` wrote.

    Args:
        file: in .pth, .pth.tar, .pt, .ckpt or .bin.
        ema: take the averaged weights of a file that holds both.

    Raises:
        ValueError: a damaged file, objects that are neither tensors nor plain
            containers, no state dict in it, or no averaged weights where they are
            asked for.
    """
    size = file.stat().st_size
    if not size:
        raise ValueError(f"{file} is empty")
    torch = import_torch(file)
    _check_archive(file, size)
    stand_ins = [(Forgotten, name) for name in BESIDE]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise each their own
        raise ValueError(_reason(file, str(error))) from None
    tensors, notes = unwrapped(content, torch.is_tensor, str(file), ema)
    arrays = {name: _array(tensors[name], name, file, size) for name in tensors}
    return StateDict(arrays, notes)


def unwrapped(
    content: Any, is_tensor: Any, source: str, ema: bool = False
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The innermost dict that holds tensors alone, and which one it is.

    Args:
        content: what the file holds.
        is_tensor: whether a value is a tensor.
        source: the file, for errors.
        ema: take averaged weights.

    Raises:
        ValueError: no such dict; or no averaged weights where they are asked for.
    """
    path: list[str] = []
    notes: list[str] = []
    averaged = False
    for _ in range(MAX_DEPTH):
        if not isinstance(content, Mapping):
            break
        if content and all(
            isinstance(key, str) and is_tensor(value) for key, value in content.items()
        ):
            if ema and not averaged:
                raise ValueError(
                    f"{source} holds no averaged weights (ema=true) under any of "
                    f"{', '.join(AVERAGED)}"
                )
            return content, tuple(notes)
        raw, means = (
            [key for key in keys if isinstance(content.get(key), Mapping)]
            for keys in (RAW, AVERAGED)
        )
        chosen = (means or raw) if ema and not averaged else (raw or means)
        if not chosen:
            break
        averaged = averaged or chosen[0] in means
        path.append(chosen[0])
        if len(raw) + len(means) > 1 or chosen[0] in means:
            notes.append(_choice(path, raw, means))
        content = content[chosen[0]]
    raise ValueError(_no_state_dict(content, path, is_tensor, source))


def _choice(path: list[str], raw: list[str], means: list[str]) -> str:
    """Which of several state dicts was taken, and how to take the others."""
    others = [key for key in (*raw, *means) if key != path[-1]]
    line = f"the weights are those of {'>'.join(path)!r}"
    if path[-1] in means:
        line += ", averaged over the steps"
    if others:
        line += f"; {', '.join(map(repr, others))} is left aside"
    if means and path[-1] in raw:
        line += " (--option ema=true takes the averaged weights)"
    return line


def _no_state_dict(content: Any, path: list[str], is_tensor: Any, source: str) -> str:
    line = f"{source} is not a state dict of tensors"
    inside = f" under {'>'.join(path)!r}" if path else ""
    if not isinstance(content, Mapping):
        return f"{line}: it holds {type(content).__name__}{inside}"
    if not content:
        return f"{line}: it holds nothing{inside}"
    others = [repr(k)[:60] for k, value in content.items() if not is_tensor(value)]
    if len(others) < len(content):
        return f"{line}: {others[0] if others else 'a key'}{inside} is no tensor"
    return (
        f"{line}: it holds {', '.join(others[:6])}{inside}; the weights are looked for "
        f"under {', '.join(RAW)} and {', '.join(AVERAGED)}"
    )


def _check_archive(file: Path, size: int) -> None:
    """Refuses archives that unpack to more than they are; torch packs none."""
    try:
        with zipfile.ZipFile(file) as archive:
            whole = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # of the older format, or damaged, as torch will say
    if whole > size:
        raise ValueError(
            f"{file} is not a file of torch.save: its archive is packed, {whole:,} "
            f"bytes in {size:,}"
        )


def _reason(file: Path, message: str) -> str:
    """What torch's error says, in one line."""
    foreign = re.search(r"GLOBAL (\S+)", message)
    if foreign or "Unsupported class" in message:
        kind = foreign[1] if foreign else "an unknown class"
        return (
            f"{file} is not a state dict of tensors: it holds an object of {kind}, "
            "which is not read because it could run code; save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if "TorchScript" in message:
        return f"{file} is a TorchScript archive: save its state_dict() instead"
    if lines and not lines[0].startswith("Weights only load failed"):
        return f"{file} is not a state dict of tensors: {lines[0][:200]}"
    return (
        f"{file} is not a state dict of tensors: not a file of torch.save, or damaged"
    )


def _array(tensor: Any, name: str, file: Path, size: int) -> np.ndarray:
    """A tensor's values; those of types that numpy lacks are widened exactly."""
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise ValueError(f"{file}: {name!r} is sparse or quantised, not plain weights")
    if tensor.device.type != "cpu":
        raise ValueError(f"{file}: {name!r} has no values ({tensor.device.type})")
    if tensor.numel() * tensor.element_size() > size:
        raise ValueError(
            f"{file} is damaged: {name!r} says to be {tuple(tensor.shape)}, more than "
            "the file is long"
        )
    tensor = tensor.detach()
    if re.fullmatch(
        r"torch\.(bfloat16|float8_e[45]m[23](fn|fnuz)?)", str(tensor.dtype)
    ):
        tensor = tensor.float()
    try:
        array: np.ndarray = tensor.resolve_conj().resolve_neg().numpy()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{file}: {name!r}: {error}") from None
    return array
