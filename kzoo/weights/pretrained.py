"""Models on weights that others trained, from a file or from the hub."""

import contextlib
import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.hparams import identity
from kzoo.preprocessing import Preprocessing, imagenet
from kzoo.preprocessing.text import static_lengths
from kzoo.registry import find_family
from kzoo.weights import save
from kzoo.weights.adapters import HEAD, weight_shapes
from kzoo.weights.checkpoints import CONFIG, Checkpoint, find_checkpoint
from kzoo.weights.convert import Converted, from_source
from kzoo.weights.fit import in_one_line
from kzoo.weights.names import SOURCES
from kzoo.weights.places import find_table
from kzoo.weights.prefixes import shared_prefixes

SLACK = 10**7  # numbers that a model may have beyond those of its file

logger = logging.getLogger(__name__)


def load_pretrained(
    name: str, weights: str, /, *, ema: bool = False, **values: Any
) -> keras.Model:
    """A model of the zoo on another zoo's weights.

    What of them did not go in as it was (a head of another size, a first convolution
    for other colours) is logged; :func:`convert` returns it, and the preprocessing.

    Args:
        name: one of ``kzoo.list_models()``.
        weights: a name on the Hugging Face hub, such as ``timm/NAME.TAG``; a file in
            .safetensors, .pth, .ckpt or .weights.h5; or a folder that has one. A
            config.json of transformers beside it says the sizes.
        ema: take the averaged weights of a file that holds both.
        **values: hyper-parameters to change from the variant's, or the checkpoint's.

    Raises:
        ValueError: the weights do not fit: what both sides have.
        FileNotFoundError: there is no such file, or none in the folder.
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
    return convert(name, weights, ema=ema, **values).model


def convert(
    name: str,
    weights: str | os.PathLike[str],
    source: str = "",
    /,
    *,
    ema: bool = False,
    **values: Any,
) -> Converted:
    """The same, with what was changed and the preprocessing; nothing is written.

    Args:
        name: one of ``kzoo.list_models()``.
        weights: as in :func:`load_pretrained`.
        source: whose names the file has, such as timm; by default those that fit best.
        ema: take the averaged weights of a file that holds both.
        **values: hyper-parameters to change from the variant's.
    """
    checkpoint = find_checkpoint(str(weights))
    if str(weights).startswith("timm/"):
        source = source or "timm"
    if "model_type" in checkpoint.config:
        source = source or "transformers"
    find_family(name)
    state = checkpoint.state_dict(ema)
    source = source or guessed_source(name, state.arrays)
    configuration = find_table(name, source).configuration
    if configuration is not None and "model_type" in checkpoint.config:
        with _one_line(checkpoint):
            values = {**configuration.hparams(checkpoint.config), **values}
    if values:  # sizes of another's, perhaps of a damaged file
        sizes = {**find_table(name, source).hparams, **values}
        _check_size(state.arrays, name, sizes)
    found = from_source(state.arrays, name, source, **values)
    found = dataclasses.replace(found, changes=(*state.notes, *found.changes))
    for change in found.changes:
        logger.info("%s: %s", name, change)
    with _one_line(checkpoint):
        preprocessing = preprocessing_of(checkpoint.config) or found.preprocessing
    classes = classes_of(checkpoint.config)
    if len(classes) == identity(found.model).hparams.get("num_classes"):
        preprocessing = dataclasses.replace(preprocessing, classes=classes)
    length = identity(found.model).hparams.get("sequence_length")
    tokenizer = checkpoint.tokenizer() if configuration is not None else None
    if tokenizer is not None and length is not None:
        preprocessing = dataclasses.replace(
            preprocessing, tokenizer=tokenizer, lengths=static_lengths(length)
        )
    return dataclasses.replace(found, preprocessing=preprocessing)


@contextlib.contextmanager
def _one_line(checkpoint: Checkpoint) -> Iterator[None]:
    """Makes errors of an entry of another type in a config.json say where it is."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        place = checkpoint.files[0].with_name(CONFIG)
        reason = f"{type(error).__name__}: {in_one_line(error, 200)}"
        raise ValueError(f"{place} has an entry of another type: {reason}") from error


def convert_to_folder(
    name: str,
    weights: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    source: str = "",
    /,
    *,
    ema: bool = False,
    **values: Any,
) -> Converted:
    """:func:`convert`, and a model folder that ``kzoo.load`` takes."""
    found = convert(name, weights, source, ema=ema, **values)
    facts = {"converted_from": {"source": source, "file": Path(weights).name}}
    save(found.model, folder, preprocessing=found.preprocessing, facts=facts)
    return found


def guessed_source(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The source whose tables begin most of the arrays' names.

    Raises:
        ValueError: none of the model's sources has such names.
    """
    sources = SOURCES.get(find_family(name).name, {})

    def score(source: str) -> tuple[int, bool]:
        """How many names fit without a prefix that they share, and if none is there."""
        heads = {rule.source.partition("{")[0] for rule in sources[source].rules}
        starts = tuple(head for head in heads if head)
        return max(
            (sum(n.removeprefix(p).startswith(starts) for n in arrays), not p)
            for p in shared_prefixes(arrays)
        )

    scores = {source: score(source) for source in sources}
    best = max(scores, key=lambda source: scores[source], default="")
    if not best or not scores[best][0]:
        known = ", ".join(sorted(sources)) or "no source at all"
        raise ValueError(
            f"the file's names ({', '.join(sorted(arrays)[:3])} ...) are not those "
            f"that {known} gives the weights of {name}"
        )
    find_table(name, best)
    return best


def _check_size(
    arrays: Mapping[str, np.ndarray], name: str, values: Mapping[str, Any]
) -> None:
    """Raises a ``ValueError`` before a model is built that is far larger than the file.

    A fresh head may have any size, and tables of positions may grow.
    """
    stored = sum(array.size for array in arrays.values())
    shapes = weight_shapes(name, values, {})
    sizes = [math.prod(s) for path, s in shapes.items() if path.split("/")[0] != HEAD]
    if sum(sizes) > 8 * stored + SLACK:
        raise ValueError(
            f"the weights do not fit {name}: {stored:,} numbers in the file, "
            f"{sum(sizes):,} in the model"
        )


def classes_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes' names in a config.json of transformers, if it gives some."""
    names = config.get("id2label")
    if not isinstance(names, dict) or not all(
        str(i) in names for i in range(len(names))
    ):
        return ()
    return tuple(str(names[str(i)]) for i in range(len(names)))


def preprocessing_of(facts: Mapping[str, Any]) -> Preprocessing | None:
    """From timm's configuration of a model; None where it says nothing."""
    config = facts.get("pretrained_cfg")
    if not isinstance(config, dict) or "mean" not in config:
        return None
    _, _, size = config.get("input_size", (3, 224, 224))
    made = imagenet(
        size,
        crop_rate=config.get("crop_pct", 0.875),
        interpolation=config.get("interpolation", "bilinear"),
        mean=tuple(config["mean"]),
        spread=tuple(config["std"]),
    )
    return Preprocessing.from_json(made.to_json())  # checked
