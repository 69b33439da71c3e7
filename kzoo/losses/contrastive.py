"""Losses that tell an example's other view from all other examples."""

from typing import Any

from keras import ops


def nt_xent(
    first: Any,
    second: Any,
    temperature: float = 0.5,
    others: Any = None,
    begin: Any = 0,
    real: Any = None,
) -> Any:
    """The normalised, temperature-scaled cross-entropy of two views.

    Each view is compared, by cosine, with all other views of the batch; the right
    answer is the other view of the same example. Chen et al., "A simple framework for
    contrastive learning of visual representations", 2020 (2002.05709), eq. 1.

    Args:
        first: projections of one view, (batch, features).
        second: of the other.
        temperature: above 0; lower looks at the nearest examples.
        others: ``first`` and ``second`` of all replicas, (all, features) each; None =
            there is one replica.
        begin: the row of ``others`` that this replica's rows begin at.
        real: (all,), 0 at the rows of ``others`` to compare with nothing; None = all
            count.

    Returns:
        (batch,): the mean of the two views' losses.

    Example:
        >>> x = [[1.0, 0.0], [0.0, 1.0]]
        >>> nt_xent(ops.array(x), ops.array(x), 1.0).shape
        (2,)
    """
    first, second = _unit(first), _unit(second)
    all_first, all_second = (first, second) if others is None else map(_unit, others)
    row = begin + ops.arange(ops.shape(first)[0])
    same = row[:, None] == ops.arange(ops.shape(all_first)[0])  # (batch, all)
    real = ops.ones_like(all_first[:, 0]) if real is None else ops.cast(real, "float32")
    lowest = -1e30 * (1 - real)  # (all,)

    def one_way(view: Any, own: Any, other: Any, partner: Any) -> Any:
        positive = ops.sum(view * partner, axis=-1) / temperature
        own_scores = ops.matmul(view, ops.transpose(own)) / temperature
        own_scores = ops.where(same, -1e30, own_scores)  # not with itself
        scores = ops.matmul(view, ops.transpose(other)) / temperature
        both = ops.concatenate([own_scores + lowest, scores + lowest], axis=-1)
        return ops.logsumexp(both, axis=-1) - positive

    forth = one_way(first, all_first, all_second, second)
    back = one_way(second, all_second, all_first, first)
    return (forth + back) / 2


def _unit(x: Any) -> Any:
    x = ops.cast(x, "float32")
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)
