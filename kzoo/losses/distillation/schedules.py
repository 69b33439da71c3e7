"""How the weights of the losses, and their temperature, change with the step."""

import math
from typing import Any

from keras import ops


def schedule_factor(
    kind: str, step: Any, total_steps: int, warmup_rate: float = 1 / 12
) -> Any:
    """The share of its full value that a weight or temperature has at a step.

        constant  1
        linear    from 0 to 1 over the first ``warmup_rate`` of the steps, then 1
        cosine    (1 + cos(pi t)) / 2, from 1 to 0

    Args:
        kind: ``constant``, ``linear`` or ``cosine``.
        step: counted from 0, a number or a tensor.
        total_steps: of the training.
        warmup_rate: of the linear rise.

    Example:
        >>> float(schedule_factor("linear", 4, total_steps=100, warmup_rate=0.1))
        0.5
    """
    if kind == "constant" or not total_steps:
        return 1.0
    step = ops.cast(step, "float32")
    if kind == "linear":
        return ops.minimum(1.0, (step + 1) / max(1.0, warmup_rate * total_steps))
    return (1 + ops.cos(math.pi * ops.minimum(1.0, step / total_steps))) / 2
