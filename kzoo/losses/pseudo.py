"""Losses whose labels are a model's own."""

from typing import Any

from keras import ops

from kzoo.losses.task import cross_entropy


def pseudo_label(teaching: Any, taught: Any, confidence: float) -> tuple[Any, Any]:
    """Cross-entropy to the likeliest class, where that is likely enough.

    Sohn et al. 2020 (2001.07685), eq. 4; of one and the same view, Lee 2013.

    Args:
        teaching: logits that name the classes, (batch, classes), or (batch, 1): the
            log-odds of class 1. No gradient should flow through them.
        taught: logits that learn, of the same shape.
        confidence: least probability that counts.

    Returns:
        The loss (batch,), 0 where nothing counts, and what counts, (batch,) of 0 and 1.

    Example:
        >>> logits = ops.array([[3.0, 0.0], [0.1, 0.0]])
        >>> loss, sure = pseudo_label(logits, logits, confidence=0.9)
        >>> [round(float(x), 4) for x in loss], [float(x) for x in sure]
        ([0.0486, 0.0], [1.0, 0.0])
    """
    teaching = ops.cast(teaching, "float32")
    if teaching.shape[-1] == 1:
        labels = ops.cast(teaching[..., 0] > 0, "int32")
        likely = ops.sigmoid(ops.abs(teaching[..., 0]))
    else:
        labels = ops.argmax(teaching, axis=-1)
        likely = ops.max(ops.softmax(teaching, axis=-1), axis=-1)
    sure = ops.cast(likely >= confidence, "float32")
    return cross_entropy(labels, taught) * sure, sure
