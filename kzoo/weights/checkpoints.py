"""Checkpoints of other zoos: files, folders with a config.json, names on the hub."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from kzoo.hparams import identity
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import Tokenizer
from kzoo.preprocessing.vocabularies import (
    BYTE_PAIRS,
    JSON,
    SENTENCE_PIECES,
    WORD_PIECES,
    read_tokenizer,
)
from kzoo.weights import read_json, write_json, write_text
from kzoo.weights.files import (
    check_readable,
    has_reader,
    read_checkpoint,
    write_state_dict,
)
from kzoo.weights.fit import in_short
from kzoo.weights.torch_files import StateDict

if TYPE_CHECKING:
    import keras

CONFIG = "config.json"
TOKENIZERS = (JSON, "tokenizer_config.json", WORD_PIECES, *BYTE_PAIRS, SENTENCE_PIECES)
WEIGHTS = "model.safetensors"
# What a folder of transformers may hold its weights in; the first that is there.
IN_FOLDERS = (
    WEIGHTS,
    f"{WEIGHTS}.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


class WeightsUnavailableError(OSError):
    """Weights that could not be fetched: why, and what to run instead."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights that lie here now.

    Attributes:
        files: state dicts, of which each has a part.
        config: what config.json says; empty where there is none.
    """

    files: tuple[Path, ...]
    config: Mapping[str, Any]

    def tokenizer(self) -> Tokenizer | None:
        """The tokeniser that lies beside the weights, if there is one."""
        try:
            return Tokenizer(read_tokenizer(self.files[0].parent).to_str())
        except FileNotFoundError:
            return None

    def state_dict(self, ema: bool = False) -> StateDict:
        """The weights of all files.

        Args:
            ema: take the averaged weights where a file holds both.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or of another kind.
        """
        arrays: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for file in self.files:
            part = read_checkpoint(file, ema)
            arrays |= part.arrays
            notes += part.notes
        return StateDict(arrays, tuple(dict.fromkeys(notes)))


def find_checkpoint(weights: str) -> Checkpoint:
    """A file, a folder, or a repository on the Hugging Face hub.

    Raises:
        FileNotFoundError: a folder without weights.
        WeightsUnavailableError: nothing of this name on the hub, or no network.
    """
    return local_checkpoint(weights) or _fetched(weights)


def local_checkpoint(weights: str) -> Checkpoint | None:
    """The checkpoint of this path; None where it is a name on the hub.

    Raises:
        FileNotFoundError: no such file, or a folder without weights.
    """
    path = Path(weights)
    if path.is_dir():
        return _in_folder(path)
    if path.exists() or has_reader(weights) or weights.count("/") != 1:
        check_readable(path)
        config = path.with_name(CONFIG)
        return Checkpoint((path,), read_json(config) if config.is_file() else {})
    return None


def _in_folder(folder: Path) -> Checkpoint:
    found = next((name for name in IN_FOLDERS if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{folder} holds none of {', '.join(IN_FOLDERS)}: no checkpoint"
        )
    config = folder / CONFIG
    return Checkpoint(
        _parts(folder / found), read_json(config) if config.is_file() else {}
    )


def _parts(file: Path) -> tuple[Path, ...]:
    """The file itself, or those that it lists."""
    if file.suffix != ".json":
        return (file,)
    weight_map = read_json(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{file}: weight_map is not an object of names and files: "
            f"{in_short(weight_map)}"
        )
    for name, part in weight_map.items():
        if not isinstance(part, str) or Path(part).name != part or not part.strip("."):
            raise ValueError(
                f"{file}: weight_map gives {name!r} the file {in_short(part)}; "
                "a file of the same folder is meant"
            )
    names = sorted(set(weight_map.values()))
    for name in names:
        if not has_reader(name):
            raise ValueError(f"{file} names {name!r}, which is no file of weights")
        if not file.with_name(name).is_file():
            raise FileNotFoundError(f"{file} names {name}, which is not beside it")
    return tuple(file.with_name(name) for name in names)


def _fetched(repository: str) -> Checkpoint:
    """The weights and their configuration, from the hub or from its cache here."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise WeightsUnavailableError(
            f"{repository} is on the Hugging Face hub: pip install huggingface_hub"
        ) from None
    try:
        file = hf_hub_download(repository, WEIGHTS)
        config = hf_hub_download(repository, CONFIG)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsUnavailableError(
            f"{repository} could not be fetched ({type(error).__name__}: {reason}). "
            f"Where there is a network, run: hf download {repository} "
            "model.safetensors config.json --local-dir weights; then give "
            "weights/model.safetensors"
        ) from None
    for name in TOKENIZERS:  # which lie beside the weights then
        with contextlib.suppress(OSError, HfHubHTTPError, LocalEntryNotFoundError):
            hf_hub_download(repository, name)
    return Checkpoint((Path(file),), read_json(Path(config)))


def write_checkpoint(
    model: "keras.Model",
    source: str,
    path: str | os.PathLike[str],
    preprocessing: Preprocessing | None = None,
) -> Path:
    """Writes a file of weights, or a folder with a config.json that says the sizes.

    Args:
        model: a model of kzoo's.
        source: whose names they get, such as transformers.
        path: a file in .safetensors or .pth; or a folder, which must be empty or not
            there yet, where the source has such.
        preprocessing: whose classes' names and tokeniser go with it into a folder.

    Raises:
        ValueError: a path of another kind; a folder that holds something; a model that
            the source does not know.
    """
    from kzoo.weights.convert import to_source
    from kzoo.weights.places import find_table

    target = Path(path)
    known = identity(model)
    table = find_table(known.name, source)
    if table.configuration is None or has_reader(target):
        return write_state_dict(to_source(model, source), target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already and not empty; not overwritten")
    entries = table.configuration.entries(known.hparams)
    num_classes = known.hparams.get("num_classes", 0)
    if num_classes:
        classes = preprocessing.classes if preprocessing is not None else ()
        names = classes or [f"LABEL_{i}" for i in range(num_classes)]
        entries["id2label"] = {str(i): name for i, name in enumerate(names)}
        entries["label2id"] = {name: i for i, name in enumerate(names)}
    arrays = to_source(model, source)
    target.mkdir(parents=True, exist_ok=True)
    save_file(arrays, target / WEIGHTS, metadata={"format": "pt"})  # who wrote it
    write_json(target / CONFIG, entries)
    if preprocessing is not None and preprocessing.tokenizer is not None:
        write_text(target / JSON, preprocessing.tokenizer.json)
    return target
