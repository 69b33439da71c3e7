"""Initial weights on JAX without a compilation for each shape; the values stay.

Keras draws each weight by ``jax.random``, which compiles a program for each shape, and
two more to scale what it drew: a third of a second of processor time for each of the 40
shapes of a MobileNetV3-small's kernels. JAX numbers what it draws from 0 on, whatever
the shape, so the first n of more numbers are the n numbers. Here a few sizes are drawn,
by programs that are compiled once, then cut and scaled in numpy. Zeros and ones, which
take a program for each shape too, are numpy's.

``tests/test_initial_weights.py`` compares the bytes with those of Keras alone.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock
from typing import Any

import keras
import numpy as np

SIZES = (4**6, 4**8, 4**10)  # past these, multiples of the last

_LOCK = RLock()  # Keras's functions belong to the whole process


@contextmanager
def drawn_in_few_sizes() -> Iterator[None]:
    """Within it, layers that are built get the same weights as ever, sooner on JAX."""
    if keras.backend.backend() != "jax":
        yield
        return
    from keras.src.backend.jax import numpy, random

    jax = random.jax
    with _LOCK, ExitStack() as stack:
        for module, name, function in (
            (random, "normal", scaled_after(random.normal, jax)),
            (random, "truncated_normal", scaled_after(random.truncated_normal, jax)),
            (random, "uniform", cut_from_more(random.uniform, jax)),
            (numpy, "zeros", constant(np.zeros, jax)),
            (numpy, "ones", constant(np.ones, jax)),
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, function)
        yield


def padded_size(size: int) -> int:
    """How many numbers are drawn where ``size`` are needed.

    Example:
        >>> [padded_size(size) for size in (3, 4097, 3_000_000)]
        [4096, 65536, 3145728]
    """
    least = next((n for n in SIZES if n >= size), SIZES[-1])
    return -(-size // least) * least


def cut_from_more(draw: Callable[..., Any], jax: Any) -> Callable[..., Any]:
    """Keras's function that draws, by programs for a few sizes."""

    def drawn(shape: Any, *args: Any, **options: Any) -> Any:
        size = math.prod(shape)
        if not size or not numbered_from_zero(jax):
            return draw(shape, *args, **options)
        more = draw((padded_size(size),), *args, **options)
        if isinstance(more, jax.core.Tracer):  # within a program that JAX compiles
            return draw(shape, *args, **options)
        return jax.device_put(np.asarray(more)[:size].reshape(shape))

    return drawn


def scaled_after(draw: Callable[..., Any], jax: Any) -> Callable[..., Any]:
    """The same of a function with ``mean`` and ``stddev``, which it multiplies by."""
    standard = cut_from_more(draw, jax)

    def drawn(
        shape: Any,
        mean: float = 0.0,
        stddev: float = 1.0,
        dtype: Any = None,
        seed: Any = None,
    ) -> Any:
        sample = standard(shape, dtype=dtype, seed=seed)
        if sample.dtype != "float32" or isinstance(sample, jax.core.Tracer):
            return sample * stddev + mean
        scaled = np.asarray(sample) * np.float32(stddev) + np.float32(mean)
        return jax.device_put(scaled)

    return drawn


def constant(fill: Callable[..., Any], jax: Any) -> Callable[..., Any]:
    """Keras's function of the same name, by numpy's."""

    def filled(shape: Any, dtype: Any = None) -> Any:
        return jax.device_put(fill(shape, dtype or keras.config.floatx()))

    return filled


def numbered_from_zero(jax: Any) -> bool:
    """Whether what is drawn depends on its position alone, not on the shape."""
    threefry = jax.config.jax_default_prng_impl == "threefry2x32"
    return threefry and bool(jax.config.jax_threefry_partitionable)
