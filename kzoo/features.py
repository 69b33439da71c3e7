"""Taps: the named places inside a model that others may read.

``stem, stage_{i}, stage_{i}_block_{j}, block_{i}, block_{i}_query, block_{i}_key,
block_{i}_value, pooled, logits``. The names are API: distillation, explanation and
fine-tuning use nothing else.
"""

import re
from collections.abc import Sequence
from typing import Any

import keras

from kzoo.hparams import identity, nearest

_TAP = re.compile(
    r"stem|stage_\d+|(stage_\d+_)?block_\d+(_query|_key|_value)?|pooled"
    r"|logits(_[a-z]+)?"
)


def list_features(model: keras.Model) -> list[str]:
    """The model's taps, from the input to the output.

    Raises:
        ValueError: a model that kzoo did not build.

    Example:
        >>> import kzoo
        >>> kzoo.list_features(kzoo.build_model("mlp"))
        ['block_0', 'block_1', 'pooled', 'logits']
    """
    identity(model)
    return [layer.name for layer in model.layers if _TAP.fullmatch(layer.name)]


def features(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """A model on the same input whose output is a dict of taps by name.

    It shares the layers of ``model``: nothing is copied.

    Args:
        model: a model of kzoo's.
        names: some of ``list_features(model)``.

    Raises:
        ValueError: an unknown tap (with the nearest), or a model that kzoo did not
            build.

    Example:
        >>> import kzoo, numpy as np
        >>> taps = kzoo.features(kzoo.build_model("mlp"), ["block_0", "logits"])
        >>> taps(np.zeros((2, 8), "float32"))["block_0"].shape[-1]
        128
    """
    known = list_features(model)
    outputs: dict[str, Any] = {}
    for name in names:
        if name not in known:
            raise ValueError(
                f"{model.name} has no feature {name!r}{nearest(name, known)}"
            )
        outputs[name] = model.get_layer(name).output
    # The model's own input structure, so that dict inputs stay dicts.
    return keras.Model(model.input, outputs, name=f"{model.name}_features")
