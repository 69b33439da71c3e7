"""The perceptron against arithmetic done by hand."""

import keras
import numpy as np
import pytest

import kzoo


def test_xor_perceptron_has_seventeen_weights() -> None:
    model = kzoo.build_model("mlp_xor")
    assert model.count_params() == 2 * 4 + 4 + 4 * 1 + 1
    assert model.output_shape == (None, 1)


def test_known_weights_solve_xor() -> None:
    model = kzoo.build_model("mlp_xor", units=(2,))
    points = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
    # One unit says OR, the other AND; XOR is the first without the second.
    model.get_layer("block_0").set_weights(
        [np.full((2, 2), 20.0), np.array([-10.0, -30.0])]
    )
    model.get_layer("logits").set_weights(
        [np.array([[20.0], [-20.0]]), np.array([-10.0])]
    )
    logits = keras.ops.convert_to_numpy(model(points))[:, 0]
    np.testing.assert_array_equal(logits > 0, [False, True, True, False])


def test_logits_are_the_formula() -> None:
    model = kzoo.build_model("mlp", num_features=3, units=(4,), num_classes=2)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    w, b, v, c = (keras.ops.convert_to_numpy(weight) for weight in model.weights)
    expected = np.maximum(x @ w + b, 0) @ v + c
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("image_size", [4, (2, 8)])
def test_images_are_read_as_vectors(image_size: object) -> None:
    model = kzoo.build_model("mlp", image_size=image_size, channels=3, units=(5,))
    assert model.get_layer("block_0").kernel.shape == (4 * 4 * 3, 5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_initial_scale_is_in_units_of_glorots(scale: float) -> None:
    model = kzoo.build_model("mlp", num_features=300, units=(300,), initial_scale=scale)
    kernel = keras.ops.convert_to_numpy(model.get_layer("block_0").kernel)
    limit = scale * np.sqrt(6 / (300 + 300))  # Glorot & Bengio 2010, eq. 16
    assert 0.99 * limit < np.abs(kernel).max() <= limit
