"""Residual networks: counts from the papers, numbers from torchvision and timm."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo

# torchvision's and timm's own counts; of the CIFAR networks arithmetic by the papers'
# tables, at 10 classes for option A and 100 for the wide ones.
COUNTS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_v2": 25_549_352,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "se_resnet50": 28_088_024,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
}
V1 = {"stem": "maxpool", "stage_1_block_0": "layer2.0"} | {
    f"stage_{i}": f"layer{i + 1}" for i in range(4)
}
V2 = {"stem": "stem", "stage_1_block_0": "stages.1.blocks.0"} | {
    f"stage_{i}": f"stages.{i}" for i in range(4)
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "peer", "taps"),
    [
        ("resnet18", "torchvision/resnet18", V1),
        ("resnet50", "timm/resnet50", V1),
        ("resnet50_v2", "timm/resnetv2_50", V2),
        ("resnext50_32x4d", "torchvision/resnext50_32x4d", V1),
        ("wide_resnet50_2", "torchvision/wide_resnet50_2", V1),
        ("se_resnet50", "timm/seresnet50", V1),
    ],
)
def test_answers_as_its_peer_does(name: str, peer: str, taps: Any) -> None:
    source = peer.partition("/")[0]
    assert_parity(
        name,
        peer_model(peer),
        source,
        sizes=((224, 224), (96, 65)),
        taps=taps,
        gradients=name == "resnet18",
    )


def test_learns_digits() -> None:
    assert_learns_digits("resnet20")


@pytest.mark.parametrize(
    "changes",
    [{}, {"pre_activation": True}, {"squeeze_excite": True}, {"groups": 2}],
    ids=str,
)
def test_round_trip(changes: dict[str, Any]) -> None:
    small: dict[str, Any] = {"num_blocks": (1, 2), "filters": (16, 32)}
    assert_round_trip("resnet50", "timm", image_size=64, **small, **changes)


@pytest.mark.parametrize("pre_activation", [False, True])
def test_option_a_pads_with_zeros(pre_activation: bool) -> None:
    model = kzoo.build_model("resnet20", pre_activation=pre_activation)
    assert not [weight for weight in model.weights if "shortcut" in weight.path]
    shortcut = keras.Model(
        model.input, model.get_layer("stage_1_block_0_shortcut").output
    )
    before = keras.Model(model.input, model.get_layer("stage_0").output)
    images = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    x, y = (
        keras.ops.convert_to_numpy(m(images, training=False))
        for m in (before, shortcut)
    )
    np.testing.assert_array_equal(y[..., :16], x[:, ::2, ::2])
    assert y.shape == (1, 4, 4, 32) and not y[..., 16:].any()


def test_drop_path_rises_to_its_rate() -> None:
    model = kzoo.build_model("resnet20", drop_path_rate=0.4)
    rates = [layer.rate for layer in model.layers if "drop_path" in layer.name]
    # The first of nine blocks never drops: it has no such layer.
    np.testing.assert_allclose(rates, [0.05 * i for i in range(1, 9)])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"filters": (8, 16)}, "must name as many stages"),
        ({"groups": 2}, "go with block='bottleneck'"),
        ({"image_size": 31}, "images of 31x31 are too small"),
    ],
)
def test_what_is_not_legal_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kzoo.build_model("resnet18", **changes)
