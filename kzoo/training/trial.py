"""Two steps of training under a distribution: whether it works on this machine."""

import keras
import numpy as np

from kzoo import distribution as distributions
from kzoo.distribution import Distribution
from kzoo.training.compiling import compiled
from kzoo.training.feeding import training_batches
from kzoo.training.fit import seeded
from kzoo.training.plan import plan


def two_steps(kind: str) -> Distribution:
    """Trains two steps, and returns where.

    Raises:
        ValueError: this machine or this backend does not have it.
        ArithmeticError: the loss is not a number.

    Example:
        >>> two_steps("none").num_replicas
        1
    """
    where = distributions.resolve(kind)
    rng = np.random.default_rng(0)
    examples = 2 * where.num_replicas
    inputs = rng.standard_normal((examples, 8)).astype("float32")
    settings = {"batch_size": examples, "units": (8 * where.num_replicas,)}
    same = (inputs, np.arange(examples) % 2)
    splits = dict.fromkeys(("train", "validation", "test"), same)
    planned = plan("mlp", splits, settings=settings)
    with seeded(0), where.scope(planned.layout):
        model = compiled(planned)
        where.adapt(model, planned.recipe.batch_norm)
        with training_batches(planned.dataset, planned.recipe) as batches:
            fed = where.fed(batches)
            history = model.fit(fed, steps_per_epoch=2, shuffle=False, verbose=0)
    loss = history.history["loss"][0]
    if not np.isfinite(loss):
        raise ArithmeticError(f"the loss is {loss}")
    keras.utils.clear_session(free_memory=False)
    return where
