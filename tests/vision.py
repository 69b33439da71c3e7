"""What every network of images must do, whatever its family."""

from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

import kzoo
from kzoo.weights import weights_by_path
from kzoo.weights.convert import from_source, to_source


def assert_learns_digits(
    name: str, *, enlarged: int = 1, learning_rate: float = 2e-3, **values: Any
) -> None:
    """Asserts that 20 steps on 8 digits bring the loss under a fifth.

    Args:
        name: of the model.
        enlarged: how often each pixel of the 8x8 stands side by side.
        learning_rate: of Adam.
        **values: hyper-parameters; nothing that drops at random.
    """
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = images[:8].reshape(8, 8, 8, 1).astype("float32") / 8 - 1
    images = images.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    model = kzoo.build_model(
        name, channels=1, num_classes=10, image_size=8 * enlarged, **values
    )
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    steps = model.fit(
        images, labels[:8], batch_size=8, epochs=20, shuffle=False, verbose=0
    )
    first, *_, last = steps.history["loss"]
    assert last < first / 5, f"{name}: from {first:.3g} to {last:.3g}"


def assert_round_trip(name: str, source: str, **values: Any) -> None:
    """Asserts that weights come back from the source's names as the same bits."""
    model = kzoo.build_model(name, **values)
    there = to_source(model, source)
    back = from_source(there, name, source, **model.kzoo.hparams).model
    before, after = weights_by_path(model), weights_by_path(back)
    assert list(before) == list(after)
    for path in before:
        np.testing.assert_array_equal(before[path], after[path], err_msg=path)
