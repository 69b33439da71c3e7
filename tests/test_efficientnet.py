"""EfficientNet V1 and V2: counts and numbers from torchvision and timm."""

from typing import Any

import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo

COUNTS = {  # torchvision's own
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_v2_s": 21_458_488,
    "efficientnet_v2_m": 54_139_356,
    "efficientnet_v2_l": 118_515_272,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


def taps_of(source: str, stages: int) -> dict[str, str]:
    if source == "timm":
        return {"stem": "bn1", **{f"stage_{i}": f"blocks.{i}" for i in range(stages)}}
    return {
        "stem": "features.0",
        "stage_1_block_0": "features.2.0",
        **{f"stage_{i}": f"features.{i + 1}" for i in range(stages)},
    }


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "peer", "stages", "sizes"),
    [
        (
            "efficientnet_b0",
            "torchvision/efficientnet_b0",
            7,
            ((224, 224), (65, 98)),
        ),
        # Its width and depth are rounded, and its epsilon is another.
        ("efficientnet_b5", "torchvision/efficientnet_b5", 7, ((65, 66),)),
        ("efficientnet_v2_s", "torchvision/efficientnet_v2_s", 6, ((65, 66),)),
        *(
            pytest.param(
                f"efficientnet_{size}",
                f"torchvision/efficientnet_{size}",
                stages,
                ((65, 66),),
                marks=pytest.mark.exhaustive,
            )
            for size, stages in (
                ("b1", 7),
                ("b2", 7),
                ("b4", 7),
                ("b6", 7),
                ("v2_m", 7),
            )
        ),
        ("efficientnet_b0", "timm/efficientnet_b0", 7, ((65, 66),)),
        ("efficientnet_v2_s", "timm/efficientnetv2_s", 6, ((65, 66),)),
    ],
)
def test_answers_as_its_peer_does(
    name: str, peer: str, stages: int, sizes: Any
) -> None:
    source = peer.partition("/")[0]
    assert_parity(
        name,
        peer_model(peer),
        source,
        sizes=sizes,
        taps=taps_of(source, stages),
        gradients=len(sizes) > 1,
    )


@pytest.mark.peers
@pytest.mark.slow
def test_tensorflows_padding_is_timms() -> None:
    assert_parity(
        "efficientnet_b0",
        peer_model("timm/tf_efficientnet_b0"),
        "timm",
        sizes=((64, 98),),
        taps=taps_of("timm", 7),
        padding="uneven",
        norm_epsilon=1e-3,
    )


@pytest.mark.parametrize("source", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_v2_s"])
def test_round_trip(name: str, source: str) -> None:
    assert_round_trip(name, source, width_multiplier=0.1, depth_multiplier=0.3)


@pytest.mark.slow
def test_learns_digits() -> None:
    assert_learns_digits(
        "efficientnet_b0",
        stem="small",
        enlarged=2,
        dropout_rate=0,
        drop_path_rate=0,
        depth_multiplier=0.5,
    )


@pytest.mark.parametrize(("stem", "least"), [("imagenet", 32), ("small", 8)])
def test_least_size(stem: str, least: int) -> None:
    small = {"stem": stem, "width_multiplier": 0.1, "depth_multiplier": 0.3}
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        kzoo.build_model("efficientnet_b0", image_size=least - 1, **small)
    model = kzoo.build_model("efficientnet_b0", image_size=least, **small)
    x = np.zeros((1, least, least, 3), "float32")
    last = kzoo.features(model, ["stage_6"])(x, training=False)["stage_6"]
    assert last.shape[1:3] == (1, 1)


def test_drop_path_is_that_of_the_reference() -> None:
    # rate x block / blocks, so that the last of sixteen blocks has 15 / 16 of it
    model = kzoo.build_model("efficientnet_b0", drop_path_rate=0.16)
    rates = {
        layer.name: layer.rate
        for layer in model.layers
        if layer.name.endswith("_drop_path")
    }
    assert len(rates) == 9
    assert rates["stage_1_block_1_drop_path"] == pytest.approx(0.02)
    assert rates["stage_5_block_3_drop_path"] == pytest.approx(0.14)
