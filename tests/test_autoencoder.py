"""Autoencoders: what they cost, what they make up, the pictures that they leave."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.losses.variational import kl_to_standard_normal, negative_log_normal
from kzoo.training import Run
from kzoo.training.plan import plan

SIZES = {"image_size": 8, "units": (4, 8), "latent_dim": 3, "decoder_units": 4}
WORDS = ["--set", "units=4,8", "--set", "latent_dim=3", "--set", "decoder_units=4"]


def numpy_of(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.contract
def test_divergence_is_the_closed_form() -> None:
    """Against a sum over a fine grid, one dimension at a time."""
    mean = np.array([[0.5, -1.0], [0.0, 0.0]], "float32")
    log_variance = np.array([[-1.0, 0.7], [0.0, 0.0]], "float32")
    found = numpy_of(kl_to_standard_normal(mean, log_variance))
    x, step = np.linspace(-15, 15, 200_001, retstep=True)

    def log_normal(mean: float, variance: float) -> np.ndarray:
        return -((x - mean) ** 2) / (2 * variance) - math.log(
            math.sqrt(2 * math.pi * variance)
        )

    want = []
    for means, logs in zip(mean.astype("float64"), log_variance, strict=True):
        total = 0.0
        for m, v in zip(means, np.exp(logs.astype("float64")), strict=True):
            p = log_normal(m, v)
            total += (np.exp(p) * (p - log_normal(0, 1))).sum() * step
        want.append(total)
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    targets, around = np.array([[1.0, 2.0]], "float32"), np.array([[0.5, 2.0]])
    likely = numpy_of(negative_log_normal(targets, around.astype("float32"), 0.5))
    want = 0.5 + 2 * math.log(0.5 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(likely, [want], rtol=1e-6)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return kzoo.build_model("variational_autoencoder", deviation=0.5, **SIZES)


@pytest.mark.contract
def test_costs_the_evidence_lower_bound(model: keras.Model) -> None:
    trainer = kzoo.build_model("autoencoding", autoencoder=model)
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype("float32")
    taps = keras.Model(
        model.input, [model.get_layer(n).output for n in ("pooled", "log_variance")]
    )
    mean, logs = (numpy_of(x).astype("float64") for x in taps(images))
    made = numpy_of(model(images)).astype("float64")
    terms = (images - made) ** 2 / (2 * 0.25) + math.log(0.5 * math.sqrt(2 * math.pi))
    divergence = (mean**2 + np.exp(logs) - 1 - logs).sum(axis=-1) / 2
    want = terms.sum(axis=(1, 2, 3)) + divergence
    found = trainer.predict_on_batch({"inputs": images, "targets": images})
    np.testing.assert_allclose(found, want, rtol=1e-5)
    plain = kzoo.build_model("autoencoder", **SIZES)
    trainer = kzoo.build_model("autoencoding", autoencoder=plain)
    found = trainer.predict_on_batch({"inputs": images * 0.5, "targets": images})
    want = ((numpy_of(plain(images * 0.5)) - images) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found, want, rtol=1e-5)


@pytest.mark.contract
def test_codes_are_drawn_in_training_alone(model: keras.Model) -> None:
    latent = model.get_layer("latent")
    mean = np.tile(np.array([[1.0, -2.0]], "float32"), (20_000, 1))
    logs = np.tile(np.log(np.array([[0.25, 4.0]], "float32")), (20_000, 1))
    np.testing.assert_array_equal(numpy_of(latent(mean, logs)), mean)
    drawn = numpy_of(latent(mean, logs, training=True))
    # 4 standard errors of a mean and of a deviation
    assert (np.abs(drawn.mean(axis=0) - mean[0]) < 4 * np.array([0.5, 2]) / 141).all()
    assert (np.abs(drawn.std(axis=0) / [0.5, 2] - 1) < 4 / 200).all()
    assert (drawn != numpy_of(latent(mean, logs, training=True))).any()


@pytest.mark.contract
def test_samples_hang_on_their_seed(model: keras.Model) -> None:
    one, two, other = (numpy_of(model.sample(5, seed)) for seed in (0, 0, 1))
    assert one.shape == (5, 8, 8, 1)
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_command_leaves_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "variational_autoencoder", "--dataset", "digits", "--json"]
    words += ["--epochs", "2", "--batch-size", "256", "--out", str(out), *WORDS]
    assert main(words) == 0
    scores = json.loads(capsys.readouterr().out)
    run = Run(out)
    assert run.config["task"] == "reconstruction"
    assert set(scores["test"]) == {"loss"}
    assert run.history[1]["val_loss"] < run.history[0]["val_loss"]
    names = {path.name for path in (out / "plots").iterdir()}
    assert names == {"curves.png", "reconstructions.png", "samples.png"}
    assert run.load().kzoo.name == "variational_autoencoder"
    again = kzoo.evaluate(run)
    assert again["loss"] == pytest.approx(scores["test"]["loss"], rel=1e-5)
    with pytest.raises(ValueError, match="gives no classes but images"):
        kzoo.predict(run, np.zeros((1, 8, 8, 1), "uint8"))


def test_denoising_sees_spoilt_examples_and_no_labels() -> None:
    found = plan("denoising_autoencoder", "digits")
    inputs = found.dataset.train_batches(64, seed=0)[0]["inputs"]
    gone = inputs["inputs"] == 0
    assert abs(gone.mean() - 0.25) < 0.05
    left = (inputs["inputs"] - inputs["targets"])[~gone]
    assert abs(left.std() - 0.3) < 0.03
    assert not found.dataset.train_batches(64, seed=0)[0]["labels"].any()
    clean = plan("autoencoder", "digits").dataset.train_batches(8, 0)[0]["inputs"]
    np.testing.assert_array_equal(clean["inputs"], clean["targets"])
    with pytest.raises(ValueError, match="autoencoder does not serve names"):
        plan("autoencoder", "names")
    vectors = plan("autoencoder", "diabetes")
    assert vectors.build().output_shape == (None, 10)
