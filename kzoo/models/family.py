"""What a family is, and the inputs and the head that families share."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import keras

from kzoo.hparams import HParams, hp
from kzoo.layers.patches import STEMS, check_patches
from kzoo.layers.sequence import PaddingMask


@dataclass(frozen=True)
class Family:
    """One architecture and its published variants.

    Attributes:
        build: hyper-parameters (and parts, by name) -> a functional ``keras.Model``.
        variants: a model's name -> its hyper-parameters.
        smallest: legal hyper-parameters with under 100 k weights, for tests.
        tasks: names of ``kzoo.tasks`` that the family serves.
        paper: an arXiv number, a DOI or a citation; by variant where they differ.
        parts: names of the models that the family wraps, such as a teacher.
        name: the family's own name; the file's unless given.
        layout: how its variables lie on many devices, for ``model_parallel``: an
            expression that a variable's path matches -> ``"model"`` or None for each
            dimension; see ``kzoo.distribution.layouts``. Empty = it cannot be cut.
    """

    build: Callable[..., keras.Model]
    variants: Mapping[str, HParams]
    smallest: HParams
    tasks: tuple[str, ...]
    paper: str | Mapping[str, str]
    parts: tuple[str, ...] = ()
    name: str = ""
    layout: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            name = self.build.__module__.rpartition(".")[2]
            object.__setattr__(self, "name", name)

    def paper_of(self, variant: str) -> str:
        return self.paper if isinstance(self.paper, str) else self.paper[variant]


# Family.layout of attention and MLPs: each device has its heads and its part of the MLP
# (Shoeybi et al. 2019, 1909.08053, sec. 3).
KERNELS_BY_HEADS: dict[str, tuple[str | None, ...]] = {
    r".*_(query|key|value|mlp_in)/kernel": (None, "model"),
    r".*_(output|mlp_out)/kernel": ("model", None),
}
BY_HEADS = KERNELS_BY_HEADS | {r".*_(query|key|value|mlp_in)/bias": ("model",)}


@dataclass(frozen=True, kw_only=True)
class OutputHParams(HParams):
    """The head, which every family has."""

    num_classes: int = hp(
        10, "logits; 1 = one logit or number, 0 = pooled features", min=0, max=1_000_000
    )


@dataclass(frozen=True, kw_only=True)
class ImageHParams(OutputHParams):
    """Images (batch, height, width, channels)."""

    image_size: int | tuple[int, int] | None = hp(
        None, "height and width in pixels (none = any)", min=1
    )
    channels: int = hp(3, "colour channels", min=1, max=4096)


@dataclass(frozen=True, kw_only=True)
class VectorHParams(OutputHParams):
    """Vectors (batch, num_features)."""

    num_features: int = hp(8, "features of an example", min=1)


@dataclass(frozen=True, kw_only=True)
class PatchHParams(ImageHParams):
    """Images of one size, cut into patches."""

    image_size: int | tuple[int, int] | None = hp(
        224, "height and width in pixels", min=1
    )
    patch_size: int = hp(16, "height and width of a patch in pixels", min=1, max=1024)
    stem: str = hp(
        "imagenet", "small = a 3x3 convolution before the patches", choices=STEMS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size is None:
            raise ValueError(
                "image_size=None: the patches are counted, so give height and width"
            )
        check_patches(*height_and_width(self.image_size), self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = height_and_width(self.image_size)
        return height // self.patch_size, width // self.patch_size


@dataclass(frozen=True, kw_only=True)
class TokenHParams(OutputHParams):
    """Tokens (batch, time) alone."""

    vocab_size: int = hp(10_000, "tokens", min=1, max=10_000_000)
    sequence_length: int | None = hp(None, "longest sequence (none = any)", min=1)
    pad_token_id: int | None = hp(0, "the token that is padding (none = none)", min=0)


@dataclass(frozen=True, kw_only=True)
class SequenceHParams(TokenHParams):
    """Tokens (batch, time), or features (batch, time, num_features)."""

    vocab_size: int = hp(0, "tokens; 0 = features come in", min=0, max=10_000_000)
    num_features: int = hp(8, "numbers a step, where no tokens come in", min=1)
    padding_mask: bool = hp(False, "take the mask as a second input, padding_mask")


@dataclass(frozen=True, kw_only=True)
class DecoderHParams(HParams):
    """Tokens (batch, time) in, a logit for each token of the vocabulary at each step.

    A decoder has ``initial_cache(batch, length)`` and ``decode_step(tokens, cache,
    index)``, by which ``kzoo.generate`` writes on.
    """

    vocab_size: int = hp(256, "tokens", min=1, max=10_000_000)
    sequence_length: int | None = hp(None, "longest sequence (none = any)", min=1)
    end_token_id: int | None = hp(
        None, "the token that ends a text (none = none)", min=0
    )


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderHParams(DecoderHParams):
    """``tokens`` (batch, time) and ``decoder_tokens`` (batch, steps) in.

    Such a decoder has ``encode(tokens)`` too: the entries of the cache that hold what
    was read. ``decoder_tokens`` are the start token and the text but its last token.
    """

    end_token_id: int | None = hp(2, "the token that ends a text (none = none)", min=0)
    pad_token_id: int = hp(0, "the token that is padding", min=0)
    start_token_id: int = hp(1, "the token that a text begins after", min=0)


def check_heads(hidden_dim: int, num_heads: int) -> None:
    """Raises a ``ValueError`` with the nearest width where the heads do not divide."""
    if hidden_dim % num_heads:
        raise ValueError(
            f"hidden_dim={hidden_dim} is not a multiple of num_heads={num_heads}; the "
            f"nearest is {max(1, round(hidden_dim / num_heads)) * num_heads}"
        )


def height_and_width(image_size: int | tuple[int, int] | None) -> tuple[Any, Any]:
    """The size as two numbers, or (None, None) where any goes."""
    if isinstance(image_size, tuple):
        return image_size
    return image_size, image_size


def check_image_size(hparams: ImageHParams, least: int, why: str) -> None:
    """Raises a ``ValueError`` with the least size where images are smaller."""
    height, width = height_and_width(hparams.image_size)
    if height is not None and min(height, width) < least:
        raise ValueError(
            f"images of {height}x{width} are too small: {why} need at least "
            f"{least}x{least}"
        )


def image_input(hparams: ImageHParams) -> Any:
    """The input of a convolutional family: of ``image_size``, or of any where none.

    Inside :func:`any_image_size` it is open in height and width.
    """
    size = (None, None) if _any_size.get() else height_and_width(hparams.image_size)
    return keras.Input((*size, hparams.channels), name="images")


_any_size: ContextVar[bool] = ContextVar("any_image_size", default=False)


@contextlib.contextmanager
def any_image_size(is_open: bool) -> Iterator[None]:
    """Where true, convolutional families that are built inside take any size.

    Their variants have the size that they were published at, which is no promise of
    the caller's.
    """
    token = _any_size.set(is_open)
    try:
        yield
    finally:
        _any_size.reset(token)


def vector_input(hparams: VectorHParams) -> Any:
    """The input of a family of vectors: (batch, num_features)."""
    return keras.Input((hparams.num_features,), name="vectors")


def patch_input(hparams: PatchHParams) -> Any:
    """The input of a family that counts its patches: of one height and width."""
    size = height_and_width(hparams.image_size)
    return keras.Input((*size, hparams.channels), name="images")


def sequence_input(
    hparams: SequenceHParams, embedding_dim: int, *, trainable: bool = True
) -> tuple[Any, Any, Any]:
    """The input of a sequence family.

    Args:
        hparams: the family's.
        embedding_dim: width of a token's vector.
        trainable: whether training moves these vectors.

    Returns:
        inputs: a tensor, or the dict ``{"tokens" or "features", "padding_mask"}``.
        x: (batch, time, embedding_dim) from tokens, (batch, time, num_features) else.
        mask: (batch, time), true at real positions, or None.
    """
    if hparams.vocab_size:
        inputs = keras.Input((None,), dtype="int32", name="tokens")
        embedding = keras.layers.Embedding(
            hparams.vocab_size, embedding_dim, trainable=trainable, name="embedding"
        )
        x = embedding(inputs)  # (batch, time, embedding_dim)
    else:
        inputs = x = keras.Input((None, hparams.num_features), name="features")
    if hparams.padding_mask:
        mask = keras.Input((None,), dtype="bool", name="padding_mask")
        return {inputs.name: inputs, "padding_mask": mask}, x, mask
    if hparams.vocab_size and hparams.pad_token_id is not None:
        return inputs, x, PaddingMask(hparams.pad_token_id, name="mask")(inputs)
    return inputs, x, None


def logits_head(x: Any, num_classes: int) -> Any:
    """(..., features) -> (..., num_classes) in float32, or the features themselves."""
    if num_classes == 0:
        return keras.layers.Identity(dtype="float32", name="features_float32")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
