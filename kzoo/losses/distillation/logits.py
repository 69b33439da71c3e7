"""Losses on logits: what the teacher says of the classes."""

from collections.abc import Sequence
from typing import Any

from keras import ops

# Stands for -infinity: far below any logit, and differences of two stay finite.
LOWEST = -1e30


def kd(
    teacher_logits: Any, student_logits: Any, temperature: Any = 4.0, mask: Any = None
) -> Any:
    """T^2 KL(p_T || q_T), p and q the softmaxes of logits / T.

    Hinton et al., "Distilling the knowledge in a neural network", 2015 (1503.02531).

    Args:
        teacher_logits: (batch, classes), or (batch, time, classes); one logit is the
            log-odds of class 1.
        student_logits: of the student, the same.
        temperature: above 0; higher shows more of the unlikely classes.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)

    Example:
        >>> value = kd([[6.0, 0.0, -3.0]], [[3.0, 0.0, 0.0]], temperature=3.0)
        >>> round(float(value[0]), 4)
        1.6505
    """
    log_p = log_softmax(two_sided(teacher_logits) / temperature)
    log_q = log_softmax(two_sided(student_logits) / temperature)
    return temperature**2 * mean_of_example(divergence(log_p, log_q), mask)


def dkd(
    teacher_logits: Any,
    student_logits: Any,
    labels: Any = None,
    temperature: Any = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Any:
    """T^2 (alpha KL(target against rest) + beta KL(among the others)).

    The second term is what Hinton's loss hides behind a sure teacher. Zhao et al.,
    "Decoupled knowledge distillation", 2022 (2203.08679).

    Args:
        teacher_logits: (batch, classes).
        student_logits: of the student, the same.
        labels: (batch,) the target class; None, or below 0, = the teacher's choice.
        temperature: above 0.
        alpha: weight of the first.
        beta: weight of the second.

    Returns:
        (batch,)
    """
    z, x = two_sided(teacher_logits), two_sided(student_logits)
    chosen = ops.argmax(z, axis=-1)
    if labels is not None:
        labels = ops.cast(labels, chosen.dtype)
        chosen = ops.where(labels < 0, chosen, labels)
    target = ops.one_hot(chosen, z.shape[-1], dtype="bool")
    parts = [_decoupled(logits / temperature, target) for logits in (z, x)]
    (log_p, log_p_rest), (log_q, log_q_rest) = parts
    target_kl = divergence(log_p, log_q)
    rest_kl = divergence(log_p_rest, log_q_rest)
    return temperature**2 * (alpha * target_kl + beta * rest_kl)


def _decoupled(logits: Any, target: Any) -> tuple[Any, Any]:
    """Log-probabilities (batch, 2) of target and rest, and among the rest."""
    rest = ops.where(target, LOWEST, logits)
    own = ops.sum(ops.where(target, logits, 0.0), axis=-1)
    pair = ops.stack([own, ops.logsumexp(rest, axis=-1)], axis=-1)
    return log_softmax(pair), log_softmax(rest)


def dist(
    teacher_logits: Any,
    student_logits: Any,
    temperature: Any = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    weights: Any = None,
) -> Any:
    """T^2 (beta (1 - r between classes) + gamma (1 - r within each class)).

    r is Pearson's correlation of the two softmaxes: over the classes of an example, and
    over the batch for a class. A student may so be less sure than its teacher. Huang et
    al., "Knowledge distillation from a stronger teacher", 2022 (2205.10536).

    Args:
        teacher_logits: (batch, classes).
        student_logits: of the student, the same.
        temperature: above 0.
        beta: weight of the first.
        gamma: weight of the second.
        weights: (batch,) of the examples.

    Returns:
        A scalar.
    """
    p = ops.exp(log_softmax(two_sided(teacher_logits) / temperature))
    q = ops.exp(log_softmax(two_sided(student_logits) / temperature))
    rows = ops.ones_like(p[:, 0]) if weights is None else ops.cast(weights, "float32")
    rows = rows / ops.maximum(ops.sum(rows), 1e-12)
    columns = ops.full_like(p[0], 1 / p.shape[-1])
    between = 1 - _correlation(p, q, columns[None, :], axis=1)  # (batch,)
    within = 1 - _correlation(p, q, rows[:, None], axis=0)  # (classes,)
    both = beta * ops.sum(rows * between) + gamma * ops.mean(within)
    return temperature**2 * both


def _correlation(x: Any, y: Any, shares: Any, axis: int) -> Any:
    """Pearson's r along an axis; 1 where neither varies."""
    x = x - ops.sum(shares * x, axis=axis, keepdims=True)
    y = y - ops.sum(shares * y, axis=axis, keepdims=True)
    xy, xx, yy = (ops.sum(shares * z, axis=axis) for z in (x * y, x * x, y * y))
    # A variance this small is rounding: the ratio goes to 1, and its gradient to 0.
    tiny = 1e-12
    return (xy + tiny) / (ops.sqrt(ops.maximum(xx * yy, 1e-36)) + tiny)


def hard(teacher_logits: Any, student_logits: Any, mask: Any = None) -> Any:
    """Cross-entropy of the class that the teacher picks.

    Touvron et al., "Training data-efficient image transformers & distillation through
    attention", 2021, sec. 4 (2012.12877).

    Args:
        teacher_logits: (batch, classes) or (batch, time, classes).
        student_logits: of the student, the same.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    z, log_q = two_sided(teacher_logits), log_softmax(two_sided(student_logits))
    picked = ops.one_hot(ops.argmax(z, axis=-1), z.shape[-1], dtype="bool")
    return mean_of_example(-ops.sum(ops.where(picked, log_q, 0.0), axis=-1), mask)


def standardized(logits: Any) -> Any:
    """Each example's logits with mean 0 and standard deviation 1 over the classes.

    For ``kd`` on the order and the shape of logits rather than on their size. Sun et
    al., "Logit standardization in knowledge distillation", 2024 (2403.01427).
    """
    logits = two_sided(logits)
    centred = logits - ops.mean(logits, axis=-1, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
    return centred / ops.sqrt(variance + 1e-12)


def ensemble_logits(
    teachers: Sequence[Any], mean: str = "log_probabilities", temperature: Any = 1.0
) -> Any:
    """Logits whose softmax at a temperature is the mean of the teachers' there.

    Args:
        teachers: logits (..., classes) of each.
        mean: of ``log_probabilities`` (the geometric mean) or of ``probabilities``.
        temperature: at which the means agree.

    Returns:
        (..., classes)
    """
    tempered = [log_softmax(two_sided(x) / temperature) for x in teachers]
    stacked = ops.stack(tempered, axis=0)
    if mean == "probabilities":
        together = ops.logsumexp(stacked, axis=0) - ops.log(float(len(tempered)))
    else:
        together = ops.mean(stacked, axis=0)
    return temperature * together


def two_sided(logits: Any) -> Any:
    """Float32 logits of all classes: one logit z becomes [0, z]."""
    logits = ops.cast(logits, "float32")
    if logits.shape[-1] != 1:
        return logits
    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)


def log_softmax(logits: Any) -> Any:
    """Over the last axis."""
    return logits - ops.logsumexp(logits, axis=-1, keepdims=True)


def divergence(log_p: Any, log_q: Any) -> Any:
    """KL(p || q) over the last axis, from log-probabilities."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def mean_of_example(values: Any, mask: Any = None) -> Any:
    """(batch, ...) -> (batch,): the mean, over real positions where a mask says which.

    The mask covers the first axes of ``values``; an example without a real position
    gives 0.
    """
    axes = tuple(range(1, len(values.shape)))
    if mask is None:
        return ops.mean(values, axis=axes) if axes else values
    weights = ops.cast(mask, "float32")
    while len(weights.shape) < len(values.shape):
        weights = weights[..., None]
    weights = weights * ops.ones_like(values)
    total = ops.sum(ops.where(weights > 0, values * weights, 0.0), axis=axes)
    return total / ops.maximum(ops.sum(weights, axis=axes), 1.0)
