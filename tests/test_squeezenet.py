"""SqueezeNet: counts and numbers from torchvision."""

import keras
import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo

COUNTS = {"squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496}  # torchvision's own


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ends", "least"),
    [("squeezenet1_0", (5, 10, 12), 21), ("squeezenet1_1", (4, 7, 12), 17)],
)
def test_answers_as_its_peer_does(name: str, ends: tuple[int, ...], least: int) -> None:
    assert_parity(
        name,
        peer_model(f"torchvision/{name}"),
        "torchvision",
        # At 96 the last window of each pooling is whole, at 74 and the least not.
        sizes=((224, 224), (96, 74), (least, least)),
        taps={f"stage_{i}": f"features.{end}" for i, end in enumerate(ends)},
        gradients=name == "squeezenet1_0",
    )


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="need at least 17x17"):
        kzoo.build_model("squeezenet1_1", image_size=16)


def test_features_without_a_head_are_those_of_the_last_fire_module() -> None:
    model = kzoo.build_model("squeezenet1_1", num_classes=0)
    assert model.output_shape == (None, 512)


def test_logits_are_negative_without_the_published_relu_alone() -> None:
    images = np.random.default_rng(0).normal(size=(4, 17, 17, 3)).astype("float32")
    values = {"image_size": 17, "stem": "small", "num_blocks": (1, 1)}
    published, free = (
        kzoo.build_model("squeezenet1_1", logits_activation=activation, **values)
        for activation in ("relu", "none")
    )
    free.set_weights(published.get_weights())
    logits, others = published(images).numpy(), free(images).numpy()
    assert (logits >= 0).all()
    assert (others < 0).any()
    # The mean is taken after the ReLU.
    last = keras.Model(free.input, free.get_layer("logits_1x1").output)(images).numpy()
    np.testing.assert_allclose(logits, last.clip(0).mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(others, last.mean(axis=(1, 2)), atol=1e-6)


def test_learns_digits() -> None:
    assert_learns_digits(
        "squeezenet1_1", stem="small", num_blocks=(2, 2), dropout_rate=0.0
    )


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_round_trip(name: str) -> None:
    assert_round_trip(name, "torchvision")
