"""Multiply-accumulates against counts by hand, and against JAX's and PyTorch's."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.macs import counted, input_shapes
from kzoo.macs.counting import NotCountedError


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
def test_layer_without_a_closed_form_is_named(frozen: bool) -> None:
    inputs = keras.Input((3,), name="vectors")
    model = keras.Model(inputs, Unknown(name="odd")(inputs))
    model.trainable = not frozen
    assert kzoo.macs(model) is None
    with pytest.raises(NotCountedError) as error:
        counted(model)
    assert error.value.layer == "odd (Unknown)"


def test_shared_layer_counts_each_time() -> None:
    inputs = keras.Input((3,), name="vectors")
    shared = keras.layers.Dense(3)
    model = keras.Model(inputs, shared(shared(inputs)))
    assert kzoo.macs(model) == 2 * 3 * 3


def test_counting_leaves_the_model_as_it_is() -> None:
    model = kzoo.build_model("lstm", vocab_size=9, units=3)
    tokens = np.ones((2, 4), "int32")
    before = model.predict(tokens, verbose=0)
    kzoo.macs(model)
    assert len(model.get_layer("block_0")._inbound_nodes) == 1
    np.testing.assert_array_equal(model.predict(tokens, verbose=0), before)


layers = keras.layers


class Standardised(layers.Conv2D):
    """A convolution whose kernel is standardised first: no further matrices."""

    def call(self, inputs: Any) -> Any:
        mean = keras.ops.mean(self.kernel, axis=(0, 1, 2))
        return keras.ops.conv(inputs, self.kernel - mean, padding="valid")


class Gated(layers.Dense):
    """Dense with a second matrix, which its base class knows nothing of."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.gate = self.add_weight(shape=self.kernel.shape, name="gate")

    def call(self, inputs: Any) -> Any:
        gate = keras.ops.sigmoid(keras.ops.matmul(inputs, self.gate))
        return super().call(inputs) * gate


def twice(x: Any) -> Any:
    """A model inside a model, and both called twice."""
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")])
    inputs = keras.Input((4,))
    outer = keras.Model(inputs, inner(inner(inputs)))
    return outer(outer(x))


# case -> shapes of the inputs without the batch, the network, the count by hand
FORMS: dict[str, tuple[tuple[tuple[int, ...], ...], Callable[..., Any], int]] = {
    "SeparableConv1D": (((9, 3),), layers.SeparableConv1D(4, 3), 7 * (3 * 3 + 3 * 4)),
    "SeparableConv2D": (
        ((8, 6, 3),),
        layers.SeparableConv2D(5, (3, 2), depth_multiplier=2),
        6 * 5 * (3 * 2 * 3 * 2 + 6 * 5),
    ),
    "Conv2D in groups": (((6, 6, 4),), layers.Conv2D(6, 3, groups=2), 16 * 9 * 2 * 6),
    "Conv3D": (((4, 5, 6, 2),), layers.Conv3D(3, 2), 3 * 4 * 5 * 8 * 2 * 3),
    "DepthwiseConv1D": (
        ((9, 3),),
        layers.DepthwiseConv1D(3, depth_multiplier=2),
        7 * 3 * 3 * 2,
    ),
    "a subclass of Conv2D": (((6, 6, 4),), Standardised(5, 3), 16 * 9 * 4 * 5),
    "EinsumDense": (
        ((7, 4),),
        layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3)),
        7 * 4 * 2 * 3,
    ),
    "EinsumDense with dots": (
        ((7, 4),),
        layers.EinsumDense("...x,xy->...y", output_shape=(5,)),
        7 * 4 * 5,
    ),
    "MultiHeadAttention": (
        ((5, 8), (7, 6)),
        lambda q, v: layers.MultiHeadAttention(2, 3)(q, v),
        # queries, keys, values; q k and weights v; the output
        5 * 8 * 6 + 2 * 7 * 6 * 6 + 2 * 5 * 7 * 6 + 5 * 6 * 8,
    ),
    "MultiHeadAttention of planes": (
        ((4, 5, 8),),
        lambda x: layers.MultiHeadAttention(2, 3, attention_axes=(2,))(x, x),
        4 * 20 * 8 * 6 + 4 * 2 * 5 * 5 * 2 * 3,
    ),
    "GroupQueryAttention": (
        ((10, 8),),
        lambda x: layers.GroupQueryAttention(3, 4, 2)(x, x),
        2 * 10 * 8 * 12 + 2 * 10 * 8 * 6 + 2 * 10 * 10 * 12,
    ),
    "Attention": (
        ((5, 8), (7, 8)),
        lambda q, v: layers.Attention()([q, v]),
        2 * 5 * 7 * 8,
    ),
    "Dot": (((5, 8), (7, 8)), lambda a, b: layers.Dot(2)([a, b]), 5 * 7 * 8),
    "Bidirectional": (
        ((6, 3),),
        layers.Bidirectional(layers.GRU(4, return_sequences=True)),
        2 * 6 * 3 * 4 * (3 + 4),
    ),
    "ConvLSTM2D": (
        ((3, 6, 7, 2),),
        layers.ConvLSTM2D(4, 3),
        3 * (4 * 5) * 9 * (2 + 4) * 16,
    ),
    "TimeDistributed": (
        ((3, 6, 6, 2),),
        layers.TimeDistributed(
            keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(4, 3)])
        ),
        3 * 16 * 9 * 2 * 4,
    ),
    "a model in a model": (((4,),), twice, 4 * 4 * 4),
    "operations": (
        ((5, 8), (8, 7)),
        lambda a, b: keras.ops.matmul(a, b) + keras.ops.einsum("abc,acd->abd", a, b),
        2 * 5 * 8 * 7,
    ),
    "no products": (
        ((6, 7),),
        lambda x: layers.PReLU()(layers.LayerNormalization([1, 2])(x)),
        0,
    ),
}
# Not as JAX traces them: zeros between the pixels of a transposed convolution, a first
# step of cells whose answer is dropped, values of another width than the keys.
ONLY_BY_HAND: dict[str, tuple[tuple[int, ...], Callable[..., Any], int]] = {
    "Conv1DTranspose": ((5, 2), layers.Conv1DTranspose(3, 4, strides=2), 5 * 4 * 2 * 3),
    "Conv3DTranspose": ((2, 3, 4, 2), layers.Conv3DTranspose(3, 2), 24 * 8 * 2 * 3),
    "LSTM cells on one another": (
        (6, 3),
        layers.RNN([layers.LSTMCell(4), layers.LSTMCell(5)]),
        6 * (4 * 4 * (3 + 4) + 4 * 5 * (4 + 5)),
    ),
    "MultiHeadAttention with wide values": (
        (5, 8),
        lambda x: layers.MultiHeadAttention(2, 3, value_dim=4)(x, x),
        2 * 5 * 8 * 6 + 5 * 8 * 8 + 2 * 5 * 5 * (3 + 4) + 5 * 8 * 8,
    ),
    "SpectralNormalization": (
        (8,),
        layers.SpectralNormalization(layers.Dense(3, name="dense")),
        8 * 3,
    ),
    "AdditiveAttention": (
        (5, 8),
        lambda x: layers.AdditiveAttention()([x, x]),
        2 * 5 * 5 * 8,
    ),
}


