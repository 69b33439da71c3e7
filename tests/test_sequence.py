"""Masks and pooling against numpy, row by row over the real steps."""

import keras
import numpy as np
import pytest

from kzoo.layers.sequence import (
    AttentionPooling,
    LastStep,
    MaskedMax,
    MaskedMean,
    NonEmptyMask,
    PaddingMask,
    ZeroPadding,
)

X = np.random.default_rng(0).normal(size=(3, 4, 6)).astype("float32")
LENGTHS = (4, 2, 1)
MASK = np.arange(4) < np.array(LENGTHS)[:, None]


def array(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.contract
def test_masked_mean_and_maximum_are_numpys() -> None:
    mean = array(MaskedMean()(X, mask=MASK))
    largest = array(MaskedMax()(X, mask=MASK))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(mean[row], X[row, :length].mean(0), atol=1e-6)
        np.testing.assert_array_equal(largest[row], X[row, :length].max(0))
    np.testing.assert_allclose(array(MaskedMean()(X)), X.mean(1), atol=1e-6)
    np.testing.assert_array_equal(array(MaskedMax()(X)), X.max(1))


@pytest.mark.contract
def test_last_step_is_each_directions_own() -> None:
    last = array(LastStep()(X, mask=MASK))
    both = array(LastStep(bidirectional=True)(X, mask=MASK))
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(last[row], X[row, length - 1])
        np.testing.assert_array_equal(both[row, :3], X[row, length - 1, :3])
        np.testing.assert_array_equal(both[row, 3:], X[row, 0, 3:])
    np.testing.assert_array_equal(array(LastStep()(X)), X[:, -1])


@pytest.mark.contract
def test_attention_pooling_is_the_formula() -> None:
    layer = AttentionPooling()
    pooled = array(layer(X, mask=MASK))
    kernel, query = array(layer.kernel), array(layer.query)
    for row, length in enumerate(LENGTHS):
        real = X[row, :length]
        weights = np.exp(np.tanh(real @ kernel) @ query)
        expected = (real * weights).sum(0) / weights.sum()
        np.testing.assert_allclose(pooled[row], expected, atol=1e-6)


@pytest.mark.contract
def test_masks_are_what_they_say() -> None:
    tokens = np.array([[5, 1, 1], [1, 1, 1]], "int32")
    mask = array(PaddingMask(1)(tokens))
    np.testing.assert_array_equal(mask, [[True, False, False], [False] * 3])
    np.testing.assert_array_equal(
        array(NonEmptyMask()(mask)), [[True, False, False], [True, False, False]]
    )
    zeroed = array(ZeroPadding()(X, mask=MASK))
    np.testing.assert_array_equal(zeroed, np.where(MASK[..., None], X, 0))


@pytest.mark.contract
@pytest.mark.parametrize("pool", [MaskedMean, MaskedMax, LastStep, AttentionPooling])
def test_row_of_padding_alone_is_finite(pool: type) -> None:
    nothing = np.zeros_like(MASK)
    assert np.isfinite(array(pool()(X, mask=nothing))).all()


@pytest.mark.contract
def test_mean_of_many_steps_keeps_its_precision_in_bfloat16() -> None:
    steps = np.full((1, 5000, 1), 0.3, "float32")
    layer = MaskedMean(dtype="mixed_bfloat16")
    mean = keras.ops.cast(layer(steps, mask=np.ones((1, 5000), bool)), "float32")
    np.testing.assert_allclose(array(mean), 0.3, rtol=0.01)
