"""Wide residual networks: counts by the table of the paper, arithmetic."""

import pytest
from vision import assert_learns_digits

import kzoo


@pytest.mark.parametrize(
    ("name", "classes", "stem", "widening", "blocks"),
    [
        ("wide_resnet_28_10", 10, 16, 10, 4),
        ("wide_resnet_40_2", 100, 16, 2, 6),
        ("wide_resnet_40_1", 100, 16, 1, 6),
        ("wide_resnet_16_2", 100, 16, 2, 2),
    ],
)
def test_count(name: str, classes: int, stem: int, widening: int, blocks: int) -> None:
    total, channels = 9 * 3 * stem, stem
    for width in (16, 32, 64):
        filters = width * widening
        for _ in range(blocks):
            total += 2 * channels + 9 * channels * filters  # norm, convolution
            total += 2 * filters + 9 * filters * filters
            total += channels * filters if channels != filters else 0
            channels = filters
    total += 2 * channels + (channels + 1) * classes
    assert kzoo.describe(name)["trainable_parameters"] == total
    published = {"wide_resnet_28_10": 36_479_194, "wide_resnet_40_2": 2_255_156}
    assert published.get(name, total) == total


def test_a_depth_that_is_not_6n_plus_4_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth=30 .* nearest are 28 and 34"):
        kzoo.build_model("wide_resnet_28_10", depth=30)


def test_learns_digits() -> None:
    assert_learns_digits("wide_resnet_16_2")
