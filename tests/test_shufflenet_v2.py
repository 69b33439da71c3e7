"""ShuffleNet V2: counts and numbers from torchvision."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.models.shufflenet_v2 import ChannelShuffle

COUNTS = {  # torchvision's own
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("shufflenet_v2_x0_5", ((224, 224), (65, 98))),
        ("shufflenet_v2_x1_0", ((65, 98),)),
        ("shufflenet_v2_x2_0", ((65, 98),)),
    ],
)
def test_answers_as_its_peer_does(name: str, sizes: Any) -> None:
    assert_parity(
        name,
        peer_model(f"torchvision/{name}"),
        "torchvision",
        sizes=sizes,
        taps={
            "stem": "maxpool",
            "stage_0": "stage2",
            "stage_1_block_0": "stage3.0",
            "stage_1": "stage3",
            "stage_2": "stage4",
        },
        gradients=len(sizes) > 1,
    )


def test_round_trip() -> None:
    assert_round_trip("shufflenet_v2_x0_5", "torchvision")


@pytest.mark.slow
def test_learns_digits() -> None:
    assert_learns_digits("shufflenet_v2_x0_5", stem="small", enlarged=2)


def test_channels_come_in_turns() -> None:
    left, right = np.arange(4.0), np.arange(4.0) + 10
    halves = [half.reshape(1, 1, 2, 2) for half in (left, right)]
    mixed = keras.ops.convert_to_numpy(ChannelShuffle()(halves))
    np.testing.assert_array_equal(mixed[0, 0], [[0, 10, 1, 11], [2, 12, 3, 13]])


@pytest.mark.parametrize(("stem", "least"), [("imagenet", 32), ("small", 8)])
def test_least_size(stem: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        kzoo.build_model("shufflenet_v2_x0_5", stem=stem, image_size=least - 1)
    model = kzoo.build_model("shufflenet_v2_x0_5", stem=stem, image_size=least)
    x = np.zeros((1, least, least, 3), "float32")
    last = kzoo.features(model, ["stage_2"])(x, training=False)["stage_2"]
    assert last.shape[1:3] == (1, 1)


def test_odd_filters_are_refused() -> None:
    with pytest.raises(ValueError, match="must be even"):
        kzoo.build_model("shufflenet_v2_x0_5", filters=(48, 97, 192))
