"""LeNet-5: the counts of the paper's section II.B, layer by layer."""

import math

from vision import assert_learns_digits

import kzoo

# C1 6 (25 + 1); C3 with all connections 16 (6 25 + 1); C5 120 (16 25 + 1);
# F6 84 (120 + 1); 10 classes of 84 + 1.
LAYERS = {
    "stage_0_block_0_conv": 156,
    "stage_1_block_0_conv": 2_416,
    "stage_2_block_0_conv": 48_120,
    "pooled": 10_164,
    "logits": 850,
}


def test_count_of_each_layer() -> None:
    model = kzoo.build_model("lenet5")
    counts = {layer.name: layer.count_params() for layer in model.layers}
    assert {name: count for name, count in counts.items() if count} == LAYERS
    assert kzoo.describe("lenet5")["trainable_parameters"] == sum(LAYERS.values())


def test_weights_start_within_the_papers_bounds() -> None:
    model = kzoo.build_model("lenet5")
    for name, fan_in in {"stage_1_block_0_conv": 150, "pooled": 120}.items():
        greatest = float(abs(model.get_layer(name).get_weights()[0]).max())
        bound = 2.4 / fan_in
        assert 0.95 * bound < greatest <= bound
        assert math.isclose(greatest, bound, rel_tol=0.05)


def test_learns_digits() -> None:
    assert_learns_digits("lenet5", enlarged=4, learning_rate=1e-2)
