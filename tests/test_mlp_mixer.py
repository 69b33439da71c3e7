"""MLP-Mixer: counts and numbers from timm."""

from typing import Any

import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo

COUNTS = {  # timm's
    "mlp_mixer_small_32": 19_104_624,
    "mlp_mixer_small_16": 18_528_264,
    "mlp_mixer_base_32": 60_293_428,
    "mlp_mixer_base_16": 59_880_472,
    "mlp_mixer_large_32": 206_939_264,
    "mlp_mixer_large_16": 208_196_168,
}
TAPS = {f"block_{i}": f"blocks.{i}" for i in range(2)}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("image_size", [224, 96])
def test_answers_as_its_peer_does(image_size: int) -> None:
    from timm.models.mlp_mixer import MlpMixer

    peer = MlpMixer(img_size=image_size, patch_size=32, num_blocks=2, embed_dim=512)
    assert_parity(
        "mlp_mixer_small_32",
        peer,
        "timm",
        sizes=((image_size, image_size),),
        taps=TAPS,
        gradients=image_size == 96,
        image_size=image_size,
        num_layers=2,
    )


@pytest.mark.peers
@pytest.mark.exhaustive
@pytest.mark.parametrize("size", ["s", "b"])
def test_the_whole_network_answers_as_its_peer_does(size: str) -> None:
    name = {"s": "small", "b": "base"}[size]
    assert_parity(
        f"mlp_mixer_{name}_16",
        peer_model(f"timm/mixer_{size}16_224"),
        "timm",
        sizes=((224, 224),),
        taps=TAPS,
    )


SMALL: dict[str, Any] = {
    "num_layers": 2,
    "hidden_dim": 16,
    "token_dim": 8,
    "mlp_dim": 32,
    "patch_size": 2,
    "image_size": 8,
}


def test_round_trip() -> None:
    assert_round_trip("mlp_mixer_small_32", "timm", **SMALL)


@pytest.mark.slow
def test_learns_digits() -> None:
    small = {name: SMALL[name] for name in SMALL if name != "image_size"}
    assert_learns_digits(
        "mlp_mixer_small_32", stem="small", learning_rate=5e-3, **small
    )


def test_patches_that_do_not_fill_the_image() -> None:
    told = "images of 200x224 do not divide .* 192x224 and 208x224"
    with pytest.raises(ValueError, match=told):
        kzoo.build_model("mlp_mixer_base_16", image_size=(200, 224))
    with pytest.raises(ValueError, match="the patches are counted"):
        kzoo.build_model("mlp_mixer_base_16", image_size=None)
