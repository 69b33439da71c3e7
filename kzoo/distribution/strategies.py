"""Replicas of TensorFlow: ``mirrored``, ``multi_worker`` and ``tpu``."""

import functools
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.distribution import keras_mend
from kzoo.distribution.cluster import Cluster, rendezvous
from kzoo.distribution.single import Distribution, Layout

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Strategy(Distribution):
    """A ``tf.distribute`` strategy; each replica takes its rows of a batch.

    Attributes:
        strategy: TensorFlow's.
    """

    strategy: Any = None

    @property
    def local_replicas(self) -> int:
        """Replicas of this process."""
        return self.num_replicas // self.shard[1]

    @contextmanager
    def scope(self, layout: Layout | None = None) -> Iterator[None]:
        many = self.shard[1] > 1
        mend = keras_mend.multi_worker_fit(self.strategy) if many else nullcontext()
        with super().scope(), mend, self.strategy.scope():
            yield

    def adapt(self, model: Any, batch_norm: str) -> None:
        import keras

        if self.num_replicas == 1:
            return
        if batch_norm == "synchronized":
            for layer in model._flatten_layers():
                if isinstance(layer, keras.layers.BatchNormalization):
                    keras_mend.synchronize(layer)
        optimizer = model.optimizer
        inner = getattr(optimizer, "inner_optimizer", None)  # Keras's loss scaling
        whole = inner or optimizer
        clips = (whole.clipnorm, whole.global_clipnorm, whole.clipvalue)
        if inner or any(clips) or whole.gradient_accumulation_steps:
            keras_mend.sum_gradients_first(optimizer)

    def fed(self, batches: Any) -> Any:
        import tensorflow as tf
        from keras import tree

        replicas = self.local_replicas
        # Keras's adapter around batches whose sequences differ in length.
        varying = hasattr(batches, "py_dataset")
        batches = batches.py_dataset if varying else batches

        def rows(array: Any, replica: int) -> Any:
            share = len(array) // replicas
            return array[replica * share : (replica + 1) * share]

        def shares() -> Iterator[Any]:
            for i in itertools.count():
                batch = batches[i]
                for replica in range(replicas):
                    yield tree.map_structure(
                        functools.partial(rows, replica=replica), batch
                    )

        def spec(array: Any) -> Any:
            shape = [len(array) // replicas, *array.shape[1:]]
            if varying and len(shape) > 1:
                shape[1] = None
            return tf.TensorSpec(shape, array.dtype)

        signature = tree.map_structure(spec, batches[0])

        def dataset(context: Any) -> Any:
            made = tf.data.Dataset.from_generator(shares, output_signature=signature)
            return made.prefetch(2 * replicas)

        return self.strategy.distribute_datasets_from_function(dataset)

    def outputs(self, model: Any, inputs: Any) -> np.ndarray:
        from keras import tree

        return np.asarray(
            model.predict_on_batch(tree.map_structure(self._by_replica, inputs))
        )

    @contextmanager
    def settled(self, model: Any) -> Iterator[None]:
        """Statistics of ``batch_norm=local``: those of all replicas averaged."""
        changed = []
        for variable in model.weights:
            if self._by_itself(variable):
                values = self.read(variable)  # (replicas, ...)
                if not (values == values[:1]).all():
                    changed.append((variable, values))
        for variable, values in changed:
            variable.assign(values.mean(axis=0, dtype="float64").astype(values.dtype))
        try:
            yield
        finally:
            for variable, values in changed:
                self.write(variable, values)

    def value(self, variable: Any) -> np.ndarray:
        return np.array(variable.value.numpy())

    def read(self, variable: Any) -> np.ndarray:
        if not self._by_itself(variable):
            return super().read(variable)
        held = np.stack([each.numpy() for each in variable.value.values])
        return np.concatenate(list(self.gather(held)))

    def shape(self, variable: Any) -> tuple[int, ...]:
        shape = super().shape(variable)
        return (self.num_replicas, *shape) if self._by_itself(variable) else shape

    def write(self, variable: Any, array: np.ndarray) -> None:
        if not self._by_itself(variable):
            super().write(variable, array)
            return
        first = self.shard[0] * self.local_replicas
        for i, each in enumerate(variable.value.values):
            each.assign(array[first + i])

    def gather(self, array: np.ndarray) -> np.ndarray:
        if self.shard[1] == 1:
            return super().gather(array)
        values = self.strategy.experimental_distribute_values_from_function(
            lambda context: _tensor(array[None])
        )
        return self._gathered(values).numpy()[:: self.local_replicas]

    @functools.cached_property
    def _gathered(self) -> Any:
        """Of values by replica -> (replicas, ...); traced once for each shape."""
        import tensorflow as tf

        return tf.function(lambda values: self.strategy.gather(values, axis=0))

    def gathered(self, x: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is None or self.num_replicas == 1:
            return super().gathered(x)
        # As a sum: TensorFlow's all_gather fails inside a step of several workers.
        rows, replicas = tf.shape(x)[0], context.num_replicas_in_sync
        begin = context.replica_id_in_sync_group * rows
        around = [[begin, (replicas - 1) * rows - begin]]
        alone = tf.pad(x, around + [[0, 0]] * (len(x.shape) - 1))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, alone), begin

    def _by_itself(self, variable: Any) -> bool:
        """Whether each replica holds a value of its own."""
        if not hasattr(variable.value, "values"):
            return False  # made outside of the scope
        # Running metrics; and statistics, which Keras leaves to each replica.
        on_read = variable.synchronization == "on_read"
        return on_read or variable.name in ("moving_mean", "moving_variance")

    def _by_replica(self, array: np.ndarray) -> Any:
        """This process's rows, cut among its replicas."""
        first = self.shard[0] * self.local_replicas
        share = len(array) // self.local_replicas

        def rows(context: Any) -> Any:
            i = context.replica_id_in_sync_group - first
            return _tensor(array[i * share : (i + 1) * share])

        return self.strategy.experimental_distribute_values_from_function(rows)


def _tensor(array: np.ndarray) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(array)


@functools.cache
def mirrored() -> Strategy:
    """One replica on each GPU of this machine, or on each logical CPU."""
    import tensorflow as tf

    for platform in ("GPU", "CPU"):
        found = [device.name for device in tf.config.list_logical_devices(platform)]
        if found:
            break
    strategy = tf.distribute.MirroredStrategy(found)
    return Strategy(
        "mirrored",
        len(found),
        why=f"{len(found)} {platform}{'s' if len(found) > 1 else ''}",
        strategy=strategy,
    )


@functools.cache
def multi_worker(cluster: Cluster) -> Strategy:
    """A worker a process, each with replicas on all its GPUs.

    TensorFlow allows one such strategy a process, before it has computed anything.

    Raises:
        TimeoutError: not all workers appeared.
    """
    import tensorflow as tf

    if len(cluster.addresses) != cluster.workers:
        raise ValueError(
            f"multi_worker needs the address of each of the {cluster.workers} workers; "
            f"{cluster.source} gives {len(cluster.addresses)}"
        )
    rendezvous(cluster)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.rank,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    return Strategy(
        "multi_worker",
        strategy.num_replicas_in_sync,
        (cluster.rank, cluster.workers),
        f"worker {cluster.rank} of {cluster.workers} by {cluster.source}",
        strategy,
    )


@functools.cache
def tpu() -> Strategy:
    """A replica on each core of a TPU that this process reaches.

    Raises:
        ValueError: there is none.
    """
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except Exception as error:  # TensorFlow raises a kind of its own for each cause
        raise ValueError(
            f"distribution 'tpu' found no TPU: {str(error).splitlines()[0]}"
        ) from None
    strategy = tf.distribute.TPUStrategy(resolver)
    cores = strategy.num_replicas_in_sync
    return Strategy("tpu", cores, why=f"{cores} TPU cores", strategy=strategy)
