"""AlexNet: count and numbers from torchvision."""

import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo


def test_count() -> None:
    # torchvision's own.
    assert kzoo.describe("alexnet")["trainable_parameters"] == 61_100_840


@pytest.mark.peers
@pytest.mark.slow
def test_answers_as_its_peer_does() -> None:
    assert_parity(
        "alexnet",
        peer_model("torchvision/alexnet"),
        "torchvision",
        sizes=((224, 224), (63, 131)),  # 63 is the least
        taps={"stem": "features.2", "stage_0": "features.5", "stage_1": "features.12"},
        gradients=True,
    )


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"alexnet: images of 62x62 .* least 63x63"):
        kzoo.build_model("alexnet", image_size=62)


def test_learns_digits() -> None:
    assert_learns_digits(
        "alexnet",
        enlarged=4,
        learning_rate=5e-4,
        stem="small",
        dense_units=512,
        dropout_rate=0.0,
    )


def test_round_trip() -> None:
    assert_round_trip(
        "alexnet", "torchvision", filters=(4, 8, 8, 8, 8), dense_units=16, grid=2
    )
