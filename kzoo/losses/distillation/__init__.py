"""Distillation losses: pure functions of what a teacher and a student say.

One convention: each function takes the teacher first, compares logits as log-softmaxes
on both sides, includes the factor T^2 where there is a temperature T (so that its
gradients keep their size, Hinton et al. 2015, sec. 2), computes in float32 whatever
comes in, and gives one value an example, (batch,), or a scalar where the loss is a
relation within the batch. None stops a gradient: the caller decides who learns.

Padding: ``mask`` (batch, time) is true at real positions, and the value of an example
is the mean over them. Weights: values (batch,) are the caller's to weight; a relation
takes ``weights`` (batch,), of which 0 leaves an example out.
"""

from kzoo.losses.distillation.features import at, fitnet, hidden, relations, vid
from kzoo.losses.distillation.logits import (
    dist,
    dkd,
    ensemble_logits,
    hard,
    kd,
    standardized,
)
from kzoo.losses.distillation.relational import pkt, rkd, sp

__all__ = [
    "at",
    "dist",
    "dkd",
    "ensemble_logits",
    "fitnet",
    "hard",
    "hidden",
    "kd",
    "pkt",
    "relations",
    "rkd",
    "sp",
    "standardized",
    "vid",
]
