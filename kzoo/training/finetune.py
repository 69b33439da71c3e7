"""Starting from weights that another run learned: what fits, what stays frozen.

And how far from the head each weight lies, for those that learn at their own pace.
"""

import logging
import re
from collections.abc import Collection, Mapping

import keras
import numpy as np

from kzoo.features import list_features
from kzoo.hparams import in_short, nearest
from kzoo.weights import assign, weights_by_path
from kzoo.weights.fit import difference

log = logging.getLogger(__name__)

HEAD = "logits"


def load_what_fits(
    model: keras.Model,
    arrays: Mapping[str, np.ndarray],
    source: str,
    *,
    fresh_head: bool,
    excused: Collection[str] = (),
) -> dict[str, list[str]]:
    """Gives the model the weights that fit it, and logs what was loaded and what not.

    Args:
        model: with weights as they were drawn.
        arrays: by path.
        source: where they are from, for the log and the errors.
        fresh_head: leave the head as it was drawn.
        excused: hyper-parameters that the data changed: for their sake other weights
            may differ too.

    Returns:
        The paths by what became of them: ``loaded``, ``fresh``, ``ignored``.

    Raises:
        ValueError: the arrays do not fit; the message shows both sides.
    """
    drawn = weights_by_path(model)
    wanted = {path: array.shape for path, array in drawn.items()}
    found = {path: array.shape for path, array in arrays.items()}
    fits = {
        path
        for path, shape in wanted.items()
        if found.get(path) == shape and not (fresh_head and path.startswith(HEAD))
    }
    told = {
        "loaded": sorted(fits),
        "fresh": sorted(wanted.keys() - fits),
        "ignored": sorted(found.keys() - fits),
    }
    head = HEAD if fresh_head else "\0"
    others = [
        path for path in (*told["fresh"], *told["ignored"]) if not path.startswith(head)
    ]
    if not fits or (others and not excused):
        unlike = difference(
            {path: found[path] for path in others if path in found},
            {path: wanted[path] for path in others if path in wanted},
        )
        raise ValueError(f"{source} does not fit {model.name}: {unlike}")
    assign(model, {**drawn, **{path: arrays[path] for path in fits}}, source)
    log.info("weights of %s: %s loaded", source, len(fits))
    for word in ("fresh", "ignored"):
        if told[word]:
            log.info("  %s: %s", word, in_short(told[word]))
    return told


def freeze(model: keras.Model, taps: str) -> list[str]:
    """Freezes the layers up to and including a tap, so that their weights stay.

    Normalisations in them use the statistics that they have.

    Args:
        model: a model of kzoo's; changed in place, to be compiled afterwards.
        taps: ``"block_0"``: all that the output of ``block_0`` hangs on, embeddings or
            stem included. ``"block_1..block_3"``: from the input of ``block_1`` to the
            output of ``block_3``; what lies before goes on learning.

    Returns:
        The layers' names that hold weights.

    Raises:
        ValueError: an unknown tap, or taps in the wrong order.

    Example:
        >>> import kzoo
        >>> freeze(kzoo.build_model("mlp"), "block_1")
        ['block_0', 'block_1']
        >>> freeze(kzoo.build_model("mlp"), "block_1..block_1")
        ['block_1']
    """
    features = list_features(model)
    first, between, last = taps.partition("..")
    last = last if between else first
    for tap in (first, last):
        if tap not in features:
            raise ValueError(f"{model.name} has no tap {tap!r}{nearest(tap, features)}")
    learning: set[str] = set()
    if between:
        if features.index(first) > features.index(last):
            raise ValueError(f"freeze={taps!r}: {first} comes after {last}")
        # A block's query, or a stage's blocks, are within it.
        earlier = features[: features.index(first)]
        before = [tap for tap in earlier if not tap.startswith(f"{first}_")]
        learning = layers_before(model, before[-1]) if before else set()
    frozen = layers_before(model, last) - learning
    for layer in model.layers:
        if layer.name in frozen:
            layer.trainable = False
    return [
        layer.name for layer in model.layers if layer.name in frozen and layer.weights
    ]


def layers_before(model: keras.Model, tap: str) -> set[str]:
    """Names of the layers that a tap's output hangs on, and its own."""
    upto = keras.Model(model.input, model.get_layer(tap).output)
    return {layer.name for layer in upto.layers}


_BLOCK = re.compile(r"stem|stage_\d+|(stage_\d+_)?block_\d+")


def depths(model: keras.Model) -> dict[str, int]:
    """How many blocks from the head each weight lies, by its path.

    0 is what follows the last block: its normalisation, pooling and the head; 1 the
    last block; the most what leads to the first tap.

    Args:
        model: a model of kzoo's.

    Raises:
        ValueError: a model without blocks.

    Example:
        >>> import kzoo
        >>> depths(kzoo.build_model("mlp"))["block_0/kernel"]
        2
    """
    seen: set[str] = set()
    blocks: list[list[str]] = []
    for tap in list_features(model):
        if _BLOCK.fullmatch(tap):
            names = layers_before(model, tap) - seen
            seen |= names
            layers = [model.get_layer(name) for name in sorted(names)]
            paths = [weight.path for layer in layers for weight in layer.weights]
            blocks += [paths] if paths else []
    if not blocks:
        raise ValueError(f"{model.name} has no blocks to tell its layers apart by")
    found = {weight.path: 0 for weight in model.weights}
    for depth, paths in enumerate(reversed(blocks), start=1):
        found |= dict.fromkeys(paths, depth)
    return found
