"""Losses on features: what the teacher sees on the way, example by example."""

from typing import Any

from keras import ops

from kzoo.losses.distillation.logits import (
    LOWEST,
    divergence,
    log_softmax,
    mean_of_example,
)


def fitnet(teacher_features: Any, student_features: Any, mask: Any = None) -> Any:
    """Mean squared difference; unequal widths need a projection first.

    Romero et al., "FitNets: hints for thin deep nets", 2015 (1412.6550).

    Args:
        teacher_features: (batch, ..., features).
        student_features: of the same shape.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    t, s = _float32(teacher_features, student_features)
    return mean_of_example(ops.square(t - s), mask)


def at(
    teacher_features: Any, student_features: Any, power: float = 2.0, mask: Any = None
) -> Any:
    """Mean squared difference of the two attention maps, each of L2 norm 1.

    A map is mean(|F|^power) over the channels, one number a place, so that widths may
    differ. The mean over places is that of the authors' code, which their weight of
    1,000 goes with. Zagoruyko & Komodakis, "Paying more attention to attention", 2017
    (1612.03928).

    Args:
        teacher_features: (batch, height, width, channels) or (batch, time, channels),
            of the same places.
        student_features: of the student, the same.
        power: above 0; higher looks at the strongest channels.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    maps = [
        ops.mean(ops.power(ops.abs(x) + 1e-12, power), axis=-1)
        for x in _float32(teacher_features, student_features)
    ]
    if mask is not None:
        real = ops.cast(mask, "bool")
        maps = [ops.where(real, x, 0.0) for x in maps]
    t, s = (_unit(ops.reshape(x, (ops.shape(x)[0], -1))) for x in maps)
    return mean_of_example(ops.square(t - s), mask)


def vid(
    teacher_features: Any,
    student_mean: Any,
    student_variance: Any = 1.0,
    mask: Any = None,
) -> Any:
    """Gaussian negative log-likelihood of the teacher's features, less its constant.

    (log variance + (teacher - mean)^2 / variance) / 2, a mean over the features. The
    student gives the mean, by a regressor; the variance is learned. Ahn et al.,
    "Variational information distillation for knowledge transfer", 2019 (1904.05835).

    Args:
        teacher_features: (batch, ..., features).
        student_mean: of the same shape.
        student_variance: above 0, (features,) or what broadcasts to the features.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    t, s = _float32(teacher_features, student_mean)
    variance = ops.cast(student_variance, "float32")
    values = ops.log(variance) + ops.square(t - s) / variance
    return mean_of_example(values / 2, mask)


def hidden(teacher_states: Any, student_states: Any, mask: Any = None) -> Any:
    """1 - cosine of the hidden states, the mean over positions.

    Sanh et al., "DistilBERT, a distilled version of BERT", 2019, sec. 3 (1910.01108).

    Args:
        teacher_states: (batch, ..., features).
        student_states: of the same shape.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    t, s = (_unit(x) for x in _float32(teacher_states, student_states))
    return mean_of_example(ops.sum(ops.square(t - s), axis=-1) / 2, mask)


def relations(
    teacher: tuple[Any, Any, Any],
    student: tuple[Any, Any, Any],
    num_heads: int,
    mask: Any = None,
) -> Any:
    """KL of the attention maps, plus KL of the relations among the values.

    Each is a softmax of scaled products over the positions, in each head: of queries
    with keys, and of values with values. Widths may differ, heads may not. Wang et al.,
    "MiniLM: deep self-attention distillation", 2020, sec. 3 (2002.10957).

    Args:
        teacher: query, key and value (batch, time, hidden_dim) of one layer.
        student: of the student, the same.
        num_heads: of both; they divide each hidden_dim.
        mask: (batch, time), true at real positions.

    Returns:
        (batch,)
    """
    total: Any = 0.0
    for left, right in ((0, 1), (2, 2)):
        log_p, log_q = (
            _relation(taps[left], taps[right], num_heads, mask)
            for taps in (teacher, student)
        )
        kl = divergence(log_p, log_q)  # (batch, heads, time)
        total = total + mean_of_example(ops.mean(kl, axis=1), mask)
    return total


def _relation(left: Any, right: Any, num_heads: int, mask: Any) -> Any:
    """Log-softmax of scaled products, (batch, heads, time, time)."""
    a, b = (_heads(x, num_heads) for x in _float32(left, right))
    scores = ops.einsum("bthd,bshd->bhts", a, b) / a.shape[-1] ** 0.5
    if mask is not None:
        scores = ops.where(ops.cast(mask, "bool")[:, None, None, :], scores, LOWEST)
    return log_softmax(scores)


def _heads(x: Any, num_heads: int) -> Any:
    """(batch, time, hidden_dim) -> (batch, time, heads, head_dim)."""
    batch, time = ops.shape(x)[:2]
    return ops.reshape(x, (batch, time, num_heads, x.shape[-1] // num_heads))


def _unit(x: Any) -> Any:
    """Of L2 norm 1 along the last axis; a zero stays zero, with a finite gradient."""
    squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squares, 1e-24))


def _float32(*tensors: Any) -> list[Any]:
    return [ops.cast(x, "float32") for x in tensors]
