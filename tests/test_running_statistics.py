"""Running statistics of batch normalisation that a short run can reach."""

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training.compiling import compiled, shorten_memory
from kzoo.training.plan import plan


def momenta(model: keras.Model) -> list[float]:
    layers = model._flatten_layers()
    kind = keras.layers.BatchNormalization
    return [layer.momentum for layer in layers if isinstance(layer, kind)]


@pytest.mark.parametrize("steps", [1, 4, 19, 20, 5000])
def test_they_reach_back_five_epochs(steps: int) -> None:
    model = kzoo.build_model("cnn_tiny", image_size=16, channels=1)
    assert set(momenta(model)) == {0.99}
    shorten_memory(model, steps)
    (momentum,) = set(momenta(model))
    if steps >= 20:
        assert momentum == 0.99
    else:
        # The mean age of what an exponential average holds is 1 / (1 - momentum).
        assert 1 / (1 - momentum) == pytest.approx(5 * steps)
    # Of the zeros and ones that they begin with, 25 epochs leave under 1 %.
    assert momentum ** (25 * steps) < 0.01


def test_what_is_quick_already_stays() -> None:
    model = kzoo.build_model("resnet20", image_size=32)
    before = momenta(model)
    shorten_memory(model, 4)
    assert momenta(model) == before == [0.9] * len(before)


def test_every_training_has_it() -> None:
    rng = np.random.default_rng(0)
    split = (rng.random((100, 8, 8, 1), "float32"), np.arange(100) % 2)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    planned = plan("cnn_tiny", splits, settings={"epochs": 10, "batch_size": 50})
    assert set(momenta(compiled(planned))) == {1 - 1 / 10}
