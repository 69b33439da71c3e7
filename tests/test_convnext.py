"""ConvNeXt V1 and V2: counts and numbers from torchvision and timm."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.models.convnext import GlobalResponseNorm

COUNTS = {  # torchvision's, and timm's of V2
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_v2_atto": 3_708_400,
    "convnext_v2_femto": 5_233_240,
    "convnext_v2_pico": 9_066_280,
    "convnext_v2_nano": 15_623_800,
    "convnext_v2_tiny": 28_635_496,
    "convnext_v2_base": 88_717_800,
    "convnext_v2_large": 197_956_840,
    "convnext_v2_huge": 660_289_640,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


TORCHVISION_TAPS = {
    "stem": "features.0",
    "stage_0_block_0": "features.1.0",
    **{f"stage_{i}": f"features.{2 * i + 1}" for i in range(4)},
}
TIMM_TAPS = {"stem": "stem", **{f"stage_{i}": f"stages.{i}" for i in range(4)}}
# A quarter as wide and not as deep, which repeats what is there.
SMALL: dict[str, Any] = {"num_blocks": (1, 1, 2, 1), "filters": (24, 48, 96, 192)}


def small_peer(path: str) -> Any:
    blocks, widths = SMALL["num_blocks"], SMALL["filters"]
    if path.startswith("timm/"):
        return peer_model(path, depths=blocks, dims=widths)
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = zip(widths, (*widths[1:], None), blocks, strict=True)
    return ConvNeXt([CNBlockConfig(*stage) for stage in stages])


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("convnext_tiny", "torchvision/convnext_tiny"),
        pytest.param(
            "convnext_tiny", "timm/convnext_tiny", marks=pytest.mark.exhaustive
        ),
        ("convnext_v2_tiny", "timm/convnextv2_tiny"),
    ],
)
def test_answers_as_its_peer_does(name: str, path: str) -> None:
    source = path.partition("/")[0]
    first = source == "torchvision"
    assert_parity(
        name,
        small_peer(path),
        source,
        sizes=((224, 224), (66, 97)) if first else ((66, 97),),
        taps=TORCHVISION_TAPS if first else TIMM_TAPS,
        gradients=first,
        **SMALL,
    )


@pytest.mark.peers
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "path", "taps"),
    [
        ("convnext_tiny", "torchvision/convnext_tiny", TORCHVISION_TAPS),
        ("convnext_tiny", "timm/convnext_tiny", TIMM_TAPS),
        ("convnext_v2_atto", "timm/convnextv2_atto", TIMM_TAPS),
        ("convnext_v2_tiny", "timm/convnextv2_tiny", TIMM_TAPS),
    ],
)
def test_the_whole_network_answers_as_its_peer_does(
    name: str, path: str, taps: Any
) -> None:
    source = path.partition("/")[0]
    assert_parity(
        name, peer_model(path), source, sizes=((224, 224), (64, 96)), taps=taps
    )


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("convnext_tiny", "torchvision"),
        ("convnext_tiny", "timm"),
        ("convnext_v2_atto", "timm"),
    ],
)
def test_round_trip(name: str, source: str) -> None:
    assert_round_trip(name, source, num_blocks=(1, 2, 1, 1), filters=(4, 8, 8, 12))


@pytest.mark.slow
def test_learns_digits() -> None:
    assert_learns_digits(
        "convnext_tiny",
        stem="small",
        num_blocks=(1, 1),
        filters=(16, 32),
        layer_scale=0.0,
        drop_path_rate=0,
    )


def test_response_norm_by_hand() -> None:
    layer = GlobalResponseNorm()
    x = np.zeros((1, 2, 2, 3), "float32")
    x[0, :, :, 0] = [[3, 4], [0, 0]]  # of norm 5
    x[0, 0, 0, 1] = 1  # of norm 1; the third channel has 0
    layer.build(x.shape)
    layer.gamma.assign([1.0, 2.0, 3.0])
    layer.beta.assign([0.0, 0.0, 0.5])
    found = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(
        found[0, 0, 0], [3 + 3 * 5 / 2, 1 + 2 * 1 / 2, 0.5], rtol=1e-5
    )


@pytest.mark.parametrize(("stem", "least"), [("imagenet", 32), ("small", 8)])
def test_least_size(stem: str, least: int) -> None:
    small: dict[str, Any] = {"stem": stem, "filters": (4, 8, 8, 8)}
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        kzoo.build_model("convnext_tiny", image_size=least - 1, **small)
    model = kzoo.build_model("convnext_v2_atto", num_blocks=(1, 1, 1, 1), **small)
    x = np.zeros((1, least, least, 3), "float32")
    last = kzoo.features(model, ["stage_3"])(x, training=False)["stage_3"]
    assert last.shape[1:3] == (1, 1)


def test_stages_are_of_one_number() -> None:
    with pytest.raises(ValueError, match="must be of one length"):
        kzoo.build_model("convnext_tiny", num_blocks=(1, 2, 1))
