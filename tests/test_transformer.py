"""The encoder against Keras's own attention and the paper's formulas."""

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.layers.attention import self_attention
from kzoo.layers.positions import LearnedPositions, SinusoidalPositions

HIDDEN_DIM, NUM_HEADS = 12, 3
X = np.random.default_rng(0).normal(size=(2, 5, HIDDEN_DIM)).astype("float32")
MASK = np.array([[True] * 5, [True, True, True, False, False]])
TOKENS = np.array([[3, 4, 5, 6, 7], [6, 2, 8, 0, 0]], "int32")


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def keras_attention(model: keras.Model, name: str) -> keras.layers.Layer:
    """Keras's layer with the weights of ours."""
    head_dim = HIDDEN_DIM // NUM_HEADS
    layer = keras.layers.MultiHeadAttention(NUM_HEADS, head_dim)
    layer.build(X.shape, X.shape)
    weights = []
    for part in ("query", "key", "value"):
        kernel, bias = model.get_layer(f"{name}_{part}").get_weights()
        weights.append(kernel.reshape(HIDDEN_DIM, NUM_HEADS, head_dim))
        weights.append(bias.reshape(NUM_HEADS, head_dim))
    kernel, bias = model.get_layer(f"{name}_output").get_weights()
    layer.set_weights([*weights, kernel.reshape(NUM_HEADS, head_dim, HIDDEN_DIM), bias])
    return layer


def with_random_weights(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(1)
    for weight in model.weights:  # biases too, which start at zero
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    return model


@pytest.mark.contract
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.1])
def test_attention_is_that_of_keras(masked: bool, dropout_rate: float) -> None:
    x = keras.Input((None, HIDDEN_DIM), name="x")
    mask = keras.Input((None,), dtype="bool", name="mask") if masked else None
    y = self_attention(x, mask, NUM_HEADS, dropout_rate, "block_0")
    inputs = {"x": x, "mask": mask} if masked else x
    model = with_random_weights(keras.Model(inputs, y))
    found = model({"x": X, "mask": MASK} if masked else X, training=False)
    keys = MASK[:, None, :] if masked else None
    expected = keras_attention(model, "block_0")(X, X, attention_mask=keys)
    np.testing.assert_allclose(array(found), array(expected), atol=2e-6)


@pytest.mark.contract
def test_attention_that_drops_weights_has_the_same_mean() -> None:
    x = keras.Input((None, HIDDEN_DIM))
    y = self_attention(x, None, NUM_HEADS, 0.5, "block_0")
    model = with_random_weights(keras.Model(x, y))
    expected = array(model(X, training=False))
    draws = array(model(np.tile(X, (400, 1, 1)), training=True))
    draws = draws.reshape(400, *X.shape)
    assert draws.std(axis=0).min() > 0
    error = draws.mean(axis=0) - expected
    assert np.abs(error / (draws.std(axis=0) / 20)).max() < 6  # standard errors


@pytest.mark.contract
@pytest.mark.parametrize("form", ["tokens", "masked", "features"])
def test_attention_maps_are_those_of_keras(form: str) -> None:
    vocab_size = 0 if form == "features" else 9
    model = kzoo.build_model(
        "transformer",
        vocab_size=vocab_size,
        num_features=HIDDEN_DIM,
        padding_mask=form == "masked",
        hidden_dim=HIDDEN_DIM,
        num_heads=NUM_HEADS,
    )
    with_random_weights(model)
    given: Any = X if form == "features" else TOKENS
    inputs = {"tokens": TOKENS, "padding_mask": MASK} if form == "masked" else given
    maps = model.attention_maps(inputs)
    assert list(maps) == ["block_0", "block_1"]
    for block, found in maps.items():
        norm = model.get_layer(f"{block}_attention_norm").output
        normed = keras.Model(model.input, norm)(inputs)
        keys = None if form == "features" else MASK[:, None, :]
        _, expected = keras_attention(model, block)(
            normed, normed, attention_mask=keys, return_attention_scores=True
        )
        np.testing.assert_allclose(array(found), array(expected), atol=1e-6)
        np.testing.assert_allclose(array(found).sum(-1), 1, atol=1e-6)
        if form != "features":
            assert array(found)[1, :, :, 3:].max() == 0  # padded keys get nothing


