"""Swin: counts and numbers from torchvision and timm, windows by hand."""

from typing import Any

import keras
import numpy as np
import pytest
from parity import assert_parity, images_of, peer_model, randomized, state_of
from vision import assert_learns_digits, assert_round_trip

import kzoo
from kzoo.layers.windows import (
    WindowAttention,
    join_windows,
    parts_of_windows,
    split_windows,
)
from kzoo.weights.convert import from_source, to_source

COUNTS = {  # torchvision's
    "swin_tiny": 28_288_354,
    "swin_small": 49_606_258,
    "swin_base": 87_768_224,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    assert kzoo.describe(name)["trainable_parameters"] == COUNTS[name]


def taps_of(source: str, stages: int = 4) -> dict[str, str]:
    if source == "timm":
        stage = "layers.{}"
        return {
            "stem": "patch_embed",
            "stage_0_block_1": "layers.0.blocks.1",
            **{f"stage_{i}": stage.format(i) for i in range(stages)},
        }
    return {
        "stem": "features.0",
        "stage_0_block_1": "features.1.1",
        **{f"stage_{i}": f"features.{2 * i + 1}" for i in range(stages)},
    }


# Narrow, and two stages of blocks with and without a shift.
SMALL: dict[str, Any] = {"num_blocks": (2, 2), "num_heads": (2, 4), "hidden_dim": 16}


def small_peer(source: str, image_size: tuple[int, int], window_size: int = 7) -> Any:
    sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
    if source == "timm":
        from timm.models.swin_transformer import SwinTransformer

        return SwinTransformer(img_size=image_size, window_size=window_size, **sizes)
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], window_size=[window_size] * 2, **sizes)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("torchvision", (56, 84)),
        # 11 x 17 patches: padded to windows and to pairs, in both stages.
        ("torchvision", (44, 68)),
        # One window covers the height: it shifts along the width alone.
        ("torchvision", (28, 60)),
        ("timm", (56, 112)),  # where it pads, timm shifts first and pads then
    ],
)
def test_answers_as_its_peer_does(source: str, size: tuple[int, int]) -> None:
    assert_parity(
        "swin_tiny",
        small_peer(source, size),
        source,
        sizes=(size,),
        taps=taps_of(source, 2),
        gradients=source == "torchvision",
        image_size=size,
        **SMALL,
    )


@pytest.mark.peers
@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [(224, 224), (200, 168)])
def test_the_whole_network_answers_as_its_peer_does(size: tuple[int, int]) -> None:
    assert_parity(
        "swin_tiny",
        peer_model("torchvision/swin_t"),
        "torchvision",
        sizes=(size,),
        taps=taps_of("torchvision"),
        image_size=size,
    )
    if size == (224, 224):
        assert_parity(
            "swin_tiny",
            peer_model("timm/swin_tiny_patch4_window7_224"),
            "timm",
            sizes=(size,),
            taps=taps_of("timm"),
        )


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_round_trip(source: str) -> None:
    assert_round_trip("swin_tiny", source, image_size=56, **SMALL)


@pytest.mark.peers
def test_the_source_takes_what_it_is_given() -> None:
    """Every name and shape, buffers too."""
    import torch

    model = kzoo.build_model("swin_tiny", image_size=56, **SMALL)
    arrays = to_source(model, "torchvision")
    peer = small_peer("torchvision", (56, 56))
    # 1,000 classes there and here
    taken = {name: torch.from_numpy(array) for name, array in arrays.items()}
    told = peer.load_state_dict(taken)  # raises for a name or a shape that is not its
    assert not told.missing_keys
    assert not told.unexpected_keys


@pytest.mark.peers
@pytest.mark.parametrize("window_size", [4, 10])
def test_biases_for_another_window_are_those_of_timm(window_size: int) -> None:
    import torch
    from timm.layers import resize_rel_pos_bias_table_simple

    peer = randomized(small_peer("timm", (56, 56)), images_of((56, 56), 3))
    found = from_source(
        state_of(peer), "swin_tiny", "timm", window_size=window_size,
        image_size=56, **SMALL,
    )  # fmt: skip
    assert len(found.changes) == 4
    name = "layers.1.blocks.0.attn.relative_position_bias_table"
    number = (2 * window_size - 1) ** 2
    assert f"{name} (169, 4) is resampled to ({number}, 4)" in found.changes
    expected = resize_rel_pos_bias_table_simple(
        torch.from_numpy(state_of(peer)[name]), (window_size,) * 2, (number, 4)
    )
    table = found.model.get_layer("stage_1_block_0_attention").table
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(table.value), expected.numpy(), atol=1e-5
    )


