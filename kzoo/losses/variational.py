"""The evidence lower bound of a variational autoencoder."""

import math
from typing import Any

from keras import ops


def kl_to_standard_normal(mean: Any, log_variance: Any) -> Any:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the dimensions.

    Kingma & Welling 2014 (1312.6114), appendix B.

    Args:
        mean: (batch, dimensions).
        log_variance: of the same shape.

    Returns:
        (batch,) in float32.

    Example:
        >>> float(kl_to_standard_normal(ops.ones((1, 2)), ops.zeros((1, 2)))[0])
        1.0
    """
    mean, log_variance = (ops.cast(x, "float32") for x in (mean, log_variance))
    terms = ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance
    return ops.sum(terms, axis=-1) / 2


def negative_log_normal(targets: Any, means: Any, deviation: float) -> Any:
    """-log N(targets; means, deviation^2) in nats, summed over all but the batch.

    Args:
        targets: (batch, ...).
        means: of the same shape.
        deviation: standard deviation of each number.

    Returns:
        (batch,) in float32.
    """
    error = (ops.cast(targets, "float32") - ops.cast(means, "float32")) / deviation
    terms = ops.square(error) / 2 + math.log(deviation * math.sqrt(2 * math.pi))
    return ops.sum(ops.reshape(terms, (ops.shape(terms)[0], -1)), axis=-1)
