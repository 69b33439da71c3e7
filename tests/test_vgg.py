"""VGG: counts and numbers from torchvision and timm."""

import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo

COUNTS = {  # torchvision's own
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "pools", "sizes"),
    [
        # 7x7, 8x7 and 3x5 of what the dense layers average onto their grid. Above 7x7
        # timm's slide over the image instead.
        (
            "torchvision/vgg11",
            (2, 5, 10, 15, 20),
            ((224, 224), (256, 224), (96, 160)),
        ),
        ("timm/vgg13_bn", (6, 13, 20, 27, 34), ((224, 224), (96, 160))),
    ],
)
def test_answers_as_its_peer_does(
    peer: str, pools: tuple[int, ...], sizes: tuple[tuple[int, int], ...]
) -> None:
    source, _, name = peer.partition("/")
    assert_parity(
        name,
        peer_model(peer),
        source,
        sizes=sizes,
        taps={f"stage_{i}": f"features.{index}" for i, index in enumerate(pools)},
        gradients=name == "vgg11",
    )


def test_learns_digits() -> None:
    assert_learns_digits(
        "vgg11_bn",
        stem="small",
        num_convs=(1, 1, 1),
        filters=(64, 128, 256),
        grid=1,
        dense_units=256,
        dropout_rate=0.0,
    )


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_round_trip(name: str, source: str) -> None:
    # The first dense layer reads 2x2 pixels, which PyTorch flattens in another order.
    assert_round_trip(name, source, filters=(4, 4, 8, 8, 8), grid=2, dense_units=16)
