"""masked_image: what is hidden, what it costs, and that nothing of it leaks."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.datasets import Dataset
from kzoo.datasets.views import MaskedPatches
from kzoo.training.plan import plan
from kzoo.weights import weights_by_path

SIZES = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "mlp_dim": 8}


@pytest.fixture(scope="module")
def data() -> Dataset:
    digits = kzoo.load_dataset("digits")
    return dataclasses.replace(digits, transform=MaskedPatches(2, 0.75))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """With a class token, and a convolution that crosses the edges of patches."""
    keras.utils.set_random_seed(0)
    encoder = kzoo.build_model("vit_lite_2", num_classes=0, pooling="first", **SIZES)
    return kzoo.build_model(
        "masked_image", encoder=encoder, decoder_dim=8, decoder_heads=2
    )


def cut(images: np.ndarray) -> np.ndarray:
    """(batch, 8, 8, 1) -> (batch, 16, 4), patch by patch."""
    return np.stack(
        [
            images[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(len(images), -1)
            for i in range(4)
            for j in range(4)
        ],
        axis=1,
    )


def test_so_many_patches_are_hidden(data: Dataset) -> None:
    inputs = data.train_batches(1000, seed=0)[0]["inputs"]
    visible, masked = inputs["visible"], inputs["masked"]
    assert visible.shape == (1000, 4) and masked.shape == (1000, 12)
    both = np.sort(np.concatenate([visible, masked], axis=1), axis=1)
    np.testing.assert_array_equal(both, np.tile(np.arange(16), (1000, 1)))
    hidden = np.zeros((1000, 16), bool)
    np.put_along_axis(hidden, masked, True, axis=1)
    # Each is hidden as often: 750 of 1000, within 4 standard deviations.
    assert (np.abs(hidden.mean(axis=0) - 0.75) < 0.055).all()
    shown, clean = cut(inputs["inputs"]), cut(inputs["targets"])
    assert not shown[hidden].any()
    np.testing.assert_array_equal(shown[~hidden], clean[~hidden])
    again = data.train_batches(1000, seed=0)[0]["inputs"]
    other = data.train_batches(1000, seed=1)[0]["inputs"]
    np.testing.assert_array_equal(again["masked"], masked)
    assert (other["masked"] != masked).any()


@pytest.mark.contract
def test_costs_the_error_of_the_hidden_patches_alone(
    data: Dataset, model: keras.Model
) -> None:
    """By hand, in float64, from what the model predicts."""
    inputs = data.train_batches(6, seed=0)[0]["inputs"]
    predicted = keras.ops.convert_to_numpy(model.predicted(inputs)).astype("float64")
    patches = cut(inputs["targets"].astype("float64"))
    mean, variance = patches.mean(axis=-1), patches.var(axis=-1)
    wanted = (patches - mean[..., None]) / np.sqrt(variance + 1e-6)[..., None]
    error = ((predicted - wanted) ** 2).mean(axis=-1)
    want = [error[i, inputs["masked"][i]].mean() for i in range(6)]
    np.testing.assert_allclose(model.predict_on_batch(inputs), want, rtol=1e-5)
    # Pictures hold the shown patches as they are.
    made = cut(keras.ops.convert_to_numpy(model.reconstructed(inputs)))
    for i in range(6):
        seen = inputs["visible"][i]
        np.testing.assert_allclose(made[i, seen], patches[i, seen], atol=1e-6)


@pytest.mark.contract
def test_nothing_of_a_hidden_patch_leaks(data: Dataset, model: keras.Model) -> None:
    images = data.splits["train"].rows(np.arange(4))

    def predicted(images: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        raw = {"inputs": images, "weights": np.ones(4, "float32"), "labels": None}
        rng = np.random.default_rng(0)
        inputs = data.transform(data, raw, rng, True)["inputs"]
        return keras.ops.convert_to_numpy(model.predicted(inputs)), inputs

    one, inputs = predicted(images)

    def changed(kind: str) -> np.ndarray:
        """Another pixel in one patch of this kind."""
        spoilt = images.copy()
        for image, number in zip(spoilt, inputs[kind][:, 0], strict=True):
            row, column = 2 * (number // 4), 2 * (number % 4)
            image[row, column] = 16 - image[row, column]
        assert (spoilt != images).any()
        return spoilt

    np.testing.assert_array_equal(predicted(changed("masked"))[0], one)
    assert (predicted(changed("visible"))[0] != one).any()


def test_command_leaves_an_encoder_to_fine_tune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["--dataset", "digits", "--epochs", "1", "--batch-size", "128", "--json"]
    sizes = [word for k, v in SIZES.items() for word in ("--set", f"{k}={v}")]
    pre = ["pretrain", "vit_lite_2", "--objective", "masked_image", "--out", str(out)]
    assert main([*pre, *words, *sizes, "--option", "decoder_dim=8"]) == 0
    assert json.loads(capsys.readouterr().out)["best_epoch"] == 1
    assert kzoo.load(out).output_shape == (None, 8)
    assert (out / "plots" / "reconstructions.png").stat().st_size > 5_000
    # What the encoder learned is all that another run takes, but for its head.
    known = weights_by_path(kzoo.load(out))
    planned = plan(out, "digits", settings={"labels_per_class": 2})
    built = weights_by_path(planned.build())
    assert built.keys() - known.keys() == {"logits/bias", "logits/kernel"}
    assert all((built[path] == array).all() for path, array in known.items())


@pytest.mark.parametrize(
    ("name", "dataset", "settings", "text"),
    [
        ("cnn", "digits", {}, "one of the families vit, deit"),
        ("vit_lite_2", "diabetes", {}, "is for images; diabetes has vectors"),
        ("vit_lite_2", "digits", {"patch_size": 8}, "makes one patch of an image"),
    ],
)
def test_mistakes(
    name: str, dataset: str, settings: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        kzoo.pretrain(name, dataset, "masked_image", tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
