"""Taps: which there are, and the model that gives them."""

import keras
import numpy as np
import pytest

import kzoo

TOKENS = np.array([[3, 4, 5, 0], [6, 0, 0, 0]], "int32")


@pytest.mark.contract
def test_taps_by_architecture() -> None:
    def taps(name: str, **values: object) -> list[str]:
        return kzoo.list_features(kzoo.build_model(name, **values))

    assert taps("mlp") == ["block_0", "block_1", "pooled", "logits"]
    assert taps("cnn", filters=(2, 3)) == [
        *("stage_0_block_0", "stage_0_block_1", "stage_0"),
        *("stage_1_block_0", "stage_1_block_1", "stage_1"),
        *("pooled", "logits"),
    ]
    assert taps("lstm", units=3, bidirectional=True) == [
        *("block_0", "block_1", "pooled", "logits"),
    ]
    assert taps("transformer", num_layers=1, hidden_dim=8, norm="post") == [
        *("stem", "block_0_query", "block_0_key", "block_0_value", "block_0"),
        *("pooled", "logits"),
    ]
    assert taps("gru", units=3, num_layers=1, per_step=True) == ["block_0", "logits"]
    assert taps("mlp", num_classes=0) == ["block_0", "block_1", "pooled"]


@pytest.mark.contract
def test_features_are_the_models_own_values() -> None:
    model = kzoo.build_model("transformer", vocab_size=9, hidden_dim=8, num_heads=2)
    names = ["block_1", "pooled", "logits"]
    outputs = kzoo.features(model, names)(TOKENS)
    assert set(outputs) == set(names)
    assert tuple(outputs["block_1"].shape) == (2, 4, 8)
    logits = keras.ops.convert_to_numpy(outputs["logits"])
    expected = keras.ops.convert_to_numpy(model(TOKENS))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    head = model.get_layer("logits")
    from_pooled = keras.ops.convert_to_numpy(head(outputs["pooled"]))
    np.testing.assert_allclose(from_pooled, expected, atol=1e-6)


@pytest.mark.contract
def test_features_share_the_models_weights() -> None:
    model = kzoo.build_model("mlp", num_features=2, units=(3,))
    taps = kzoo.features(model, ["pooled"])
    model.get_layer("block_0").bias.assign([7.0, 8.0, 9.0])
    pooled = keras.ops.convert_to_numpy(taps(np.zeros((1, 2), "float32"))["pooled"])
    np.testing.assert_array_equal(pooled, [[7.0, 8.0, 9.0]])


@pytest.mark.contract
def test_features_of_a_model_with_two_inputs() -> None:
    model = kzoo.build_model("gru", units=3, vocab_size=9, padding_mask=True)
    inputs = {"tokens": TOKENS, "padding_mask": TOKENS > 0}
    assert set(kzoo.features(model, ["pooled"])(inputs)) == {"pooled"}


def test_no_tap_shows_what_fills_the_padding() -> None:
    model = kzoo.build_model("cnn_1d", vocab_size=9, filters=(4, 4))
    names = [name for name in kzoo.list_features(model) if name.startswith("stage")]
    for value in kzoo.features(model, names)(TOKENS).values():
        assert np.abs(keras.ops.convert_to_numpy(value)).max() < 100


def test_unknown_tap_gets_the_nearest() -> None:
    model = kzoo.build_model("mlp")
    with pytest.raises(ValueError) as error:
        kzoo.features(model, ["block0"])
    assert str(error.value) == "mlp has no feature 'block0'. Did you mean 'block_0'?"


def test_foreign_model_is_refused() -> None:
    stranger = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="own")
    with pytest.raises(ValueError, match="model 'own' has no kzoo identity"):
        kzoo.list_features(stranger)
