"""Losses on a batch: how its examples stand to one another.

Each compares (batch, batch) relations, so that widths may differ. Examples of weight 0
are left out: the rest gives what it would give alone.
"""

from typing import Any

from keras import ops


def sp(teacher_features: Any, student_features: Any, weights: Any = None) -> Any:
    """Mean squared difference of the Gram matrices, each row of L2 norm 1.

    Tung & Mori, "Similarity-preserving knowledge distillation", 2019 (1907.09682).

    Args:
        teacher_features: (batch, ...), flattened to vectors.
        student_features: of the student, the same.
        weights: (batch,) of the examples.

    Returns:
        A scalar.
    """
    t, s, w = _vectors(teacher_features, student_features, weights)
    difference = ops.square(_similarity(t, w) - _similarity(s, w))
    return _mean(difference, w[:, None] * w[None, :])


def _similarity(x: Any, weights: Any) -> Any:
    gram = ops.matmul(x, ops.transpose(x))  # (batch, batch)
    squares = ops.sum(weights[None, :] * gram * gram, axis=1, keepdims=True)
    return gram * ops.rsqrt(ops.maximum(squares, 1e-24))


def rkd(
    teacher_features: Any,
    student_features: Any,
    distance: float = 25.0,
    angle: float = 50.0,
    weights: Any = None,
) -> Any:
    """Smooth L1 of pair distances, and of the angles' cosines of triplets.

    Distances are in units of their mean. Memory grows with batch^2 features + batch^3.
    Park et al., "Relational knowledge distillation", 2019 (1904.05068).

    Args:
        teacher_features: (batch, ...), flattened to vectors.
        student_features: of the student, the same.
        distance: weight of the first.
        angle: weight of the second.
        weights: (batch,) of the examples.

    Returns:
        A scalar.
    """
    t, s, w = _vectors(teacher_features, student_features, weights)
    pairs = w[:, None] * w[None, :]
    t, s = (x[None, :, :] - x[:, None, :] for x in (t, s))  # (batch, batch, features)
    near = smooth_l1(_distances(t, pairs) - _distances(s, pairs))
    turned = smooth_l1(_cosines(t) - _cosines(s))  # (batch, batch, batch)
    triples = w[:, None, None] * pairs[None, :, :]
    return distance * _mean(near, pairs) + angle * _mean(turned, triples)


def _distances(differences: Any, pairs: Any) -> Any:
    """(batch, batch) Euclidean distances over their mean; 0 from itself."""
    squares = ops.sum(ops.square(differences), axis=-1)
    distances = ops.sqrt(ops.maximum(squares, 1e-24))
    others = pairs * (1 - ops.eye(ops.shape(pairs)[0], dtype="float32"))
    return distances / ops.maximum(_mean(distances, others), 1e-12)


def _cosines(differences: Any) -> Any:
    """Of the angle at i between j and k, (batch, batch, batch)."""
    squares = ops.sum(ops.square(differences), axis=-1, keepdims=True)
    unit = differences * ops.rsqrt(ops.maximum(squares, 1e-24))
    return ops.matmul(unit, ops.transpose(unit, (0, 2, 1)))


def smooth_l1(x: Any) -> Any:
    """x^2 / 2 within 1 of zero, |x| - 1/2 beyond."""
    size = ops.abs(x)
    return ops.where(size < 1, ops.square(x) / 2, size - 0.5)


def pkt(teacher_features: Any, student_features: Any, weights: Any = None) -> Any:
    """KL of each example's similarities to the batch, a mean over all pairs.

    Similarities are (1 + cosine) / 2, a row of which sums to 1. Passalis & Tefas,
    "Learning deep representations with probabilistic knowledge transfer", 2018
    (1803.10837).

    Args:
        teacher_features: (batch, ...), flattened to vectors.
        student_features: of the student, the same.
        weights: (batch,) of the examples.

    Returns:
        A scalar.
    """
    t, s, w = _vectors(teacher_features, student_features, weights)
    p, q = (_neighbours(x, w) for x in (t, s))
    tiny = 1e-7
    values = p * (ops.log(p + tiny) - ops.log(q + tiny))
    return _mean(values, w[:, None] * ops.ones_like(values), w[:, None] * w[None, :])


def _neighbours(x: Any, weights: Any) -> Any:
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    unit = x * ops.rsqrt(ops.maximum(squares, 1e-24))
    cosine = ops.matmul(unit, ops.transpose(unit))
    similar = (cosine + 1) / 2 * weights[None, :]
    return similar / ops.maximum(ops.sum(similar, axis=1, keepdims=True), 1e-12)


def _vectors(teacher: Any, student: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Both as float32 (batch, features), and weights of which the greatest is 1."""
    t, s = (
        ops.reshape(ops.cast(x, "float32"), (ops.shape(x)[0], -1))
        for x in map(ops.convert_to_tensor, (teacher, student))
    )
    if weights is None:
        return t, s, ops.ones_like(t[:, 0])
    weights = ops.cast(weights, "float32")
    return t, s, weights / ops.maximum(ops.max(weights), 1e-12)


def _mean(values: Any, weights: Any, counted: Any = None) -> Any:
    """Weighted mean over all entries."""
    total = ops.sum(weights if counted is None else counted)
    return ops.sum(values * weights) / ops.maximum(total, 1e-12)
