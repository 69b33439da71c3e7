"""Seeds of every generator that a run draws from, and their states."""

import random
from collections.abc import Mapping

import numpy as np


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
