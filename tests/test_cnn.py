"""Convolutional families against numpy and closed forms."""

from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.models.cnn import HalvedMask, MaskedPooling1D


def array(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def trainable(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize("normalization", ["batch", "layer", "none"])
def test_count_is_the_closed_form(normalization: str) -> None:
    model = kzoo.build_model(
        "cnn",
        channels=3,
        filters=(4, 6),
        kernel_size=5,
        num_convs=2,
        dense_units=7,
        num_classes=3,
        normalization=normalization,
    )
    pairs = [(3, 4), (4, 4), (4, 6), (6, 6)]
    kernels = sum(5 * 5 * inputs * outputs for inputs, outputs in pairs)
    # A scale and a shift for each channel, or a bias where nothing normalises.
    per_channel = 1 if normalization == "none" else 2
    channels = per_channel * sum(outputs for _, outputs in pairs)
    head = 6 * 7 + 7 + 7 * 3 + 3
    assert trainable(model) == kernels + channels + head


def test_sequence_count_is_the_closed_form() -> None:
    model = kzoo.build_model(
        "cnn_1d",
        vocab_size=11,
        embedding_dim=5,
        filters=(4,),
        kernel_size=3,
        num_convs=2,
        dense_units=0,
        num_classes=3,
    )
    convolutions = 3 * 5 * 4 + 3 * 4 * 4 + 2 * (4 + 4)
    assert trainable(model) == 11 * 5 + convolutions + 4 * 3 + 3


def test_tiny_has_less_than_a_twentieth_of_the_weights() -> None:
    counts = {
        name: kzoo.describe(name)["trainable_parameters"]
        for name in ("cnn", "cnn_tiny")
    }
    assert counts["cnn_tiny"] * 20 < counts["cnn"]


def test_image_too_small_for_its_stages_names_the_least_size() -> None:
    with pytest.raises(ValueError) as error:
        kzoo.build_model("cnn", image_size=(7, 9), filters=(2, 2, 2))
    assert str(error.value) == (
        "cnn: images of 7x9 are too small: 3 stages that halve the resolution need "
        "at least 8x8"
    )


@pytest.mark.contract
def test_least_size_works_and_any_larger_one() -> None:
    kzoo.build_model("cnn", image_size=8, filters=(2, 2, 2))
    model = kzoo.build_model("cnn", channels=1, filters=(2, 2, 2))
    for height, width in ((8, 8), (9, 15), (32, 8)):
        images = np.random.default_rng(0).normal(size=(2, height, width, 1))
        assert np.isfinite(array(model(images.astype("float32")))).all()


@pytest.mark.contract
@pytest.mark.parametrize("time", [4, 5, 1])
@pytest.mark.parametrize("kind", ["max", "average"])
def test_masked_pooling_is_numpys(kind: str, time: int) -> None:
    rng = np.random.default_rng(time)
    x = rng.normal(size=(4, time, 3)).astype("float32")
    lengths = [time, time - 1, 1, 0]
    mask = np.arange(time) < np.array(lengths)[:, None]
    pooled = array(MaskedPooling1D(kind)(x, mask=mask))
    halved = array(HalvedMask()(mask))
    assert pooled.shape == (4, (time + 1) // 2, 3)
    for row, length in enumerate(lengths):
        for pair in range(pooled.shape[1]):
            real = x[row, 2 * pair : min(2 * pair + 2, length)]
            assert halved[row, pair] == (len(real) > 0)
            if len(real):
                expected = real.max(0) if kind == "max" else real.mean(0)
            else:
                expected = np.zeros(3)
            np.testing.assert_allclose(pooled[row, pair], expected, atol=1e-6)


@pytest.mark.contract
@pytest.mark.parametrize("kind", ["max", "average"])
def test_unmasked_pooling_is_numpys(kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    pairs = [x[:, 0:2], x[:, 2:4], x[:, 4:5]]
    expected = [pair.max(1) if kind == "max" else pair.mean(1) for pair in pairs]
    pooled = array(MaskedPooling1D(kind)(x))
    np.testing.assert_allclose(pooled, np.stack(expected, axis=1), atol=1e-6)


@pytest.mark.contract
def test_batch_statistics_are_those_of_the_real_positions() -> None:
    model = kzoo.build_model(
        "cnn_1d",
        num_features=2,
        padding_mask=True,
        filters=(3,),
        kernel_size=1,
        num_convs=1,
        dropout_rate=0.0,
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 2)).astype("float32")
    mask = np.arange(6) < np.array([6, 4, 1, 2])[:, None]
    x[~mask] = 1000.0
    kernel = array(model.get_layer("stage_0_block_0_conv").kernel)[0]
    norm = model.get_layer("stage_0_block_0_norm")
    model({"features": x, "padding_mask": mask}, training=True)
    real = x[mask] @ kernel  # a kernel of one step is a product
    kept = norm.momentum
    np.testing.assert_allclose(
        array(norm.moving_mean), (1 - kept) * real.mean(0), atol=1e-5
    )
    np.testing.assert_allclose(
        array(norm.moving_variance), kept + (1 - kept) * real.var(0), atol=1e-5
    )
