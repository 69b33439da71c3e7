"""DeiT: counts and numbers from timm, two tokens and two heads."""

from typing import Any

import numpy as np
import pytest
from parity import assert_parity, peer_model
from vision import assert_round_trip

import kzoo

COUNTS = {  # timm's
    "deit_tiny_16": 5_717_416,
    "deit_small_16": 22_050_664,
    "deit_base_16": 86_567_656,
    "deit_tiny_16_distilled": 5_910_800,
    "deit_small_16_distilled": 22_436_432,
    "deit_base_16_distilled": 87_338_192,
}
SMALL: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 4,
    "num_layers": 2,
    "hidden_dim": 12,
    "num_heads": 3,
    "mlp_dim": 16,
}
HEADS = {"logits_class": "head", "logits_distillation": "head_dist"}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("image_size", [224, 64])
def test_answers_as_its_peer_does(image_size: int) -> None:
    peer = peer_model(
        "timm/deit_tiny_distilled_patch16_224", depth=2, img_size=image_size
    )
    assert_parity(
        "deit_tiny_16_distilled",
        peer,
        "timm",
        sizes=((image_size, image_size),),
        taps={"stem": "pos_drop", "block_1": "blocks.1", **HEADS},
        gradients=image_size == 64,
        image_size=image_size,
        num_layers=2,
    )


@pytest.mark.peers
@pytest.mark.exhaustive
@pytest.mark.parametrize("distilled", [False, True])
def test_the_whole_network_answers_as_its_peer_does(distilled: bool) -> None:
    distillation = "_distilled" if distilled else ""
    assert_parity(
        f"deit_small_16{distillation}",
        peer_model(f"timm/deit_small{distillation}_patch16_224"),
        "timm",
        sizes=((224, 224),),
        taps={f"block_{i}": f"blocks.{i}" for i in range(12)},
    )


@pytest.mark.parametrize("name", ["deit_tiny_16", "deit_tiny_16_distilled"])
def test_round_trip(name: str) -> None:
    assert_round_trip(name, "timm", **SMALL)


def test_the_answer_is_the_mean_of_both_heads() -> None:
    model = kzoo.build_model("deit_tiny_16_distilled", **SMALL)
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    found = kzoo.features(model, [*HEADS, "logits"])(images, training=False)
    one, other, mean = (np.asarray(found[tap]) for tap in (*HEADS, "logits"))
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(mean, (one + other) / 2, atol=1e-6)


def test_a_fresh_head_replaces_both() -> None:
    model = kzoo.build_model("deit_tiny_16_distilled", **SMALL)
    changed = kzoo.replace_head(model, 3)
    assert changed.output_shape == (None, 3)
    token = changed.get_layer("distillation_token").token
    np.testing.assert_array_equal(
        np.asarray(token.value),
        np.asarray(model.get_layer("distillation_token").token.value),
    )


def test_two_tokens_need_tokens() -> None:
    with pytest.raises(ValueError, match="distilled=true needs pooling='first'"):
        kzoo.build_model("deit_tiny_16_distilled", pooling="mean", **SMALL)
