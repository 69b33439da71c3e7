"""How far apart two right answers may be: bounds from the rounding of the type.

A number of a type with p significant bits is off by up to u = 2**-p of itself, its unit
round-off (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, sec. 2.1).
What that makes of a network's answer depends on the network: on how deep it is and on
how much its layers stretch a small difference. No constant fits all of them, so the
network is asked. It runs in float32 with its weights and inputs rounded to the type,
and the output of each layer off by a random share of itself, uniform between -u and u.
How far its answers then move is the *spread* of the type: the condition of this network
at these inputs, to first order.

The rms of that noise is u / sqrt(3) = 0.58 u. One rounding has 0.42 u, averaged over
logarithmic mantissas, and r of them in a layer have 0.42 sqrt(r) u, since roundings are
independent (Higham & Mary, 2019, 10.1137/18M1226312). So ``ROUNDINGS_RATIO`` = 3 times
the spread allows 16 roundings in a layer: a step of an LSTM takes a dozen, attention
eight, a product that is summed in float32 one or two, on any CPU. The greatest error
may be 3 times the greatest of the noise, which is drawn ``DRAWS`` times as often.

Across the zoo the errors are 0.3 to 1.4 times the spread, with oneDNN and without.
"""

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import ml_dtypes
import numpy as np

ROUNDINGS_RATIO = 3
DRAWS = 16


def assert_off_by_rounding(
    mixed: keras.Model,
    model: keras.Model,
    inputs: Any,
    answer: Callable[[keras.Model, Any], np.ndarray],
) -> None:
    """Asserts that a model of a lower precision is off by its rounding alone.

    Args:
        mixed: under a policy such as ``mixed_bfloat16``.
        model: the same in float32, with the same weights.
        inputs: arrays with the batch in front.
        answer: a model and its inputs -> its outputs in numpy.
    """
    dtypes = {layer.compute_dtype for layer in mixed.layers if layer.weights}
    (dtype,) = dtypes - {"float32"}
    precise = {layer.name for layer in mixed.layers if layer.compute_dtype != dtype}
    expected = answer(model, inputs)
    error = answer(mixed, inputs) - expected
    spread = spread_of(model, inputs, answer, dtype, precise)
    for what, size in (("rms", rms), ("greatest", greatest)):
        found, bound = size(error), ROUNDINGS_RATIO * size(spread)
        assert found <= bound, f"{what} error of {dtype} is {found:.2g} > {bound:.2g}"


def spread_of(
    model: keras.Model,
    inputs: Any,
    answer: Callable[[keras.Model, Any], np.ndarray],
    dtype: str,
    precise: Container[str] = (),
) -> np.ndarray:
    """(draws, batch, ...) by which a float32 model's answers move under rounding noise.

    Args:
        model: in float32.
        inputs: arrays with the batch in front.
        answer: a model and its inputs -> its outputs in numpy.
        dtype: whose unit round-off the noise has.
        precise: names of the layers that stay in float32.
    """
    expected = answer(model, inputs)
    before = {weight.path: numpy_of(weight) for weight in model.weights}
    for weight in model.weights:
        if weight.path.split("/")[0] not in precise:
            weight.assign(rounded(before[weight.path], dtype))
    many = keras.tree.map_structure(
        lambda x: np.concatenate([rounded(x, dtype)] * DRAWS), inputs
    )
    with rounding_noise(unit_roundoff(dtype), precise):
        answers = answer(model, many)
    for weight in model.weights:
        weight.assign(before[weight.path])
    return answers.reshape(DRAWS, *expected.shape) - expected


def unit_roundoff(dtype: str) -> float:
    """2**-8 of bfloat16: half of what lies between 1 and the next number."""
    return float(ml_dtypes.finfo(dtype).eps) / 2


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of a type; what is no float32 stays as it is."""
    return x.astype(dtype).astype(x.dtype) if x.dtype == np.float32 else x


@contextmanager
def rounding_noise(unit: float, precise: Container[str] = ()) -> Iterator[None]:
    """Multiplies what each layer and operation gives by 1 plus noise of up to ``unit``.

    Those within another layer too; the same noise each time.
    """
    rng = np.random.default_rng(0)
    call = keras.Operation.__call__

    def noisy(x: Any) -> Any:
        dtype = keras.backend.standardize_dtype(x.dtype)
        if not keras.backend.is_float_dtype(dtype):
            return x
        factors = 1 + rng.uniform(-unit, unit, tuple(x.shape))
        return x * keras.ops.convert_to_tensor(factors, dtype=dtype)

    def noisy_call(self: Any, *args: Any, **options: Any) -> Any:
        outputs = call(self, *args, **options)
        if self.name in precise:
            return outputs
        return keras.tree.map_structure(noisy, outputs)

    keras.Operation.__call__ = noisy_call
    try:
        yield
    finally:
        keras.Operation.__call__ = call


def numpy_of(weight: Any) -> np.ndarray:
    array: np.ndarray = keras.ops.convert_to_numpy(weight)
    return array.copy()


def rms(x: np.ndarray) -> float:
    # googlenet's smallest answers 1e-18, whose squares float32 does not hold.
    return float(np.sqrt(np.mean(np.square(x, dtype="float64"))))


def greatest(x: np.ndarray) -> float:
    return float(np.abs(x).max())
