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


@pytest.mark.parametrize("steps", [1, 10, 125, 799, 800, 100_000])
def test_first_values_are_forgotten_by_the_end(steps: int) -> None:
    model = kzoo.build_model("cnn_tiny", image_size=16, channels=1)
    usual = momenta(model)
    assert set(usual) == {0.99}
    shorten_memory(model, steps)
    (momentum,) = set(momenta(model))
    if steps >= 800:
        assert momentum == 0.99
    if steps >= 10:
        assert momentum**steps < 1.1e-3  # of the zeros and ones they began with
    assert 0.5 <= momentum <= 0.99


def test_what_is_quick_already_stays() -> None:
    model = kzoo.build_model("resnet20", image_size=32)
    before = momenta(model)
    shorten_memory(model, 125)
    assert momenta(model) == before == [0.9] * len(before)


def test_every_training_has_it() -> None:
    rng = np.random.default_rng(0)
    split = (rng.random((100, 8, 8, 1), "float32"), np.arange(100) % 2)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    planned = plan("cnn_tiny", splits, settings={"epochs": 10, "batch_size": 50})
    assert set(momenta(compiled(planned))) == {1 - 8 / 20}
