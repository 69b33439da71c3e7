"""Initial weights that are drawn sooner are those that Keras draws."""

import logging

import keras
import numpy as np
import pytest

import kzoo
from kzoo import initial_weights

JAX = keras.backend.backend() == "jax"
INITIALIZERS = {
    "random_normal": {"mean": 0.5, "stddev": 0.037},
    "random_uniform": {"minval": -0.3, "maxval": 0.7},
    "truncated_normal": {"mean": -0.1, "stddev": 2.0},
    "glorot_uniform": {},
    "he_normal": {},
    "orthogonal": {},
    "zeros": {},
    "ones": {},
}
SHAPES = ((3,), (3, 3, 5, 7), (64, 65), (257, 300), (1031, 1033))


def drawn(name: str, dtype: str = "float32") -> list[bytes]:
    """The bytes of each shape's weight, by seeds of the session's."""
    keras.utils.set_random_seed(7)
    values = []
    for shape in SHAPES[1:] if name == "orthogonal" else SHAPES:
        initializer = keras.initializers.get(
            {"class_name": name, "config": INITIALIZERS[name]}
        )
        variable = keras.Variable(initializer, shape, dtype)
        assert tuple(variable.shape) == shape
        values.append(np.asarray(variable.value).tobytes())
    return values


@pytest.mark.contract
@pytest.mark.parametrize("name", INITIALIZERS)
def test_bytes_are_those_of_keras(name: str) -> None:
    expected = drawn(name)
    with initial_weights.drawn_in_few_sizes():
        assert drawn(name) == expected
    assert drawn(name) == expected


@pytest.mark.contract
def test_bytes_are_those_of_keras_in_half_precision() -> None:
    expected = drawn("he_normal", "bfloat16")
    with initial_weights.drawn_in_few_sizes():
        assert drawn("he_normal", "bfloat16") == expected


@pytest.mark.skipif(not JAX, reason="is a setting of JAX's")
@pytest.mark.contract
def test_bytes_are_those_of_keras_where_shapes_matter() -> None:
    import jax

    with jax.threefry_partitionable(False):
        expected = drawn("glorot_uniform")
        with initial_weights.drawn_in_few_sizes():
            assert drawn("glorot_uniform") == expected


@pytest.mark.contract
def test_keras_is_as_it_was_after_a_build_that_failed() -> None:
    from keras.src.backend import random

    before = random.normal, random.uniform
    with pytest.raises(ZeroDivisionError), initial_weights.drawn_in_few_sizes():
        assert (random.uniform != before[1]) == JAX
        _ = 1 / 0
    assert (random.normal, random.uniform) == before


@pytest.mark.skipif(not JAX, reason="others compile nothing for it")
@pytest.mark.contract
def test_a_network_of_new_shapes_compiles_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import jax

    def programs(widths: tuple[int, ...]) -> int:
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            kzoo.build_model("cnn", filters=widths, channels=3)
        return sum("Compiling" in message for message in caplog.messages)

    programs((5, 6))
    assert programs((8, 9, 10)) == 0
