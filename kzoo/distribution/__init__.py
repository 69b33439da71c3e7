"""Where a run runs: the one place that sees devices.

Training enters ``Distribution.scope()`` and knows nothing else.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from kzoo.hparams import nearest

KINDS = (
    "auto",
    "none",
    "mirrored",
    "multi_worker",
    "tpu",
    "data_parallel",
    "model_parallel",
)


@dataclass(frozen=True)
class Distribution:
    """How the work is shared.

    Attributes:
        kind: one of ``KINDS``, resolved.
        num_replicas: devices that each take a share of the batch.
        shard: this process's rank and the number of processes.
    """

    kind: str
    num_replicas: int = 1
    shard: tuple[int, int] = (0, 1)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.shard[0] == 0

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Variables made inside live where this distribution wants them."""
        yield


def resolve(kind: str) -> Distribution:
    """The distribution of this name on this machine.

    Raises:
        ValueError: an unknown name, or one that this version does not have.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown distribution {kind!r}{nearest(kind, KINDS)}")
    if kind not in ("auto", "none"):
        raise ValueError(
            f"distribution {kind!r} is not in this version of kzoo: use 'none', which "
            "runs on one device"
        )
    return Distribution("none")


def enable_determinism() -> None:
    """Asks the backend for operations that give the same bits on each run.

    On TensorFlow it costs speed on a GPU, and turns XLA off. JAX takes the wish from
    ``XLA_FLAGS=--xla_gpu_deterministic_ops=true``, which must stand before it starts.
    """
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.config.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


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


def seed(value: int) -> None:
    """Seeds Python, numpy, Keras and the backend."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        keras.utils.set_random_seed(value)
        tf.random.set_global_generator(tf.random.Generator.from_seed(value))
        return
    # Keras's function would import TensorFlow where it is installed, which takes
    # seconds; its seeds come from Python's generator.
    random.seed(value)
    np.random.seed(value)
    if keras.config.backend() == "torch":
        import torch

        torch.manual_seed(value)


def random_state() -> dict[str, np.ndarray]:
    """The state of the backend's own generator, where it has one.

    Keras draws from seeds of its own; this is for layers that ask the backend.
    """
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return {"tensorflow": tf.random.get_global_generator().state.numpy()}
    if keras.config.backend() == "torch":
        import torch

        return {"torch": torch.get_rng_state().numpy()}
    return {}  # JAX has no generator: keys are values


def set_random_state(state: Mapping[str, np.ndarray]) -> None:
    """Puts back what :func:`random_state` gave."""
    if "tensorflow" in state:
        import tensorflow as tf

        tf.random.get_global_generator().reset(state["tensorflow"])
    if "torch" in state:
        import torch

        torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
