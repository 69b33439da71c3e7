"""``image_size``: where it was asked for, the model takes that size and no other."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo import registry
from kzoo.macs import macs, shapes_only
from kzoo.models.family import Family, ImageHParams, PatchHParams
from kzoo.training.evaluate import run_data

CONVOLUTIONAL = [
    family
    for family in registry.FAMILIES
    if isinstance(family.smallest, ImageHParams)
    and not isinstance(family.smallest, PatchHParams)
    and family.name != "mlp"
]


def built(family: Family, **values: Any) -> keras.Model:
    name = next(iter(family.variants))
    return kzoo.build_model(name, **{**family.smallest.to_json(), **values})


@pytest.mark.contract
@pytest.mark.parametrize("family", CONVOLUTIONAL, ids=lambda family: family.name)
def test_size_pins_the_input_and_nothing_else(family: Family) -> None:
    with shapes_only():
        size = (96, 112)
        channels = family.smallest.channels  # type: ignore[attr-defined]
        fixed, free = built(family, image_size=size), built(family, image_size=None)
        assert fixed.input_shape == (None, *size, channels)
        assert free.input_shape == (None, None, None, channels)
        assert fixed.output_shape == free.output_shape
        for attribute in ("weights", "layers"):
            names, others = (
                [getattr(one, "path", one.name) for one in getattr(model, attribute)]
                for model in (fixed, free)
            )
            assert names == others
    assert fixed.kzoo.hparams == {**free.kzoo.hparams, "image_size": list(size)}


def test_published_size_leaves_the_input_open() -> None:
    with shapes_only():
        published = kzoo.build_model("resnet20")
        asked = kzoo.build_model("resnet20", image_size=32)
        any_size = kzoo.build_model("resnet20", image_size=None)
        assert published.input_shape == any_size.input_shape == (None, None, None, 3)
        assert asked.input_shape == (None, 32, 32, 3)
        assert published.kzoo == asked.kzoo
        assert macs(published) == macs(asked)


def test_same_weights_and_answers_at_that_size(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    answers = []
    for size in (16, None):
        keras.utils.set_random_seed(0)
        model = kzoo.build_model("cnn_tiny", image_size=size)
        answers.append(model.predict(images, verbose=0))
        folder = kzoo.save(model, tmp_path / str(size))
        assert kzoo.load(folder).input_shape == model.input_shape
        assert kzoo.replace_head(model, 3).input_shape == model.input_shape
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)
    fixed = kzoo.load(tmp_path / "16")
    with pytest.raises(ValueError, match=r"shape=\(None, 16, 16, 3\)"):
        fixed(images[:, :8, :8])


def test_a_run_takes_images_of_its_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def clouds(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(60) % 3
        noise = rng.normal(size=(60, size, size, 1))
        return (noise + labels[:, None, None, None]).astype("float32"), labels

    run = kzoo.train("cnn_tiny", clouds(8), out=tmp_path / "run", epochs=1)
    assert run.load().input_shape == (None, 8, 8, 1)
    assert len(run_data(run, clouds(8)).splits["test"]) > 0
    with pytest.raises(ValueError, match="trained with image_size=8, the data have 12"):
        kzoo.evaluate(run, clouds(12))
    for images, shown in (
        (clouds(12)[0], "of 12 x 12 x 1; the model takes 8 x 8 x 1"),
        (clouds(8)[0][..., 0], r"\(60, 8, 8\) are one example, or lack an axis"),
        (clouds(8)[0].repeat(3, axis=-1), "3 channels, but the model was trained"),
    ):
        with pytest.raises(ValueError, match=shown):
            kzoo.predict(run, images)
    assert len(kzoo.predict(run, clouds(8)[0])) == 60
