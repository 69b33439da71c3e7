"""MobileNet V2 and V3: counts and numbers from torchvision and timm."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.layers.inverted_residual import make_divisible

COUNTS = {  # torchvision's own
    "mobilenet_v2": 3_504_872,
    "mobilenet_v3_small": 2_542_856,
    "mobilenet_v3_large": 5_483_032,
}
# torchvision's list of blocks -> the last block of each stage.
LAST = {
    "mobilenet_v2": (1, 3, 6, 10, 13, 16, 17),
    "mobilenet_v3_small": (1, 3, 6, 8, 11),
    "mobilenet_v3_large": (1, 3, 6, 10, 12, 15),
}


def torchvision_taps(name: str) -> dict[str, str]:
    stages = {f"stage_{i}": f"features.{n}" for i, n in enumerate(LAST[name])}
    return {"stem": "features.0", "stage_1_block_0": "features.2", **stages}


def timm_taps(name: str) -> dict[str, str]:
    stages = {f"stage_{i}": f"blocks.{i}" for i in range(len(LAST[name]))}
    return {"stem": "bn1", **stages}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "multiplier", "count"),
    [  # torchvision's own
        ("mobilenet_v2", 0.35, 1_677_128),
        ("mobilenet_v2", 1.4, 6_108_776),
        ("mobilenet_v3_small", 0.75, 1_653_920),
        ("mobilenet_v3_large", 0.35, 997_064),
    ],
)
def test_count_of_other_widths(name: str, multiplier: float, count: int) -> None:
    described = kzoo.describe(name, width_multiplier=multiplier)
    assert described["trainable_parameters"] == count


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "peer", "sizes"),
    [
        (
            "mobilenet_v2",
            "torchvision/mobilenet_v2",
            ((224, 224), (65, 98)),
        ),
        (
            "mobilenet_v3_small",
            "torchvision/mobilenet_v3_small",
            ((224, 224), (65, 98)),
        ),
        ("mobilenet_v3_large", "torchvision/mobilenet_v3_large", ((65, 98),)),
        ("mobilenet_v2", "timm/mobilenetv2_100", ((65, 98),)),
        ("mobilenet_v3_small", "timm/mobilenetv3_small_100", ((65, 98),)),
        ("mobilenet_v3_large", "timm/mobilenetv3_large_100", ((65, 98),)),
    ],
)
def test_answers_as_its_peer_does(name: str, peer: str, sizes: Any) -> None:
    source = peer.partition("/")[0]
    taps = timm_taps(name) if source == "timm" else torchvision_taps(name)
    assert_parity(
        name,
        peer_model(peer),
        source,
        sizes=sizes,
        taps=taps,
        gradients=len(sizes) > 1,
    )


@pytest.mark.peers
@pytest.mark.slow
def test_tensorflows_padding_is_timms() -> None:
    assert_parity(
        "mobilenet_v3_small",
        peer_model("timm/tf_mobilenetv3_small_100"),
        "timm",
        sizes=((64, 98),),
        taps=timm_taps("mobilenet_v3_small"),
        padding="uneven",
        norm_epsilon=1e-3,
    )


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_round_trip(name: str, source: str) -> None:
    assert_round_trip(name, source, width_multiplier=0.1)


@pytest.mark.slow
def test_learns_digits() -> None:
    assert_learns_digits("mobilenet_v3_small", stem="small", enlarged=2, dropout_rate=0)


@pytest.mark.parametrize(("stem", "least"), [("imagenet", 32), ("small", 8)])
def test_least_size(stem: str, least: int) -> None:
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        kzoo.build_model("mobilenet_v2", stem=stem, image_size=least - 1)
    model = kzoo.build_model("mobilenet_v2", stem=stem, image_size=least, num_classes=0)
    x = np.zeros((1, least, least, 3), "float32")
    last = kzoo.features(model, ["stage_6"])(x, training=False)["stage_6"]
    assert last.shape[1:3] == (1, 1)  # nothing is left of the resolution
    assert model.output_shape == (None, 1280)


def test_drop_path_rises_to_the_last_block() -> None:
    model = kzoo.build_model("mobilenet_v2", drop_path_rate=0.16)
    rates = [layer.rate for layer in model.layers if layer.name.endswith("_drop_path")]
    assert len(rates) == 10  # the blocks that have a shortcut
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.16 * 2 / 16)  # the third of seventeen


def test_drop_path_drops_whole_examples() -> None:
    model = kzoo.build_model("mobilenet_v2", drop_path_rate=0.9)
    layer = model.get_layer("stage_5_block_2_drop_path")
    ones = keras.ops.ones((64, 2, 2, 3))
    y = keras.ops.convert_to_numpy(layer(ones, training=True))
    per_example = y.reshape(64, -1)
    assert (per_example == per_example[:, :1]).all()
    assert 0 < (per_example[:, 0] == 0).sum() < 64


@pytest.mark.parametrize(
    ("channels", "expected"),
    # round(v / 8) * 8, at least 8, and never under nine tenths of v
    [(3, 8), (12, 16), (11.2, 16), (33.6, 32), (179.2, 176), (16, 16)],
)
def test_make_divisible(channels: float, expected: int) -> None:
    assert make_divisible(channels) == expected
