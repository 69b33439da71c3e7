"""What Keras 3.15 gets wrong under ``tf.distribute``, put right; nothing else is here.

1. ``MultiWorkerMirroredStrategy`` fails in ``fit``: the model is built from a batch
   that is reduced as one value though it is a tuple, and scalars along an axis.
2. Gradients are clipped, accumulated and tested for overflow by each replica alone, and
   summed afterwards: another update than that of one device.
3. ``BatchNormalization`` with a mask ignores ``synchronized``.
4. The sum of the gradients, even over one replica, keeps the graph of each training
   step in memory for ever.

``tests/test_launcher.py`` fails once Keras no longer needs the first: delete it then.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def multi_worker_fit(strategy: Any) -> Iterator[None]:
    """``fit`` and ``predict`` inside work with several workers."""
    from keras.src import tree
    from keras.src.backend.tensorflow import trainer

    keras_build = trainer.TensorFlowTrainer._maybe_symbolic_build
    keras_reduce = trainer.reduce_per_replica

    def first_local(value: Any) -> Any:
        return strategy.experimental_local_results(value)[0]

    def build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tree.map_structure(first_local, next(batches))
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    def reduce(values: Any, of: Any, reduction: str) -> Any:
        if reduction == "concat":
            # Rows lie by worker, and in it by replica.
            return tree.map_structure(lambda v: strategy.gather(v, axis=0), values)
        # Metrics of a step are shown by nobody; those of an epoch are read from their
        # variables, which sums them over all replicas.
        return tree.map_structure(first_local, values)

    trainer.TensorFlowTrainer._maybe_symbolic_build = build
    trainer.reduce_per_replica = reduce
    try:
        yield
    finally:
        trainer.TensorFlowTrainer._maybe_symbolic_build = keras_build
        trainer.reduce_per_replica = keras_reduce


def sum_gradients_first(optimizer: Any) -> None:
    """The optimizer sees the whole gradient before it does anything with it.

    It then runs once, outside of the replicas, and writes to the variables of all: its
    conditions (accumulate or update, overflow or not) cannot stand inside a replica.
    """
    import tensorflow as tf

    keras_apply = optimizer.apply
    # Keras's loss scaling refuses to stand where it would do no harm.
    apply_once = getattr(optimizer, "_common_apply", keras_apply)

    def apply(grads: Sequence[Any], trainable_variables: Any = None) -> Any:
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return keras_apply(grads, trainable_variables)
        known = [i for i, grad in enumerate(grads) if grad is not None]
        dense = [tf.convert_to_tensor(grads[i]) for i in known]
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, dense)

        def update(strategy: Any, *values: Any) -> None:
            whole: list[Any] = [None] * len(grads)
            for i, value in zip(known, values, strict=True):
                whole[i] = strategy.experimental_local_results(value)[0]
            with outside_of_replicas():
                apply_once(whole, trainable_variables)

        return context.merge_call(update, args=tuple(summed))

    optimizer.apply = apply


@contextmanager
def outside_of_replicas() -> Iterator[None]:
    """What Keras's optimizers hand to all replicas is done at once."""
    import tensorflow as tf

    interim = tf.__internal__.distribute.interim
    merge_call = interim.maybe_merge_call

    def call(function: Any, strategy: Any, *args: Any, **kwargs: Any) -> Any:
        return function(strategy, *args, **kwargs)

    interim.maybe_merge_call = call
    try:
        yield
    finally:
        interim.maybe_merge_call = merge_call


def synchronize(layer: Any) -> None:
    """The statistics of a ``BatchNormalization`` are those of the whole batch."""
    layer.synchronized = True
    keras_moments = layer._moments

    def moments(inputs: Any, mask: Any) -> Any:
        import keras
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if mask is None or context is None:
            return keras_moments(inputs, mask)
        axes = layer._reduction_axes
        x = tf.cast(inputs, "float32")
        real = tf.broadcast_to(tf.cast(mask, "float32")[..., None], tf.shape(x))

        def total(values: Any) -> Any:
            local = tf.reduce_sum(values, axis=axes)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, local)

        count = total(real) + keras.config.epsilon()
        mean = total(x * real) / count
        variance = total(tf.square((x - mean) * real)) / count
        return tf.cast(mean, inputs.dtype), tf.cast(variance, inputs.dtype)

    layer._moments = moments


@contextmanager
def forgotten_gradients() -> Iterator[None]:
    """Lets go of the graphs that were traced inside.

    TensorFlow holds each custom gradient for ever, and with it the graph that it stands
    in; Keras's optimizer has one in every training step.
    """
    import keras

    if keras.config.backend() != "tensorflow":
        yield
        return
    from tensorflow.python.framework.ops import gradient_registry

    known = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - known:
            if name.startswith("CustomGradient-"):  # not an operation's own
                del gradient_registry._registry[name]
