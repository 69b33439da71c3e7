"""Recurrent families against plain Keras layers and closed forms."""

from typing import Any

import keras
import numpy as np
import pytest

import kzoo

CELLS = {
    "simple_rnn": keras.layers.SimpleRNN,
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
}
TOKENS = np.array([[3, 4, 5, 6, 7], [6, 2, 8, 0, 0], [5, 0, 0, 0, 0]], "int32")

each_cell = pytest.mark.parametrize("name", sorted(CELLS))


def parameters_of(name: str, inputs: int, units: int) -> int:
    """Weights of one layer: gates x (kernel + recurrent kernel + biases)."""
    return {
        "simple_rnn": (inputs + units) * units + units,
        "lstm": 4 * ((inputs + units) * units + units),
        # Two biases a gate: the recurrent one stands inside the reset.
        "gru": 3 * ((inputs + units) * units + 2 * units),
    }[name]


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_plain_keras_layers(name: str, bidirectional: bool) -> None:
    model = kzoo.build_model(
        name, vocab_size=9, embedding_dim=4, units=3, bidirectional=bidirectional
    )

    def layer(**options: Any) -> keras.layers.Layer:
        plain = CELLS[name](3, **options)
        return keras.layers.Bidirectional(plain) if bidirectional else plain

    plain = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            layer(return_sequences=True),
            layer(),
            keras.layers.Dense(10),
        ]
    )
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        model.predict(TOKENS, verbose=0), plain.predict(TOKENS, verbose=0), atol=1e-6
    )


@each_cell
@pytest.mark.parametrize("ways", [1, 2])
def test_count_is_the_closed_form(name: str, ways: int) -> None:
    model = kzoo.build_model(
        name, num_features=5, units=7, num_classes=3, bidirectional=ways == 2
    )
    first = ways * parameters_of(name, 5, 7)
    second = ways * parameters_of(name, ways * 7, 7)
    assert model.count_params() == first + second + ways * 7 * 3 + 3


@each_cell
def test_pooling_by_attention_adds_its_weights(name: str) -> None:
    counts = {
        kind: kzoo.build_model(name, units=7, pooling=kind).count_params()
        for kind in ("last", "mean", "max", "attention")
    }
    assert counts["last"] == counts["mean"] == counts["max"]
    assert counts["attention"] == counts["last"] + 7 * 7 + 7


@each_cell
@pytest.mark.parametrize("bidirectional", [False, True])
def test_fused_kernels_are_not_lost(name: str, bidirectional: bool) -> None:
    """The conditions of Keras's guide to cuDNN layers."""
    model = kzoo.build_model(name, dropout_rate=0.5, bidirectional=bidirectional)
    layer = model.get_layer("block_0")
    for way in (
        (layer.forward_layer, layer.backward_layer) if bidirectional else (layer,)
    ):
        assert way.activation is keras.activations.tanh
        assert way.dropout == way.recurrent_dropout == 0
        assert way.use_bias and not way.unroll
        if name != "simple_rnn":
            assert way.recurrent_activation is keras.activations.sigmoid
        if name == "gru":
            assert way.reset_after


@each_cell
def test_one_answer_a_step(name: str) -> None:
    model = kzoo.build_model(name, vocab_size=9, units=3, per_step=True, num_classes=2)
    assert model.predict(TOKENS, verbose=0).shape == (3, 5, 2)


def test_no_pad_token_means_no_mask() -> None:
    model = kzoo.build_model("gru", vocab_size=9, units=3, pad_token_id=None)
    assert "mask" not in [layer.name for layer in model.layers]
    longer = np.pad(TOKENS, ((0, 0), (0, 2)))
    assert not np.allclose(
        model.predict(TOKENS, verbose=0), model.predict(longer, verbose=0)
    )