@pytest.mark.contract
def test_attention_map_of_one_step_is_one() -> None:
    model = kzoo.build_model("transformer", vocab_size=9, hidden_dim=8)
    maps = model.attention_maps(TOKENS[:, :1])
    np.testing.assert_array_equal(array(maps["block_0"]), np.ones((2, 4, 1, 1)))


@pytest.mark.contract
@pytest.mark.parametrize("dim", [8, 7])
def test_sinusoids_are_the_papers(dim: int) -> None:
    zeros = np.zeros((1, 50, dim), "float32")
    table = array(SinusoidalPositions()(zeros))[0]
    for position in (0, 1, 49):
        for channel in range(dim):
            angle = position / 10000 ** ((channel - channel % 2) / dim)
            value = np.cos(angle) if channel % 2 else np.sin(angle)
            assert table[position, channel] == pytest.approx(value, abs=1e-5)


@pytest.mark.contract
def test_learned_positions_are_the_tables_rows() -> None:
    layer = LearnedPositions(6)
    found = array(layer(X))
    np.testing.assert_allclose(found, X + array(layer.table)[:5], atol=1e-6)


@pytest.mark.contract
def test_sequence_beyond_the_position_table_is_an_error() -> None:
    model = kzoo.build_model(
        "transformer", vocab_size=9, positions="learned", sequence_length=4
    )
    model(TOKENS[:, :4])
    with pytest.raises(ValueError, match="a sequence of 5 steps is longer than the po"):
        model(TOKENS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"hidden_dim": 10, "num_heads": 4},
            "transformer: hidden_dim=10 is not a multiple of num_heads=4; "
            "the nearest is 8",
        ),
        (
            {"hidden_dim": 1, "num_heads": 4},
            "transformer: hidden_dim=1 is not a multiple of num_heads=4; "
            "the nearest is 4",
        ),
        (
            {"positions": "learned"},
            "transformer: positions='learned' needs sequence_length, the rows of its "
            "table",
        ),
    ],
)
def test_rule_between_hyper_parameters(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.build_model("transformer", **values)
    assert str(error.value) == message


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_count_is_the_closed_form(norm: str) -> None:
    model = kzoo.build_model(
        "transformer",
        vocab_size=9,
        hidden_dim=8,
        num_heads=2,
        mlp_dim=20,
        num_layers=3,
        norm=norm,
        num_classes=5,
        positions="learned",
        sequence_length=6,
    )
    attention = 4 * (8 * 8 + 8)
    mlp = 8 * 20 + 20 + 20 * 8 + 8
    norms = 2 * (8 + 8)
    last_norm = 16 if norm == "pre" else 0
    tables = 9 * 8 + 6 * 8
    expected = tables + 3 * (attention + mlp + norms) + last_norm + 8 * 5 + 5
    assert model.count_params() == expected


@pytest.mark.contract
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_blocks_are_the_formula(norm: str) -> None:
    """One block from its parts: x + f(norm(x)), or norm(x + f(x))."""
    model = with_random_weights(
        kzoo.build_model(
            "transformer",
            num_features=HIDDEN_DIM,
            hidden_dim=HIDDEN_DIM,
            num_heads=NUM_HEADS,
            num_layers=1,
            norm=norm,
        )
    )
    taps = kzoo.features(model, ["stem", "block_0"])(X)
    layer = model.get_layer
    attention = keras_attention(model, "block_0")

    def mlp(x: Any) -> Any:
        return layer("block_0_mlp_out")(layer("block_0_mlp_in")(x))

    x = taps["stem"]
    for norm_layer, branch in (
        (layer("block_0_attention_norm"), lambda y: attention(y, y)),
        (layer("block_0_mlp_norm" if norm == "pre" else "block_0"), mlp),
    ):
        if norm == "pre":
            x = x + branch(norm_layer(x))
        else:
            x = norm_layer(x + branch(x))
    np.testing.assert_allclose(array(taps["block_0"]), array(x), atol=1e-5, rtol=1e-5)
