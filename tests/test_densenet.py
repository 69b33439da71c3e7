"""Densely connected networks: counts and numbers from torchvision and timm."""

import re

import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.weights.convert import from_source, to_source

COUNTS = {  # torchvision's own
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


def test_count_of_the_cifar_network() -> None:
    # Stem 24; a layer: norms of c and 48 channels, 1x1 c -> 48, 3x3 48 -> 12;
    # a transition: norm, and 1x1 to half of the channels.
    total, channels = 27 * 24, 24
    for stage in range(3):
        for _ in range(16):
            total += 2 * channels + 48 * channels + 2 * 48 + 9 * 48 * 12
            channels += 12
        if stage < 2:
            total += 2 * channels + channels * (channels // 2)
            channels //= 2
    total += 2 * channels + (channels + 1) * 10
    assert total == 769_162
    assert kzoo.describe("densenet_bc_100_12")["trainable_parameters"] == total


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_answers_as_its_peer_does(source: str) -> None:
    default = (224, 224) if source == "torchvision" else (64, 64)
    stages = {f"stage_{i}": f"features.denseblock{i + 1}" for i in range(4)}
    assert_parity(
        "densenet121",
        peer_model(f"{source}/densenet121"),
        source,
        sizes=(default, (64, 97)),
        taps={"stem": "features.pool0", **stages},
        gradients=source == "torchvision",
    )


def test_files_of_2017_are_read() -> None:
    small = {"num_blocks": (1, 2), "stem_filters": 8, "growth_rate": 4}
    arrays = to_source(kzoo.build_model("densenet121", **small), "torchvision")
    old = {
        re.sub(r"(denselayer\d+\.[a-z]+)(\d)", r"\1.\2", name): array
        for name, array in arrays.items()
    }
    assert "features.denseblock2.denselayer1.norm.2.weight" in old
    model = from_source(old, "densenet121", "torchvision", **small).model
    again = to_source(model, "torchvision")
    assert all((again[name] == array).all() for name, array in arrays.items())


def test_learns_digits() -> None:
    assert_learns_digits("densenet_bc_100_12", num_blocks=(2, 2, 2))


@pytest.mark.parametrize("source", ["timm", "keras"])
def test_round_trip(source: str) -> None:
    assert_round_trip("densenet121", source, num_blocks=(1, 2), growth_rate=4)
