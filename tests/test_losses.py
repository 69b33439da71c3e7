"""The tasks' losses against closed forms in float64, and their gradients."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.losses.task import TaskLoss, cross_entropy, squared_error

pytestmark = pytest.mark.contract

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (6, 4)).astype("float32")
CLASSES = np.array([0, 1, 2, 3, 3, 1])
SOFT = RNG.dirichlet(np.ones(4), 6).astype("float32")


def array(x: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(x))


def closed_form(target: np.ndarray, logits: np.ndarray, smoothing: float) -> Any:
    """-sum t log softmax(x) for targets (examples, classes), in float64."""
    x = logits.astype("float64")
    target = target.astype("float64") * (1 - smoothing) + smoothing / x.shape[-1]
    log_p = x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    return -(target * log_p).sum(-1)


def binary_closed_form(labels: np.ndarray, x: np.ndarray, smoothing: float) -> Any:
    p = 1 / (1 + np.exp(-x[:, 0].astype("float64")))
    t = labels * (1 - smoothing) + smoothing / 2
    return -(t * np.log(p) + (1 - t) * np.log1p(-p))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_the_closed_form(smoothing: float) -> None:
    for labels, target in ((CLASSES, np.eye(4)[CLASSES]), (SOFT, SOFT)):
        found = array(cross_entropy(labels, LOGITS, smoothing))
        expected = closed_form(target, LOGITS, smoothing)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_keras(smoothing: float) -> None:
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=smoothing, reduction=None
    )
    found = array(cross_entropy(CLASSES, LOGITS, smoothing))
    one_hot = np.eye(4, dtype="float32")[CLASSES]
    np.testing.assert_allclose(found, array(theirs(one_hot, LOGITS)), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_one_logit_is_the_log_odds_of_class_1(
    smoothing: float, shape: tuple[int, ...]
) -> None:
    labels = np.array([0, 1, 1, 0, 1, 0])
    found = array(cross_entropy(labels.reshape(shape), LOGITS[:, :1], smoothing))
    assert found.shape == (6,)
    expected = binary_closed_form(labels, LOGITS[:, :1], smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_answers_a_step_keep_their_axes() -> None:
    logits = RNG.normal(size=(2, 3, 5)).astype("float32")
    labels = RNG.integers(0, 5, (2, 3))
    found = array(cross_entropy(labels, logits))
    assert found.shape == (2, 3)
    expected = closed_form(np.eye(5)[labels], logits, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loss_is_float32_whatever_the_logits(dtype: str) -> None:
    for function, outputs in ((cross_entropy, LOGITS), (squared_error, LOGITS[:, :1])):
        found = function(CLASSES, ops.cast(outputs, dtype))
        assert keras.backend.standardize_dtype(found.dtype) == "float32"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_extreme_logits_stay_finite(smoothing: float) -> None:
    logits = np.array([[1e3, -1e3], [-1e3, 1e3]], "float32")
    found = array(cross_entropy([0, 0], logits, smoothing))
    share = smoothing / 2
    np.testing.assert_allclose(found, [2e3 * share, 2e3 * (1 - share)], atol=1e-3)
    one = array(cross_entropy([1, 0], logits[:, :1], smoothing))
    np.testing.assert_allclose(one, [1e3 * share, 1e3 * share], atol=1e-3)


def test_squared_error_pairs_each_output_with_its_target() -> None:
    targets = np.array([1.0, 2.0, 4.0], "float32")
    outputs = np.array([[1.5], [0.0], [4.0]], "float32")
    for shape in ((3,), (3, 1)):  # (3, 1) against (3,) would give (3, 3)
        found = array(squared_error(targets.reshape(shape), outputs))
        np.testing.assert_allclose(found, [0.25, 4.0, 0.0])


@pytest.mark.parametrize(
    ("function", "labels", "outputs"),
    [
        (cross_entropy, CLASSES, LOGITS),
        (cross_entropy, SOFT, LOGITS),
        (cross_entropy, CLASSES % 2, LOGITS[:, :1]),
        (squared_error, CLASSES.astype("float32"), LOGITS[:, :1]),
    ],
    ids=["classes", "soft", "one_logit", "squared"],
)
def test_gradient_is_that_of_finite_differences(
    function: Callable[..., Any], labels: np.ndarray, outputs: np.ndarray
) -> None:
    """A step of SGD at rate 1 on the outputs themselves moves them by the gradient."""
    width = outputs.shape[1]
    inputs = keras.Input((1,))
    bias = keras.layers.Dense(len(outputs) * width, use_bias=False)
    model = keras.Model(inputs, keras.layers.Reshape((-1, width))(bias(inputs)))
    bias.set_weights([outputs.reshape(1, -1)])
    model.compile(keras.optimizers.SGD(1.0), TaskLoss(function))
    model.fit(np.ones((1, 1)), labels[None], verbose=0)
    gradient = outputs.reshape(-1) - bias.get_weights()[0][0]

    def mean(flat: np.ndarray) -> float:
        return float(np.mean(exact(function, labels, flat.reshape(outputs.shape))))

    flat = outputs.reshape(-1).astype("float64")
    ends = np.eye(flat.size) * 1e-5
    expected = [(mean(flat + e) - mean(flat - e)) / 2e-5 for e in ends]
    np.testing.assert_allclose(gradient, expected, atol=2e-6)


def exact(function: Callable[..., Any], labels: np.ndarray, x: np.ndarray) -> Any:
    """The loss in float64."""
    if function is squared_error:
        return (labels - x[:, 0]) ** 2
    if x.shape[1] == 1:
        return binary_closed_form(labels, x, 0.0)
    target = labels if labels.ndim == 2 else np.eye(x.shape[1])[labels]
    return closed_form(target, x, 0.0)


def test_weights_leave_out_what_fills_a_batch() -> None:
    loss = TaskLoss(cross_entropy)
    weights = np.array([1, 1, 1, 0, 0, 0], "float32")
    found = array(loss(CLASSES, LOGITS, sample_weight=weights))
    # Keras divides by the batch, not by the weights.
    expected = closed_form(np.eye(4)[CLASSES], LOGITS, 0.0)[:3].sum() / 6
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_targets_keep_their_shape_under_fit() -> None:
    """Keras's own wrapper gives labels (batch,) a last axis; TaskLoss must not."""
    targets = np.array([1.0, -1.0, 3.0, 0.5], "float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", TaskLoss(squared_error))
    x = np.arange(4, dtype="float32")[:, None]
    outputs = array(model(x))[:, 0]
    found = model.evaluate(x, targets, verbose=0)
    np.testing.assert_allclose(found, np.mean((targets - outputs) ** 2), rtol=1e-5)
