"""What the bound of reduced precision lets pass, and what it does not."""

from typing import Any

import keras
import numpy as np
import pytest
from tolerance import assert_off_by_rounding, rounded, unit_roundoff


class Coarse(keras.layers.Layer):  # type: ignore[misc]
    """The identity, in fewer bits where its type is reduced."""

    def __init__(self, dtype_of_result: str, **options: Any) -> None:
        super().__init__(**options)
        self.dtype_of_result = dtype_of_result

    def call(self, x: Any) -> Any:
        if self.compute_dtype == "float32":
            return x
        return keras.ops.cast(keras.ops.cast(x, self.dtype_of_result), x.dtype)


def network(policy: str, dtype_of_result: str = "float32", depth: int = 6) -> Any:
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((16,))
    for i in range(depth):
        x = keras.layers.Dense(16, activation="gelu", name=f"block_{i}")(x)
        x = keras.layers.LayerNormalization(name=f"norm_{i}")(x)
    x = Coarse(dtype_of_result, name="coarse")(x)
    outputs = keras.layers.Dense(3, dtype="float32", name="logits")(x)
    keras.config.set_dtype_policy("float32")
    return keras.Model(inputs, outputs)


def answer(model: keras.Model, inputs: np.ndarray) -> np.ndarray:
    found: np.ndarray = keras.ops.convert_to_numpy(model(inputs, training=False))
    return found


IMAGES = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")


@pytest.mark.contract
@pytest.mark.parametrize(
    "dtype", [pytest.param("bfloat16", marks=pytest.mark.bfloat16), "float16"]
)
@pytest.mark.parametrize("depth", [1, 12])
def test_rounding_passes_at_any_depth(dtype: str, depth: int) -> None:
    mixed = network(f"mixed_{dtype}", depth=depth)
    assert_off_by_rounding(mixed, network("float32", depth=depth), IMAGES, answer)


@pytest.mark.contract
@pytest.mark.bfloat16
def test_five_bits_lost_in_one_layer_do_not_pass() -> None:
    float8 = "float8_e5m2"  # three bits where bfloat16 has eight
    mixed = network("mixed_bfloat16", float8)
    with pytest.raises(AssertionError, match="rms error of bfloat16"):
        assert_off_by_rounding(mixed, network("float32"), IMAGES, answer)


@pytest.mark.contract
def test_rounding_is_within_half_a_unit() -> None:
    assert unit_roundoff("bfloat16") == 2.0**-8
    assert unit_roundoff("float16") == 2.0**-11
    off = np.abs(rounded(IMAGES, "bfloat16") / IMAGES - 1).max()
    assert 2.0**-9 < off <= 2.0**-8
