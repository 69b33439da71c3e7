"""Focal loss, against its formula, Keras's own and cross-entropy."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.cli.main import main
from kzoo.losses.task import TaskLoss, cross_entropy, focal
from kzoo.training.compiling import task_loss
from kzoo.training.plan import plan

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4)).astype("float32")
CLASSES = np.array([0, 1, 2, 3, 3, 1])
SOFT = RNG.dirichlet(np.ones(4), 6).astype("float32")


def array(x: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(x))


def closed_form(target: np.ndarray, logits: np.ndarray, gamma: float) -> np.ndarray:
    """The paper's formula, summed over the classes, in float64."""
    x = logits.astype("float64")
    p = np.exp(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))
    return -(target * (1 - p) ** gamma * np.log(p)).sum(-1)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_it_is_the_closed_form(gamma: float) -> None:
    for labels, target in ((CLASSES, np.eye(4)[CLASSES]), (SOFT, SOFT)):
        expected = closed_form(target, LOGITS, gamma)
        loss = array(focal(labels, LOGITS, gamma))
        assert loss.shape == (6,)
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gamma_0_is_cross_entropy(smoothing: float) -> None:
    labels = (CLASSES, SOFT, CLASSES % 2, SOFT[:, 0])
    for given, width in zip(labels, (4, 4, 1, 1), strict=True):
        logits = LOGITS[:, :width]
        expected = array(cross_entropy(given, logits, smoothing))
        found = array(focal(given, logits, 0.0, smoothing))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_keras_categorical_focal_loss(gamma: float, smoothing: float) -> None:
    theirs = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0,
        gamma=gamma,
        from_logits=True,
        label_smoothing=smoothing,
        reduction=None,
    )
    logits = LOGITS / 2  # Keras cuts probabilities off at 1e-7
    found = array(focal(CLASSES, logits, gamma, smoothing))
    one_hot = np.eye(4, dtype="float32")[CLASSES]
    np.testing.assert_allclose(found, array(theirs(one_hot, logits)), rtol=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_one_logit_is_keras_binary_focal_loss(gamma: float) -> None:
    theirs = keras.losses.BinaryFocalCrossentropy(
        gamma=gamma, from_logits=True, reduction=None
    )
    labels, logits = CLASSES % 2, LOGITS[:, :1] / 2
    found = array(focal(labels, logits, gamma))
    expected = array(theirs(labels[:, None].astype("float32"), logits))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_logit_is_two_classes(smoothing: float) -> None:
    logits = LOGITS[:, :1]
    both = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    for labels in (CLASSES % 2, SOFT[:, 1]):
        target = np.stack([1 - labels, labels], axis=-1).astype("float32")
        one = array(focal(labels, logits, 2.0, smoothing))
        two = array(focal(target, both, 2.0, smoothing))
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_extreme_logits_have_finite_losses_and_gradients(gamma: float) -> None:
    for logits in (
        np.array([[80.0, -80.0], [-80.0, 80.0]], "float32"),
        np.array([[80.0], [-80.0]], "float32"),
    ):
        assert np.isfinite(array(focal([0, 0], logits, gamma))).all()
        inputs = keras.Input((1,))
        bias = keras.layers.Dense(logits.size, use_bias=False)
        outputs = keras.layers.Reshape((-1, logits.shape[1]))(bias(inputs))
        model = keras.Model(inputs, outputs)
        bias.set_weights([logits.reshape(1, -1)])
        model.compile(keras.optimizers.SGD(1.0), TaskLoss(focal, gamma=gamma))
        model.fit(np.ones((1, 1)), np.zeros((1, 2), "int32"), verbose=0)
        assert np.isfinite(bias.get_weights()[0]).all()


def test_answers_a_step_keep_their_axes() -> None:
    logits, labels = LOGITS.reshape(2, 3, 4), CLASSES.reshape(2, 3)
    expected = array(focal(CLASSES, LOGITS)).reshape(2, 3)
    np.testing.assert_allclose(array(focal(labels, logits)), expected, rtol=1e-6)


def test_the_recipe_chooses_it() -> None:
    digits = plan("mlp", "digits", settings={"loss": "focal", "focal_gamma": 1.5})
    loss = task_loss(digits.task, digits.recipe)
    assert loss.function is focal
    assert loss.options == {"label_smoothing": 0.0, "gamma": 1.5}
    usual = plan("mlp", "digits")
    assert task_loss(usual.task, usual.recipe).function is cross_entropy


def test_it_learns_beside_mixup_smoothing_and_class_weights(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [80, 30, 10])
    inputs = 3 * np.eye(3, dtype="float32")[labels] + RNG.normal(0, 0.5, (120, 3))
    split = (inputs.astype("float32"), labels)
    run = kzoo.train(
        "mlp",
        dict.fromkeys(("train", "validation", "test"), split),
        out=tmp_path / "run",
        **{"units": (8,), "epochs": 12, "batch_size": 40, "learning_rate": 3e-2},
        **{"loss": "focal", "class_weights": "balanced", "label_smoothing": 0.05},
        mixup=0.2,
    )
    assert run.metrics["test"]["balanced_accuracy"] > 0.9
    assert run.config["recipe"]["loss"] == "focal"


def test_regression_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "mlp", "--dataset", "diabetes", "--out", str(out)]
    assert main([*words, "--set", "loss=focal"]) == 2
    line = "loss='focal' is for classes; diabetes is regression, whose loss is squared_"
    assert capsys.readouterr().err.startswith(f"error: {line}error")
    assert not out.exists()
