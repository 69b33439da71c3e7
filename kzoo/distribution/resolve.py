"""From a word on the command line to a distribution on this machine."""

import logging
from typing import Any

from kzoo.distribution.cluster import PARAMETER_SERVERS, Cluster, find_cluster
from kzoo.distribution.single import NONE, Distribution
from kzoo.hparams import nearest

log = logging.getLogger(__name__)

# kind -> the backends that have it.
BACKENDS = {
    "none": ("tensorflow", "jax", "torch"),
    "mirrored": ("tensorflow",),
    "multi_worker": ("tensorflow",),
    "tpu": ("tensorflow",),
    "data_parallel": ("jax",),
    "model_parallel": ("jax",),
}
KINDS = ("auto", *BACKENDS)


def resolve(kind: str) -> Distribution:
    """The distribution of this name on this machine.

    Args:
        kind: one of ``KINDS``; ``auto`` takes what backend, devices and cluster offer.
            ``model_parallel:4`` lets four devices hold one copy of the weights.

    Raises:
        ValueError: an unknown name, or one that this backend or machine does not have.
        TimeoutError: other workers of the cluster did not appear.

    Example:
        >>> resolve("none").num_replicas
        1
    """
    import keras

    backend = keras.config.backend()
    name, columns = checked(kind, backend)
    if name == "none":
        return NONE
    cluster = find_cluster()
    if name == "auto":
        name = _offered(backend, cluster)
    found = _made(name, cluster, columns)
    log.info("distribution: %s, %s", found.kind, found.why)
    return found


def checked(kind: str, backend: str) -> tuple[str, int | None]:
    """The name, and the devices to one copy of the weights where they are given.

    It needs no Keras, so that a typo gets its error at once.

    Raises:
        ValueError: an unknown name, or one that the backend does not have here.
    """
    name, colon, columns = kind.partition(":")
    if name in ("parameter_server", "ps"):
        raise ValueError(PARAMETER_SERVERS)
    if name not in KINDS or (colon and name != "model_parallel"):
        raise ValueError(f"unknown distribution {kind!r}{nearest(name, KINDS)}")
    if colon and not (columns.isdecimal() and int(columns)):
        raise ValueError(
            f"{kind!r}: after the colon stands how many devices hold one copy of the "
            "weights, such as model_parallel:4"
        )
    if name != "auto" and backend not in BACKENDS[name]:
        able = [each for each, backends in BACKENDS.items() if backend in backends]
        raise ValueError(
            f"distribution {name!r} is {_or(BACKENDS[name])}'s, the backend is "
            f"{backend}, which has: {', '.join(able)}"
        )
    if name == "multi_worker" and find_cluster() is None:
        raise ValueError(
            "multi_worker finds no other workers in TF_CONFIG, "
            "KERAS_DISTRIBUTION_JOB_ADDRESSES, SLURM or the TPU's environment; on one "
            "machine: kzoo launch --workers 2 -- train ..."
        )
    return name, int(columns) if columns else None


def _made(name: str, cluster: Cluster | None, columns: int | None) -> Distribution:
    from kzoo.distribution import meshes, strategies

    if name == "mirrored":
        return strategies.mirrored()
    if name == "tpu":
        return strategies.tpu()
    if name == "multi_worker" and cluster is not None:
        return strategies.multi_worker(cluster)
    if name == "data_parallel":
        return meshes.data_parallel(cluster)
    if name == "model_parallel":
        return meshes.model_parallel(cluster, columns)
    return NONE


def _offered(backend: str, cluster: Cluster | None) -> str:
    """What ``auto`` takes."""
    if backend == "tensorflow":
        if cluster is not None:
            return "multi_worker"
        import tensorflow as tf

        if tf.config.list_physical_devices("TPU"):
            return "tpu"
        return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "none"
    if backend == "jax":
        import jax

        many = cluster is not None or len(jax.devices()) > 1
        return "data_parallel" if many else "none"
    return "none"


def _or(names: Any) -> str:
    return " or ".join(names)


def devices() -> list[str]:
    """The devices that the backend computes on, by its own names."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_logical_devices()
        return [device.name.removeprefix("/device:") for device in found]
    if keras.config.backend() == "jax":
        import jax

        return [f"{device.platform}:{device.id}" for device in jax.devices()]
    import torch

    cards = torch.cuda.device_count()
    return ["cpu", *(f"cuda:{i}" for i in range(cards))]
