"""Vision transformers: counts and numbers from torchvision and timm."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, images_of, peer_model, randomized, state_of
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.layers.patches import GridPositions
from kzoo.weights.convert import from_source, to_source

COUNTS = {  # timm's, and torchvision's of the huge one
    "vit_tiny_16": 5_717_416,
    "vit_small_16": 22_050_664,
    "vit_small_32": 22_878_952,
    "vit_base_16": 86_567_656,
    "vit_base_32": 88_224_232,
    "vit_large_16": 304_326_632,
    "vit_large_32": 306_535_400,
    "vit_huge_14": 632_045_800,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


def test_count_of_the_lite_one() -> None:
    # Hassani et al. 2021, table 1: ViT-Lite-7/4 has 3.72 M.
    count = kzoo.describe("vit_lite_4")["trainable_parameters"]
    assert round(count / 1e6, 2) == 3.72


def taps_of(source: str, layers: int) -> dict[str, str]:
    if source == "timm":
        block, stem = "blocks.{}", "pos_drop"
    else:
        block, stem = "encoder.layers.encoder_layer_{}", "encoder.dropout"
    return {"stem": stem, **{f"block_{i}": block.format(i) for i in range(layers)}}


# As wide as the tiny one, which only repeats its blocks.
SHALLOW: dict[str, Any] = {"num_layers": 2}


def shallow_peer(source: str, image_size: int = 224, **options: Any) -> Any:
    if source == "timm":
        return peer_model(
            "timm/vit_tiny_patch16_224", depth=2, img_size=image_size, **options
        )
    from torchvision.models import VisionTransformer

    return VisionTransformer(image_size, 16, 2, 3, 192, 768)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_answers_as_its_peer_does(source: str) -> None:
    assert_parity(
        "vit_tiny_16",
        shallow_peer(source),
        source,
        sizes=((224, 224),),
        taps=taps_of(source, 2),
        gradients=source == "timm",
        **SHALLOW,
    )


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("size", [(160, 160), (96, 320)])
def test_positions_for_another_size_are_those_of_timm(size: Any) -> None:
    import torch
    from timm.models.vision_transformer import checkpoint_filter_fn

    trained = state_of(randomized(shallow_peer("timm"), images_of((224, 224), 3)))
    peer = shallow_peer("timm", size).eval()
    tensors = {name: torch.from_numpy(array) for name, array in trained.items()}
    peer.load_state_dict(checkpoint_filter_fn(tensors, peer))
    assert_parity(
        "vit_tiny_16",
        peer,
        "timm",
        sizes=(size,),
        taps=taps_of("timm", 2),
        state=trained,
        image_size=size,
        **SHALLOW,
    )
    changes = from_source(
        trained, "vit_tiny_16", "timm", image_size=size, **SHALLOW
    ).changes
    rows = 1 + size[0] * size[1] // 16**2
    assert changes == (f"pos_embed (1, 197, 192) is resampled to (1, {rows}, 192)",)


@pytest.mark.peers
@pytest.mark.slow
def test_scaled_branches_answer_as_timm_does() -> None:
    assert_parity(
        "vit_tiny_16",
        shallow_peer("timm", 64, init_values=0.1),
        "timm",
        sizes=((64, 64),),
        taps=taps_of("timm", 2),
        image_size=64,
        layer_scale=0.1,
        **SHALLOW,
    )


@pytest.mark.peers
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vit_small_16", "timm/vit_small_patch16_224"),
        ("vit_small_32", "timm/vit_small_patch32_224"),
        ("vit_base_16", "torchvision/vit_b_16"),
        ("vit_base_32", "torchvision/vit_b_32"),
    ],
)
def test_the_whole_network_answers_as_its_peer_does(name: str, path: str) -> None:
    source = path.partition("/")[0]
    assert_parity(
        name,
        peer_model(path),
        source,
        sizes=((224, 224),),
        taps=taps_of(source, 12),
    )


SMALL: dict[str, Any] = {
    "image_size": (8, 12),
    "patch_size": 4,
    "num_layers": 2,
    "hidden_dim": 12,
    "num_heads": 3,
    "mlp_dim": 16,
}


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_round_trip(source: str) -> None:
    assert_round_trip("vit_tiny_16", source, **SMALL)


def test_scales_go_round_too() -> None:
    assert_round_trip("vit_tiny_16", "timm", layer_scale=0.1, **SMALL)


def test_positions_that_fit_no_grid_are_refused() -> None:
    arrays = to_source(kzoo.build_model("vit_tiny_16", **SMALL), "timm")
    square: dict[str, Any] = {**SMALL, "image_size": 8}
    with pytest.raises(ValueError, match="7 positions are not 1 and a square"):
        from_source(arrays, "vit_tiny_16", "timm", **square)
    arrays["pos_embed"] = arrays["pos_embed"][..., :6]
    with pytest.raises(ValueError, match=r"'pos_embed' is \(1, 7, 6\) in the file"):
        from_source(arrays, "vit_tiny_16", "timm", **square)


def test_positions_of_the_same_grid_stay_as_they_are() -> None:
    layer = GridPositions((2, 2), leading=1)
    table = np.arange(15.0, dtype="float32").reshape(5, 3)
    np.testing.assert_array_equal(layer.resampled(table), table)


def test_older_names_of_torchvision() -> None:
    arrays = to_source(kzoo.build_model("vit_tiny_16", **SMALL), "torchvision")
    old = {
        name.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): array
        for name, array in arrays.items()
    }
    assert old.keys() != arrays.keys()
    assert from_source(old, "vit_tiny_16", "torchvision", **SMALL).changes == ()


def test_a_fresh_head_and_other_colours() -> None:
    arrays = to_source(kzoo.build_model("vit_tiny_16", **SMALL), "timm")
    found = from_source(
        arrays, "vit_tiny_16", "timm", num_classes=3, channels=1, **SMALL
    )
    assert [change.split(" is ")[0] for change in found.changes] == [
        "head.weight (1000, 12)",
        "head.bias (1000,)",
        "patch_embed.proj.weight (12, 3, 4, 4)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pooling", ["first", pytest.param("mean", marks=pytest.mark.exhaustive)]
)
def test_learns_digits(pooling: str) -> None:
    assert_learns_digits(
        "vit_tiny_16",
        stem="small",
        patch_size=2,
        num_layers=2,
        hidden_dim=32,
        num_heads=2,
        mlp_dim=64,
        pooling=pooling,
        learning_rate=5e-3,
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"image_size": 230},
            "images of 230x230 do not divide .* 16x16: the nearest sizes are 224x224 "
            "and 240x240",
        ),
        ({"image_size": 8}, "the nearest sizes are 16x16"),
        ({"image_size": None}, "give height and width"),
        ({"num_heads": 5}, "hidden_dim=192 is not a multiple of num_heads=5"),
        ({"patch_size": 0}, "patch_size"),
    ],
)
def test_what_does_not_fit_is_told(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        kzoo.build_model("vit_tiny_16", **values)


def test_attention_maps_are_of_patches() -> None:
    model = kzoo.build_model("vit_tiny_16", **SMALL)
    maps = model.attention_maps(np.zeros((2, 8, 12, 3), "float32"))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "block_0": (2, 3, 7, 7),
        "block_1": (2, 3, 7, 7),
    }


def test_taps() -> None:
    model = kzoo.build_model("vit_tiny_16", **{**SMALL, "num_layers": 1})
    parts = [f"block_0_{part}" for part in ("query", "key", "value")]
    taps = ["stem", *parts, "block_0", "pooled", "logits"]
    assert kzoo.list_features(model) == taps
    images = np.zeros((2, 8, 12, 3), "float32")
    found = kzoo.features(model, taps)(images, training=False)
    assert tuple(found["block_0"].shape) == (2, 7, 12)
    # the class token is the first
    norm = model.get_layer("norm")(found["block_0"])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found["pooled"]),
        keras.ops.convert_to_numpy(norm)[:, 0],
        atol=1e-6,
    )