def network(shapes: tuple[tuple[int, ...], ...], build: Any) -> keras.Model:
    # The table's layers were made once, and a model of another test may hold them.
    if isinstance(build, layers.Layer):
        build = type(build).from_config(build.get_config())
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, build(*inputs))


@pytest.mark.parametrize("case", FORMS)
def test_layers_of_keras(case: str) -> None:
    shapes, build, expected = FORMS[case]
    assert kzoo.macs(network(shapes, build)) == expected


@pytest.mark.parametrize("case", ONLY_BY_HAND)
def test_layers_of_keras_by_hand_alone(case: str) -> None:
    shape, build, expected = ONLY_BY_HAND[case]
    assert kzoo.macs(network((shape,), build)) == expected


@pytest.mark.contract
@pytest.mark.skipif(keras.config.backend() != "jax", reason="counts JAX's products")
@pytest.mark.parametrize("case", FORMS)
def test_layers_of_keras_count_as_in_jax(case: str) -> None:
    import jax

    shapes, build, _ = FORMS[case]
    model = network(shapes, build)
    arrays = [np.zeros((1, *shape), "float32") for shape in shapes]
    traced = jax.make_jaxpr(lambda *given: model(list(given)))(*arrays)
    assert kzoo.macs(model) == products(traced.jaxpr)


def products(jaxpr: Any) -> int:
    """Multiply-accumulates in what JAX traced: all products of matrices and kernels."""
    total = 0
    for equation in jaxpr.eqns:
        times, given = 1, [v.aval.shape for v in equation.invars]
        out = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == "dot_general":
            (left, _), _ = equation.params["dimension_numbers"]
            total += out * math.prod(given[0][axis] for axis in left)
        elif equation.primitive.name == "conv_general_dilated":
            filters = equation.params["dimension_numbers"].rhs_spec[0]
            total += out * math.prod(given[1]) // given[1][filters]
        elif equation.primitive.name == "scan":
            times = equation.params["length"]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += times * products(inner)
    return total


def test_subclass_with_a_matrix_of_its_own_is_not_counted() -> None:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Gated(4, name="gated")(inputs))
    assert kzoo.macs(model) is None


def test_layer_that_is_not_counted_is_named_by_its_place() -> None:
    inner = keras.Sequential([keras.Input((3,)), Unknown(name="odd")], name="inside")
    inputs = keras.Input((3,))
    with pytest.raises(NotCountedError, match=r"of inside/odd \(Unknown\) are not"):
        counted(keras.Model(inputs, inner(inputs)))


def test_backbone_of_keras_applications() -> None:
    backbone = keras.applications.MobileNet(
        weights=None, input_shape=(32, 32, 3), alpha=0.25, include_top=False
    )
    inputs = keras.Input((None, None, 3))
    logits = layers.Dense(5, name="logits")(
        layers.GlobalAveragePooling2D()(backbone(inputs))
    )
    # Howard et al. 2017, table 1: filters of each 1x1 convolution, and where a stride
    # halves the image.
    total, size, width = 16 * 16 * 27 * 8, 16, 8
    for filters, stride in [
        (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2),
        *[(128, 1)] * 5, (256, 2), (256, 1),
    ]:  # fmt: skip
        size //= stride
        total += size * size * (9 * width + width * filters)
        width = filters
    assert kzoo.macs(keras.Model(inputs, logits)) == total + 256 * 5


def test_model_without_a_graph_is_not_counted() -> None:
    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="own")
            self.dense = layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 2), "float32"))
    assert kzoo.macs(model) is None


@pytest.mark.contract
def test_precision_changes_no_count() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = kzoo.build_model("cnn_tiny")
    finally:
        keras.config.set_dtype_policy("float32")
    assert kzoo.macs(model) == kzoo.describe("cnn_tiny")["macs"]
