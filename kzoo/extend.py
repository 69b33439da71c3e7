"""All that a family of one's own needs. These names are stable.

CONTRIBUTING.md shows how a family is made, and ``examples/own_family.py`` is one.

Example:
    >>> from kzoo import extend
    >>> sorted(extend.__all__)[:3]
    ['Family', 'HParams', 'ImageHParams']
"""

from kzoo.hparams import HParams, hp
from kzoo.models.family import (
    Family,
    ImageHParams,
    SequenceHParams,
    VectorHParams,
    image_input,
    logits_head,
    sequence_input,
    vector_input,
)
from kzoo.registry import register

__all__ = [
    "Family",
    "HParams",
    "ImageHParams",
    "SequenceHParams",
    "VectorHParams",
    "hp",
    "image_input",
    "logits_head",
    "register",
    "sequence_input",
    "vector_input",
]
