"""Multiply-accumulates against counts by hand and against PyTorch's counter."""

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.hparams import Identity
from kzoo.macs import input_shapes


def count(name: str, **values: Any) -> int:
    return kzoo.macs(kzoo.build_model(name, **values))


def test_perceptron() -> None:
    assert count("mlp", num_features=3, units=(5, 7), num_classes=2) == (
        3 * 5 + 5 * 7 + 7 * 2
    )


def test_convolutions() -> None:
    found = count(
        "cnn",
        image_size=(8, 12),
        channels=3,
        filters=(4, 6),
        num_convs=1,
        dense_units=5,
        num_classes=2,
    )
    first = 8 * 12 * (3 * 3 * 3 * 4)
    second = 4 * 6 * (3 * 3 * 4 * 6)
    assert found == first + second + 6 * 5 + 5 * 2


def test_masked_convolutions_of_sequences() -> None:
    found = count(
        "cnn_1d",
        vocab_size=9,
        sequence_length=10,
        embedding_dim=3,
        filters=(4, 6),
        num_convs=1,
        dense_units=0,
        num_classes=2,
    )
    assert found == 10 * (3 * 3 * 4) + 5 * (3 * 4 * 6) + 6 * 2


@pytest.mark.parametrize(
    ("name", "gates"), [("simple_rnn", 1), ("lstm", 4), ("gru", 3)]
)
@pytest.mark.parametrize("ways", [1, 2])
def test_recurrence(name: str, gates: int, ways: int) -> None:
    found = count(
        name,
        num_features=3,
        sequence_length=10,
        units=5,
        num_layers=2,
        num_classes=2,
        bidirectional=ways == 2,
        padding_mask=True,
    )
    first = 10 * ways * gates * 5 * (3 + 5)
    second = 10 * ways * gates * 5 * (ways * 5 + 5)
    assert found == first + second + ways * 5 * 2


def test_pooling_by_attention() -> None:
    sizes: dict[str, Any] = {"num_features": 3, "sequence_length": 10, "units": 5}
    added = count("gru", pooling="attention", **sizes) - count("gru", **sizes)
    assert added == 10 * (5 * 5 + 5 + 5)  # W x, v . tanh, the weighted sum


def test_attention() -> None:
    found = count(
        "transformer",
        vocab_size=9,
        sequence_length=10,
        num_layers=1,
        hidden_dim=8,
        num_heads=2,
        mlp_dim=20,
        num_classes=3,
    )
    projections = 4 * 10 * 8 * 8
    products = 2 * 10 * 10 * 8
    assert found == projections + products + 2 * 10 * 8 * 20 + 8 * 3


@pytest.mark.peers
def test_convolutional_network_counts_as_in_pytorch() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def block(inputs: int, outputs: int) -> list[torch.nn.Module]:
        convolution = torch.nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]

    network = torch.nn.Sequential(
        *block(3, 12), *block(12, 12), torch.nn.MaxPool2d(2),
        *block(12, 24), *block(24, 24), torch.nn.MaxPool2d(2),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(24, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10),
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32))
    described = kzoo.describe("cnn_tiny")
    assert described["macs_input"] == [32, 32, 3]
    assert described["macs"] * 2 == counter.get_total_flops()
    weights = sum(parameter.numel() for parameter in network.parameters())
    assert described["trainable_parameters"] == weights


def test_open_sizes_are_counted_at_fixed_ones() -> None:
    assert input_shapes(kzoo.build_model("cnn", channels=1)) == [32, 32, 1]
    assert input_shapes(kzoo.build_model("cnn", image_size=(8, 9))) == [8, 9, 3]
    assert input_shapes(kzoo.build_model("gru", vocab_size=9)) == [128]
    masked = kzoo.build_model("gru", num_features=3, padding_mask=True)
    assert input_shapes(masked) == {"features": [128, 3], "padding_mask": [128]}


class Unknown(keras.layers.Layer):
    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(x, self.kernel)


@pytest.mark.parametrize("frozen", [False, True])
def test_layer_without_a_closed_form_is_an_error(frozen: bool) -> None:
    inputs = keras.Input((3,), name="vectors")
    model = keras.Model(inputs, Unknown(name="odd")(inputs))
    model.trainable = not frozen
    model.kzoo = Identity("own", {})
    with pytest.raises(ValueError) as error:
        kzoo.macs(model)
    assert str(error.value) == (
        "no closed form for the multiply-accumulates of odd (Unknown), "
        "which holds odd/kernel"
    )


def test_shared_layer_counts_each_time() -> None:
    inputs = keras.Input((3,), name="vectors")
    shared = keras.layers.Dense(3)
    model = keras.Model(inputs, shared(shared(inputs)))
    model.kzoo = Identity("own", {})
    assert kzoo.macs(model) == 2 * 3 * 3


def test_counting_leaves_the_model_as_it_is() -> None:
    model = kzoo.build_model("lstm", vocab_size=9, units=3)
    tokens = np.ones((2, 4), "int32")
    before = model.predict(tokens, verbose=0)
    kzoo.macs(model)
    assert len(model.get_layer("block_0")._inbound_nodes) == 1
    np.testing.assert_array_equal(model.predict(tokens, verbose=0), before)
