"""Scaling to and fro, through JSON, with the corners that lose digits."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from kzoo.preprocessing import Preprocessing, standardized


def test_inputs_are_scaled_and_reshaped() -> None:
    made = Preprocessing(input_mean=(0.0,), input_scale=(16.0,), input_shape=(2, 2))
    raw = np.array([[[[0], [4]], [[8], [16]]]], "uint8")  # (1, 2, 2, 1)
    x = made.inputs(raw)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[[0.0, 0.25], [0.5, 1.0]]])


def test_tokens_are_left_alone() -> None:
    x = Preprocessing().inputs(np.array([[3, 0, 70_000]], "int64"))
    assert x.dtype == np.int32
    np.testing.assert_array_equal(x, [[3, 0, 70_000]])


def test_standardized_is_scikit_learns() -> None:
    raw = np.random.default_rng(0).normal(5, 3, (50, 4))
    mean, scale = standardized(raw)
    x = Preprocessing(input_mean=mean, input_scale=scale).inputs(raw)
    expected = StandardScaler().fit_transform(raw)
    np.testing.assert_allclose(x, expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -3e-9])
def test_constant_column_is_not_blown_up(value: float) -> None:
    raw = np.full((97, 2), value)
    raw[:, 1] = np.arange(97)
    mean, scale = standardized(raw)
    assert scale[0] == 1.0
    other = Preprocessing(input_mean=mean, input_scale=scale).inputs(raw + 0.5)
    np.testing.assert_allclose(other[:, 0], 0.5, rtol=1e-6)


def test_large_offsets_keep_their_digits() -> None:
    seconds = 1.7e9 + np.arange(60.0)[:, None]  # float32 knows these to 128 s
    mean, scale = standardized(seconds)
    x = Preprocessing(input_mean=mean, input_scale=scale).inputs(seconds)
    np.testing.assert_allclose(np.diff(x[:, 0]), 1 / seconds.std(), rtol=1e-4)


@given(
    st.floats(-1e4, 1e4),
    st.floats(1e-2, 1e4),
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8),
)
def test_predictions_undo_labels(mean: float, scale: float, units: list[float]) -> None:
    made = Preprocessing(target_mean=mean, target_scale=scale)
    raw = np.array(units) * scale + mean
    back = made.predictions(made.labels(raw).astype("float64"))
    np.testing.assert_allclose(back, raw, rtol=1e-5, atol=1e-6 * (abs(mean) + scale))


def test_classes_stay_integers() -> None:
    labels = Preprocessing(classes=("a", "b")).labels(np.array([0, 1], "int64"))
    assert labels.dtype == np.int32
    outputs = np.array([[0.5, -2.0]], "float32")
    assert Preprocessing(classes=("a", "b")).predictions(outputs) is outputs


numbers = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3).map(tuple)
scales = st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3).map(tuple)


@given(
    st.builds(
        Preprocessing,
        input_mean=st.none() | numbers,
        input_scale=st.none() | scales,
        input_shape=st.none() | st.just((8, 8)),
        target_mean=st.none() | st.floats(-1e6, 1e6),
        target_scale=st.none() | st.floats(1e-6, 1e6),
        classes=st.lists(st.text(max_size=4), max_size=3).map(tuple),
    )
)
def test_json_gives_an_equal_object_back(made: Preprocessing) -> None:
    assert Preprocessing.from_json(json.loads(json.dumps(made.to_json()))) == made
