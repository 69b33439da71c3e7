"""Losses on what was hidden from a model."""

from typing import Any

from keras import ops


def normalised_patches(patches: Any) -> Any:
    """Each patch (..., pixels) brought to mean 0 and variance 1; a flat one to 0.

    He et al. 2021 (2111.06377), "reconstruction target": it makes for better features
    than the pixels themselves.
    """
    patches = ops.cast(patches, "float32")
    mean = ops.mean(patches, axis=-1, keepdims=True)
    variance = ops.var(patches, axis=-1, keepdims=True)
    return (patches - mean) / ops.sqrt(variance + 1e-6)


def masked_patches(patches: Any, predicted: Any, masked: Any) -> Any:
    """The mean squared error of the hidden patches, after normalising each.

    Args:
        patches: what was there, (batch, patches, pixels).
        predicted: what the model says of each patch's normalised pixels; that of a
            patch which it saw counts nothing.
        masked: numbers of the hidden patches, (batch, some).

    Returns:
        (batch,) in float32.

    Example:
        >>> patches = ops.array([[[0.0, 2.0], [5.0, 5.0]]])
        >>> loss = masked_patches(patches, ops.zeros((1, 2, 2)), ops.array([[0]]))
        >>> round(float(loss[0]), 4)             # the patch becomes (-1, 1)
        1.0
    """
    wanted = picked(normalised_patches(patches), masked)
    error = ops.square(picked(ops.cast(predicted, "float32"), masked) - wanted)
    return ops.mean(error, axis=(1, 2))


def picked(x: Any, numbers: Any) -> Any:
    """Those of ``x`` (batch, time, features) with these numbers (batch, some)."""
    return ops.take_along_axis(x, ops.cast(numbers, "int32")[..., None], axis=1)


def drawn_tokens(logits: Any, chances: Any) -> Any:
    """A token of each distribution, at the place that a number of [0, 1) falls to.

    So the numbers alone are drawn at random, and can be drawn elsewhere.

    Args:
        logits: (..., vocab_size).
        chances: (...,).

    Returns:
        (...,) int32.

    Example:
        >>> logits = ops.log(ops.array([[0.25, 0.0, 0.75]] * 2))
        >>> drawn_tokens(logits, ops.array([0.2, 0.3])).numpy().tolist()
        [0, 2]
    """
    upto = ops.cumsum(ops.softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)
    chances = ops.cast(chances, "float32")[..., None] * upto[..., -1:]  # it rounds
    passed = ops.sum(ops.cast(upto <= chances, "int32"), axis=-1)
    return ops.minimum(passed, logits.shape[-1] - 1)
