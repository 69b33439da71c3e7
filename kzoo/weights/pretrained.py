"""Models on weights that others trained, from a file or from the hub."""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.preprocessing import Preprocessing, imagenet
from kzoo.registry import find_family
from kzoo.weights import save
from kzoo.weights.convert import Converted, from_source
from kzoo.weights.files import READERS, read_state_dict
from kzoo.weights.names import SOURCES
from kzoo.weights.places import find_table

logger = logging.getLogger(__name__)


class WeightsUnavailableError(OSError):
    """Weights that could not be fetched: why, and what to run instead."""


def load_pretrained(name: str, weights: str, /, **values: Any) -> keras.Model:
    """A model of the zoo on another zoo's weights.

    What of them did not go in as it was (a head of another size, a first convolution
    for other colours) is logged; :func:`convert` returns it, and the preprocessing.

    Args:
        name: one of ``kzoo.list_models()``.
        weights: ``timm/NAME.TAG`` on the Hugging Face hub, or a file in .safetensors,
            .pth or .weights.h5.
        **values: hyper-parameters to change from the variant's.

    Raises:
        ValueError: the weights do not fit: what both sides have.
        FileNotFoundError: there is no such file.
        WeightsUnavailableError: no network, or nothing of this name on the hub.

    Example:
        >>> import kzoo, tempfile
        >>> from kzoo.weights.convert import to_source
        >>> from kzoo.weights.files import write_state_dict
        >>> small = {"filters": (8, 8), "num_blocks": (1, 1), "stem_filters": 8}
        >>> model = kzoo.build_model("resnet50", **small)
        >>> file = tempfile.mkdtemp() + "/model.safetensors"
        >>> _ = write_state_dict(to_source(model, "timm"), file)
        >>> kzoo.load_pretrained("resnet50", file, **small).name
        'resnet50'
    """
    return convert(name, weights, **values).model


def convert(
    name: str, weights: str | os.PathLike[str], source: str = "", /, **values: Any
) -> Converted:
    """The same, with what was changed and the preprocessing; nothing is written.

    Args:
        name: one of ``kzoo.list_models()``.
        weights: as in :func:`load_pretrained`.
        source: whose names the file has, such as timm; by default those that fit best.
        **values: hyper-parameters to change from the variant's.
    """
    file, facts = _located(str(weights))
    if str(weights).startswith("timm/"):
        source = source or "timm"
    find_family(name)
    arrays = read_state_dict(file)
    source = source or guessed_source(name, arrays)
    found = from_source(arrays, name, source, **values)
    for change in found.changes:
        logger.info("%s: %s", name, change)
    preprocessing = preprocessing_of(facts) or found.preprocessing
    return dataclasses.replace(found, preprocessing=preprocessing)


def convert_to_folder(
    name: str,
    weights: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    source: str = "",
    /,
    **values: Any,
) -> Converted:
    """:func:`convert`, and a model folder that ``kzoo.load`` takes."""
    found = convert(name, weights, source, **values)
    facts = {"converted_from": {"source": source, "file": Path(weights).name}}
    save(found.model, folder, preprocessing=found.preprocessing, facts=facts)
    return found


def guessed_source(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The source whose tables begin most of the arrays' names.

    Raises:
        ValueError: none of the model's sources has such names.
    """
    sources = SOURCES.get(find_family(name).name, {})

    def score(source: str) -> int:
        heads = {rule.source.partition("{")[0] for rule in sources[source].rules}
        return sum(any(a.startswith(head) for head in heads if head) for a in arrays)

    scores = {source: score(source) for source in sources}
    best = max(scores, key=lambda source: scores[source], default="")
    if not best or not scores[best]:
        known = ", ".join(sorted(sources)) or "no source at all"
        raise ValueError(
            f"the file's names ({', '.join(sorted(arrays)[:3])} ...) are not those "
            f"that {known} gives the weights of {name}"
        )
    find_table(name, best)
    return best


def _located(weights: str) -> tuple[Path, Mapping[str, Any]]:
    """The file, and what the hub says of it."""
    file = Path(weights)
    if file.exists() or weights.endswith(READERS) or weights.count("/") != 1:
        return file, {}
    return _fetched(weights)


def _fetched(repository: str) -> tuple[Path, Mapping[str, Any]]:
    """The weights and their configuration, from the hub or from its cache here."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise WeightsUnavailableError(
            f"{repository} is on the Hugging Face hub: pip install huggingface_hub"
        ) from None
    try:
        file = hf_hub_download(repository, "model.safetensors")
        config = hf_hub_download(repository, "config.json")
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsUnavailableError(
            f"{repository} could not be fetched ({type(error).__name__}: {reason}). "
            f"Where there is a network, run: hf download {repository} "
            "model.safetensors config.json --local-dir weights; then give "
            "weights/model.safetensors"
        ) from None
    facts: dict[str, Any] = json.loads(Path(config).read_text(encoding="utf-8"))
    return Path(file), facts


def preprocessing_of(facts: Mapping[str, Any]) -> Preprocessing | None:
    """From timm's configuration of a model; None where it says nothing."""
    config = facts.get("pretrained_cfg")
    if not isinstance(config, dict) or "mean" not in config:
        return None
    _, _, size = config.get("input_size", (3, 224, 224))
    return imagenet(
        size,
        crop_rate=config.get("crop_pct", 0.875),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(config["mean"]),
        spread=tuple(config["std"]),
    )
