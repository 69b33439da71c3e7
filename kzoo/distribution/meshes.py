"""Meshes of JAX devices: ``data_parallel`` and ``model_parallel``."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.distribution.cluster import Cluster, rendezvous
from kzoo.distribution.layouts import check_layout
from kzoo.distribution.single import Distribution, Layout


@dataclass(frozen=True, eq=False)
class Mesh(Distribution):
    """Devices in rows that share a batch, and columns that share the weights.

    Attributes:
        columns: devices that hold one copy of the weights together; 1 = each its own.
    """

    columns: int = 1

    def check(self, batch_size: int, batch_norm: str) -> None:
        super().check(batch_size, batch_norm)
        if batch_norm == "local":
            raise ValueError(
                "batch_norm='local' is not to be had on JAX, which computes on the "
                "whole batch wherever its rows lie; leave it 'synchronized'"
            )

    @contextmanager
    def scope(self, layout: Layout | None = None) -> Iterator[None]:
        import jax
        import keras

        devices = [f"{device.platform}:{device.id}" for device in jax.devices()]
        kinds = keras.distribution
        if self.kind == "data_parallel":
            shared: Any = kinds.DataParallel(devices=devices, auto_shard_dataset=False)
        else:
            if not layout:
                raise ValueError(
                    "model_parallel needs a family that says how its variables lie on "
                    "the devices (Family.layout); this one does not: use data_parallel"
                )
            shape = (self.num_replicas, self.columns)
            mesh = kinds.DeviceMesh(shape, ["batch", "model"], devices)
            layouts = kinds.LayoutMap(mesh)
            for pattern, axes in layout.items():
                layouts[pattern] = axes
            shared = kinds.ModelParallel(
                layout_map=layouts, batch_dim_name="batch", auto_shard_dataset=False
            )
        with super().scope(layout), shared.scope():
            yield

    def adapt(self, model: Any, batch_norm: str) -> None:
        import keras

        shared = keras.distribution.distribution()
        if self.kind != "data_parallel":
            layout = {
                pattern: shared._layout_map[pattern].axes
                for pattern in shared._layout_map
            }
            check_layout(layout, model.variables, self.columns)

    def outputs(self, model: Any, inputs: Any) -> np.ndarray:
        import jax
        import keras

        shared = keras.distribution.distribution()

        def spread(rows: np.ndarray) -> Any:
            whole = (len(rows) * self.shard[1], *rows.shape[1:])
            layout = shared.get_data_layout(whole).backend_layout
            return jax.make_array_from_process_local_data(layout, rows, whole)

        if self.shard[1] > 1:
            _gather_predictions(model)
        return np.asarray(
            model.predict_on_batch(keras.tree.map_structure(spread, inputs))
        )

    def read(self, variable: Any) -> np.ndarray:
        value = variable.value
        if value.is_fully_addressable or value.is_fully_replicated:
            return np.asarray(value)
        # Columns lie within a process, which thus holds every part.
        whole = np.empty(value.shape, value.dtype)
        for shard in value.addressable_shards:
            whole[shard.index] = shard.data
        return whole

    def gather(self, array: np.ndarray) -> np.ndarray:
        if self.shard[1] == 1:
            return super().gather(array)
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array))


def _gather_predictions(model: Any) -> None:
    """Outputs come to every process; Keras reads them as if all lay on this one."""
    model.make_predict_function()
    predict = model.predict_function
    if getattr(predict, "gathers", False):
        return

    def gathered(state: Any, batches: Any) -> Any:
        from jax.experimental import multihost_utils

        outputs, state = predict(state, batches)
        return multihost_utils.process_allgather(outputs, tiled=True), state

    gathered.gathers = True  # type: ignore[attr-defined]
    model.predict_function = gathered


def data_parallel(cluster: Cluster | None) -> Mesh:
    """Each device holds all weights and takes its rows of the batch."""
    devices, shard, why = _joined(cluster)
    return Mesh("data_parallel", devices, shard, why)


def model_parallel(cluster: Cluster | None, columns: int | None) -> Mesh:
    """The weights are cut over devices of one machine, the batch over such groups.

    Args:
        cluster: see ``kzoo.distribution.cluster``.
        columns: devices that hold one copy of the weights; None = those of a process.

    Raises:
        ValueError: the columns do not divide the devices of a process.
    """
    devices, shard, why = _joined(cluster)
    own = devices // shard[1]
    columns = columns or own
    if own % columns:
        near = [n for n in range(1, own + 1) if own % n == 0]
        raise ValueError(
            f"model_parallel:{columns} does not divide the {own} devices of a process; "
            f"numbers that do: {', '.join(map(str, near))}"
        )
    why = f"{why}, {columns} to a copy of the weights"
    kind = f"model_parallel:{columns}"
    return Mesh(kind, devices // columns, shard, why, columns)


def _joined(cluster: Cluster | None) -> tuple[int, tuple[int, int], str]:
    """Devices of all processes; rank and number of these; both in words."""
    import jax

    if cluster is not None:
        _join(cluster)
    devices = jax.devices()
    shard = (jax.process_index(), jax.process_count())
    why = f"{len(devices)} {devices[0].platform} devices"
    if cluster is not None:
        why += f", process {shard[0]} of {shard[1]} by {cluster.source}"
    return len(devices), shard, why


@functools.cache
def _join(cluster: Cluster) -> None:
    """Joins the other processes, once and before JAX has computed anything."""
    import jax
    import keras

    rendezvous(cluster)
    # For CPUs; it leaves other devices alone.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if not cluster.addresses:
        keras.distribution.initialize()
        return
    os.environ.setdefault("JAX_COORDINATOR_ADDRESS", cluster.addresses[0])
    keras.distribution.initialize(cluster.addresses[0], cluster.workers, cluster.rank)