def test_buffers_of_the_authors_files_are_left_aside() -> None:
    values: dict[str, Any] = {"image_size": 56, **SMALL}
    arrays = to_source(kzoo.build_model("swin_tiny", **values), "timm")
    arrays["layers.0.blocks.1.attn_mask"] = np.zeros((4, 49, 49), "float32")
    found = from_source(arrays, "swin_tiny", "timm", **values)
    assert found.changes == ("layers.0.blocks.1.attn_mask (4, 49, 49) is left aside",)


@pytest.mark.slow
def test_learns_digits() -> None:
    assert_learns_digits(
        "swin_tiny",
        stem="small",
        patch_size=1,
        window_size=4,
        num_blocks=(2, 1),
        num_heads=(2, 4),
        hidden_dim=32,
        drop_path_rate=0,
        learning_rate=1e-2,
    )


# Windows


def test_windows_go_by_rows_and_come_back() -> None:
    x = np.arange(2 * 4 * 6 * 1).reshape(2, 4, 6, 1)
    windows = keras.ops.convert_to_numpy(split_windows(x, 2))
    assert windows.shape == (12, 4, 1)
    assert windows[1, :, 0].tolist() == [2, 3, 8, 9]
    assert windows[3, :, 0].tolist() == [12, 13, 18, 19]
    np.testing.assert_array_equal(join_windows(windows, 4, 6), x)


def test_a_shift_parts_what_it_brings_together() -> None:
    seen = parts_of_windows(4, 4, 2, (1, 1))
    assert seen.shape == (4, 4, 4)
    assert seen[0].all()  # as before
    # Of the second window, the right half came round from the left.
    assert seen[1].tolist() == [[i % 2 == j % 2 for j in range(4)] for i in range(4)]
    np.testing.assert_array_equal(seen[3], np.eye(4, dtype=bool))
    assert parts_of_windows(2, 4, 2, (0, 1))[0].all()


@pytest.mark.contract
@pytest.mark.parametrize("shift", [0, 2])
def test_the_fused_and_the_plain_attention_agree(shift: int) -> None:
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 2, 8, 12, 6)).astype("float32")
    layer = WindowAttention(num_heads=3, window_size=4, shift=shift)
    layer.build(query.shape, key.shape, value.shape)
    table = rng.normal(size=layer.table.shape).astype("float32")
    layer.table.assign(table)
    found = keras.ops.convert_to_numpy(layer(query, key, value))
    np.testing.assert_allclose(
        found, pixel_by_pixel(query, key, value, table, 3, 4, shift), atol=1e-5
    )


def pixel_by_pixel(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    table: np.ndarray,
    num_heads: int,
    window_size: int,
    shift: int,
) -> np.ndarray:
    """Attention from the definition: who is in whose window, where the edge cuts."""
    batch, height, width, dim = query.shape
    rows, columns = np.divmod(np.arange(height * width), width)
    # Windows begin at `shift` and are cut off at the edges.
    window = np.stack([(rows - shift) // window_size, (columns - shift) // window_size])
    together = (window[:, :, None] == window[:, None, :]).all(axis=0)
    down = (rows[:, None] - rows + window_size - 1).clip(0, 2 * window_size - 2)
    right = (columns[:, None] - columns + window_size - 1).clip(0, 2 * window_size - 2)
    bias = table[down * (2 * window_size - 1) + right].transpose(2, 0, 1)
    q, k, v = (
        x.reshape(batch, height * width, num_heads, -1) for x in (query, key, value)
    )
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(dim // num_heads) + bias
    weights = np.exp(np.where(together, scores, -np.inf))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("bhts,bshd->bthd", weights, v).reshape(query.shape)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="nearest sizes are 28x32 and 32x32"):
        kzoo.build_model("swin_tiny", image_size=(30, 32))
    with pytest.raises(ValueError, match="stage 0 is 97 wide"):
        kzoo.build_model("swin_tiny", hidden_dim=97)
    with pytest.raises(ValueError, match="must be of one length"):
        kzoo.build_model("swin_tiny", num_blocks=(2, 2))


def test_taps_of_query_and_key_are_images() -> None:
    model = kzoo.build_model("swin_tiny", image_size=40, **SMALL)
    taps = [f"stage_1_block_0_{part}" for part in ("query", "key", "value")]
    assert set(taps) < set(kzoo.list_features(model))
    found = kzoo.features(model, taps)(np.zeros((2, 40, 40, 3), "float32"))
    assert all(tuple(found[tap].shape) == (2, 7, 7, 32) for tap in taps)
