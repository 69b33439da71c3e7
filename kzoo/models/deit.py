"""DeiT: a vision transformer that learns from a teacher by a token of its own.

Touvron et al., "Training data-efficient image transformers & distillation through
attention", 2021 (2012.12877). The distilled ones answer with the mean of two heads, one
on each token: the taps ``logits_class``, for the labels, and ``logits_distillation``,
for the teacher. ``pooled`` is the class token's, which is also what
``num_classes=0`` gives.
"""

from dataclasses import dataclass
from typing import Any

import keras

from kzoo.hparams import hp
from kzoo.layers.sequence import FirstStep
from kzoo.models import vit
from kzoo.models.family import Family, logits_head, patch_input
from kzoo.models.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class DeiTHParams(vit.ViTHParams):
    """Images (batch, height, width, channels)."""

    distilled: bool = hp(False, "a second token and a second head, for a teacher")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distilled and self.pooling != "first":
            raise ValueError(
                f"pooling={self.pooling!r} reads no token; distilled=true needs "
                "pooling='first'"
            )


def build(hparams: DeiTHParams) -> keras.Model:
    """(batch, height, width, channels) -> (batch, num_classes)."""
    if not hparams.distilled:
        return vit.build(hparams)
    inputs = patch_input(hparams)
    x = vit.encoded(inputs, hparams, ("class_token", "distillation_token"))
    pooled = FirstStep(name="pooled")(x)  # (batch, hidden_dim)
    if hparams.num_classes == 0:
        return Transformer(inputs, logits_head(pooled, 0))
    distilled = keras.layers.Cropping1D((1, 0), name="without_class_token")(x)
    distilled = FirstStep(name="pooled_distillation")(distilled)
    heads = [
        head(pooled, hparams.num_classes, "logits_class"),
        head(distilled, hparams.num_classes, "logits_distillation"),
    ]
    logits = keras.layers.Average(dtype="float32", name="logits")(heads)
    return Transformer(inputs, logits)


def head(x: Any, num_classes: int, name: str) -> Any:
    """(batch, hidden_dim) -> (batch, num_classes) in float32."""
    return keras.layers.Dense(num_classes, dtype="float32", name=name)(x)


def _like_vit(size: str, distilled: bool) -> DeiTHParams:
    same = vars(vit.VARIANTS[f"vit_{size}_16"])
    return DeiTHParams(**same | {"drop_path_rate": 0.1, "distilled": distilled})


VARIANTS = {
    f"deit_{size}_16" + ("_distilled" if distilled else ""): _like_vit(size, distilled)
    for size in ("tiny", "small", "base")
    for distilled in (False, True)
}
FAMILY = Family(
    build,
    VARIANTS,
    smallest=DeiTHParams(**vars(vit.FAMILY.smallest) | {"distilled": True}),
    tasks=("image-classification", "regression"),
    paper="2012.12877",
)
