"""Weights of keras.applications: its files, its names, its numbers."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from parity import relative_error
from vision import assert_round_trip

import kzoo
from kzoo.weights.convert import from_source, to_source
from kzoo.weights.files import read_state_dict
from kzoo.weights.names import SOURCES
from kzoo.weights.pretrained import load_pretrained


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_keras_files(suffix: str, tmp_path: Path) -> None:
    """The files that keras itself writes, read without it."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.DepthwiseConv2D(3, use_bias=False, name="depthwise"),
            layers.BatchNormalization(name="bn"),
            layers.BatchNormalization(name="unscaled", scale=False),
            layers.Flatten(),
            layers.Dense(2, name="predictions"),
        ]
    )
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    file = tmp_path / f"model{suffix}"
    if suffix == ".h5":
        pytest.importorskip("h5py")
        from keras.src.legacy.saving.legacy_h5_format import save_model_to_hdf5

        save_model_to_hdf5(model, str(file))
    else:
        model.save_weights(file)
    expected = {
        ".".join(weight.path.split("/")[-2:]): keras.ops.convert_to_numpy(weight.value)
        for weight in model.weights
    }
    found = read_state_dict(file)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


RAW = {"include_preprocessing": False}
KERAS: dict[str, tuple[str, dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    # keras.applications' class, options of its, kzoo's, and the images' sizes. At odd
    # ones both ways to pad are the same.
    "resnet50": ("ResNet50", {}, {}, (224, 65)),
    "densenet121": ("DenseNet121", {}, {}, (65,)),
    "vgg16": ("VGG16", {}, {"grid": 1}, (32,)),
    "mobilenet_v2": ("MobileNetV2", {}, {}, (224, 64)),
    "mobilenet_v3_small": ("MobileNetV3Small", RAW, {}, (224, 64)),
    "mobilenet_v3_large": ("MobileNetV3Large", RAW, {}, (64,)),
    "efficientnet_b0": ("EfficientNetB0", {}, {}, (224, 64)),
    "efficientnet_v2_s": ("EfficientNetV2S", RAW, {}, (64,)),
    "inception_v3": ("InceptionV3", {}, {}, (299, 96)),
}


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras_applications_answers_the_same(name: str, tmp_path: Path) -> None:
    peer_class, options, values, sizes = KERAS[name]
    rng = np.random.default_rng(0)
    for size in sizes:
        keras.utils.clear_session()
        # Of another network, so that layers that are only numbered do not begin at 0.
        _ = keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()
        peer = getattr(keras.applications, peer_class)(
            weights=None,
            input_shape=(size, size, 3),
            classes=7,
            classifier_activation=None,
            **options,
        )
        for weight in peer.weights:
            weight.assign(drawn(weight, rng))
        peer.save_weights(tmp_path / "peer.weights.h5")
        file = str(tmp_path / "peer.weights.h5")
        model = load_pretrained(name, file, num_classes=7, **values)
        images = rng.normal(size=(2, size, size, 3)).astype("float32")
        # Its first layers bring pixels from 0 to 255 down to 0 to 1.
        pixels = 255 * images if name == "efficientnet_b0" else images
        expected = keras.ops.convert_to_numpy(peer(pixels, training=False))
        actual = keras.ops.convert_to_numpy(model(images, training=False))
        assert expected.std() > 1e-3
        # Padded the other way, efficientnet_b0 would be off by 3e-5, others by more.
        assert relative_error(actual, expected) < 1e-5


def drawn(weight: Any, rng: np.random.Generator) -> np.ndarray:
    """Values unlike a fresh model's, under which no depth makes the numbers grow."""
    kind, shape = weight.path.rpartition("/")[2], tuple(weight.shape)
    noise: np.ndarray = rng.normal(size=shape)
    fixed = {"mean": 0 * noise, "variance": 0 * noise + 1, "count": 0 * noise}
    if kind in fixed:  # of the layer that takes pixels
        return fixed[kind]
    if kind == "kernel":
        return noise * (2 / np.prod(shape[:-1])) ** 0.5
    if kind == "moving_variance":
        return 0.5 + rng.uniform(size=shape)
    return 0.2 * noise + (kind == "gamma")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mobilenet_v2", {"width_multiplier": 0.1}),
        ("mobilenet_v3_large", {"width_multiplier": 0.1}),
        ("efficientnet_b0", {"width_multiplier": 0.1, "depth_multiplier": 0.3}),
        ("efficientnet_v2_s", {"width_multiplier": 0.1, "depth_multiplier": 0.3}),
        ("inception_v3", {"width_multiplier": 0.06}),
    ],
)
def test_round_trip_by_the_names_of_keras(name: str, values: Any) -> None:
    assert_round_trip(name, "keras", **values)


def test_pixels_are_what_the_source_takes() -> None:
    """EfficientNet's two papers differ within one table of names."""
    values = {"width_multiplier": 0.1, "depth_multiplier": 0.3, "channels": 1}
    for name, mean in (("efficientnet_b0", 114.495), ("efficientnet_v2_s", 128)):
        arrays = to_source(kzoo.build_model(name, **values), "keras")
        found = from_source(arrays, name, "keras", **values)
        assert found.preprocessing.input_mean == pytest.approx((mean,), abs=0.01)
        assert found.model.kzoo.hparams["padding"] == "uneven"


def test_layers_that_are_only_numbered_are_counted_from_the_first() -> None:
    arrays = {
        name: np.full(1, i)
        for i, name in enumerate(("conv2d_9.kernel", "conv2d_11.kernel", "top.kernel"))
    }
    table = SOURCES["inception_v3"]["keras"]
    assert table.renumbered(arrays) == {
        "conv2d.kernel": 0,
        "conv2d_2.kernel": 1,
        "top.kernel": 2,
    }


def test_a_network_without_top_lacks_the_layer_after_the_mean() -> None:
    values = {"width_multiplier": 0.1, "num_classes": 0}
    arrays = to_source(kzoo.build_model("mobilenet_v3_small", **values), "keras")
    top = {name for name in arrays if name.startswith("conv_2.")}
    found = from_source(
        {name: array for name, array in arrays.items() if name not in top},
        "mobilenet_v3_small",
        "keras",
        **values,
    )
    assert {line.partition(" ")[0] for line in found.changes} == top
