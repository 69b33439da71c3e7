"""The network of sentence pairs against plain Keras layers."""

import keras
import numpy as np
import pytest

import kzoo

FIRST = np.array([[3, 4, 5, 6], [6, 2, 0, 0]], "int32")
SECOND = np.array([[8, 1, 0], [5, 5, 7]], "int32")


def array(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.contract
def test_equals_plain_keras_layers() -> None:
    model = kzoo.build_model(
        "two_stream_lstm", vocab_size=9, embedding_dim=4, units=3, dense_units=5
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    table = model.get_layer("embedding").get_weights()[0]
    total = 0.0
    for i, tokens in enumerate((FIRST, SECOND)):
        plain = keras.layers.LSTM(3)
        plain.build((None, None, 4))
        plain.set_weights(model.get_layer(f"block_{i}").get_weights())
        rows = [array(plain(table[row[row != 0]][None])) for row in tokens]
        total = total + np.concatenate(rows)

    def dense(name: str) -> np.ndarray:
        kernel, bias = model.get_layer(name).get_weights()
        return total @ kernel + bias

    expected = dense("value") / (1 + np.exp(-dense("gate")))
    inputs = {"first": FIRST, "second": SECOND}
    found = kzoo.features(model, ["pooled"])(inputs)["pooled"]
    np.testing.assert_allclose(array(found), expected, atol=1e-5)
    swapped = model({"first": SECOND, "second": FIRST})
    assert not np.allclose(array(swapped), array(model(inputs)), atol=1e-3)


def test_count_is_the_closed_form() -> None:
    model = kzoo.build_model("two_stream_lstm", vocab_size=1000, num_classes=3)
    lstm = 4 * ((64 + 128) * 128 + 128)
    gated = 2 * (128 * 128 + 128)
    assert model.count_params() == 1000 * 64 + 2 * lstm + gated + 128 * 3 + 3
