"""GoogLeNet and Inception V3: counts and numbers from torchvision and timm."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from parity import (
    assert_parity,
    channels_first,
    images_of,
    peer_model,
    randomized,
    relative_error,
    state_of,
)
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.weights.convert import from_source, to_source
from kzoo.weights.names import SOURCES

COUNTS = {"googlenet": 6_624_904, "inception_v3": 23_834_568}  # torchvision's, no aux
AUX_COUNTS = {"googlenet": 13_004_888, "inception_v3": 27_161_264}  # with aux heads
TAPS = {
    "googlenet": {
        "stem": "maxpool2",
        "stage_0": "inception3b",
        "stage_1_block_2": "inception4c",
        "stage_1": "inception4e",
        "stage_2": "inception5b",
    },
    "inception_v3": {
        "stem": "maxpool2",
        "stage_0_block_1": "Mixed_5c",
        "stage_0": "Mixed_5d",
        "stage_1": "Mixed_6e",
        "stage_2": "Mixed_7c",
    },
}
NAMES = sorted(COUNTS)


def peer_of(name: str, aux_heads: bool = False) -> Any:
    import torchvision

    build = torchvision.models.get_model
    return build(name, aux_logits=aux_heads, init_weights=False)


@pytest.mark.parametrize("name", NAMES)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_count_with_auxiliary_heads(name: str) -> None:
    counted = kzoo.describe(name, aux_heads=True)["trainable_parameters"]
    assert counted == AUX_COUNTS[name]


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # 95x130 leaves an odd pixel at each of the four poolings in turn.
        ("googlenet", ((224, 224), (95, 130))),
        ("inception_v3", ((299, 299), (107, 128))),
    ],
)
def test_answers_as_its_peer_does(name: str, sizes: tuple[tuple[int, int]]) -> None:
    assert_parity(
        name,
        peer_of(name),
        "torchvision",
        sizes=sizes,
        taps=TAPS[name],
        gradients=True,
    )


@pytest.mark.peers
@pytest.mark.slow
def test_answers_as_timm_does() -> None:
    import timm

    assert_parity(
        "inception_v3",
        timm.create_model("inception_v3"),
        "timm",
        sizes=((107, 128),),
        taps=TAPS["inception_v3"] | {"stem": "Pool2"},
    )


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "heads"),
    [
        ("googlenet", (224, 150), ("logits", "logits_late", "logits_early")),
        ("inception_v3", (299, 299), ("logits", "logits_aux")),
    ],
)
def test_auxiliary_heads_answer_as_the_peers_do(
    name: str, size: tuple[int, int], heads: tuple[str, ...]
) -> None:
    import torch

    images = images_of(size, 3)
    peer = peer_of(name, aux_heads=True)
    peer.training = True  # it has these heads, but its layers stand as in evaluation
    peer = randomized(peer, images)
    state = state_of(peer)
    peer.training = True
    with torch.no_grad():
        expected = dict(zip(heads, peer(channels_first(images)), strict=True))
    model = from_source(state, name, "torchvision", aux_heads=True).model
    found = model(images, training=False)
    assert set(found) == set(heads)
    for head, logits in expected.items():
        actual = keras.ops.convert_to_numpy(found[head])
        assert relative_error(actual, logits.numpy()) < 1e-4, head


def test_auxiliary_heads_of_a_file_are_left_aside() -> None:
    small = {"width_multiplier": 0.1, "num_classes": 3}
    with_heads = kzoo.build_model("googlenet", aux_heads=True, **small)
    arrays = to_source(with_heads, "torchvision")
    converted = from_source(arrays, "googlenet", "torchvision", **small)
    assert any("aux1.fc2.weight" in change for change in converted.changes)
    assert kzoo.list_features(converted.model)[-1] == "logits"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("aux_heads", [False, True])
def test_round_trip(name: str, aux_heads: bool) -> None:
    assert_round_trip(name, "torchvision", width_multiplier=0.1, aux_heads=aux_heads)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["googlenet", pytest.param("inception_v3", marks=pytest.mark.exhaustive)],
)
def test_learns_digits(name: str) -> None:
    assert_learns_digits(name, stem="small", enlarged=2, dropout_rate=0.0)


@pytest.mark.parametrize(
    ("name", "stem", "least"),
    [
        ("googlenet", "imagenet", 15),
        ("googlenet", "small", 2),
        ("inception_v3", "imagenet", 75),
        ("inception_v3", "small", 7),
    ],
)
def test_least_size(name: str, stem: str, least: int) -> None:
    small = {"stem": stem, "width_multiplier": 0.1, "num_classes": 3}
    with pytest.raises(ValueError, match=f"need at least {least}x{least}"):
        kzoo.build_model(name, image_size=least - 1, **small)
    model = kzoo.build_model(name, image_size=least, **small)
    logits = model(np.zeros((1, least, least, 3), "float32"), training=False)
    assert tuple(logits.shape) == (1, 3)
    assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()


def test_auxiliary_heads_need_classes() -> None:
    with pytest.raises(ValueError, match="num_classes must not be 0"):
        kzoo.build_model("googlenet", aux_heads=True, num_classes=0)


def test_kernels_differ() -> None:
    model = kzoo.build_model("googlenet", width_multiplier=0.1)
    left, right = (
        keras.ops.convert_to_numpy(model.get_layer(f"stage_1_block_{j}_{part}").kernel)
        for j, part in ((1, "branch3_1_conv"), (2, "branch3_1_conv"))
    )
    assert left.shape == right.shape
    assert not np.array_equal(left, right)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_preprocessing_is_that_of_torchvision(name: str) -> None:
    import torch
    import torchvision

    prepare = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    peer = peer_model(f"torchvision/{name}", transform_input=True, init_weights=False)
    image = np.full((1, 400, 400, 3), (3, 100, 250), "uint8")
    x = prepare(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    expected = peer._transform_input(x).numpy().transpose(0, 2, 3, 1)
    ours = SOURCES[name]["torchvision"].preprocessing
    size = x.shape[-1]
    ours = dataclasses.replace(ours, image_size=(size, size))
    np.testing.assert_allclose(ours.inputs(image), expected, atol=1e-5)
    assert int(size / ours.crop_rate) == prepare.resize_size[0]
