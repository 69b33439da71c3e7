"""Mutual learning against numpy, and its run folder."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.cli.main import main
from kzoo.models.distiller_options import DistillerHParams
from kzoo.models.mutual import Mutual

CLASSES, FEATURES, BATCH = 3, 4, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, FEATURES)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, -1])  # the last one is unknown
WEIGHTS = np.array([1, 2, 0.5, 1, 1, 1], "float32")


def linear(decay: float = 0.0) -> keras.Model:
    inputs = keras.Input((FEATURES,))
    made = keras.layers.Dense(
        CLASSES, use_bias=False, kernel_regularizer=keras.regularizers.L2(decay)
    )
    model = keras.Model(inputs, made(inputs))
    model.set_weights([RNG.normal(size=(FEATURES, CLASSES))])
    return model


def compiled(networks: list[keras.Model], **options: Any) -> keras.Model:
    options = {"method": "mutual", **options}
    made = Mutual(DistillerHParams(**options), networks)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(keras.optimizers.SGD(0.5), loss=loss, metrics=["accuracy"])
    return made


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def by_hand(
    kernels: list[np.ndarray], temperature: float, weight: float
) -> tuple[float, list[np.ndarray]]:
    """The sum of the losses and each kernel's gradient, in float64 (Zhang, eq. 7)."""
    x, w = X.astype("float64"), WEIGHTS.astype("float64")
    z = [x @ kernel for kernel in kernels]
    known = w * (LABELS >= 0)
    onehot = np.eye(CLASSES)[np.maximum(LABELS, 0)]
    loss, gradients = 0.0, []
    for k, own in enumerate(z):
        p = softmax(own)
        loss -= (known * (onehot * np.log(p)).sum(1)).mean()
        gradient = known[:, None] * (p - onehot)
        hot = softmax(own / temperature)
        for other in (softmax(one / temperature) for i, one in enumerate(z) if i != k):
            share = weight / (len(z) - 1)
            gap = (other * np.log(other / hot)).sum(1)
            loss += share * temperature**2 * (w * gap).mean()
            gradient += share * temperature * w[:, None] * (hot - other)
        gradients.append(x.T @ gradient / BATCH)
    return loss, gradients


@pytest.mark.contract
@pytest.mark.parametrize(
    ("count", "temperature", "weight"), [(2, 1.0, 1.0), (3, 2.0, 0.5)]
)
def test_a_step_is_the_one_by_hand(
    count: int, temperature: float, weight: float
) -> None:
    networks = [linear() for _ in range(count)]
    kernels = [model.get_weights()[0].astype("float64") for model in networks]
    loss, gradients = by_hand(kernels, temperature, weight)
    model = compiled(networks, temperature=temperature, weights=(weight,))
    found = model.train_on_batch(X, LABELS, WEIGHTS, return_dict=True)
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-5)
    for network, kernel, gradient in zip(networks, kernels, gradients, strict=True):
        after = network.get_weights()[0]
        np.testing.assert_allclose(after, kernel - 0.5 * gradient, atol=1e-5)


def test_regularisers_count_once_and_scores_are_the_students() -> None:
    networks = [linear(decay=0.1), linear(decay=0.1)]
    kernels = [model.get_weights()[0].astype("float64") for model in networks]
    loss, _ = by_hand(kernels, 1.0, 1.0)
    loss += 0.1 * sum(np.square(kernel).sum() for kernel in kernels)
    model = compiled(networks)
    np.testing.assert_array_equal(
        model.predict(X, verbose=0), networks[0].predict(X, verbose=0)
    )
    scores = model.evaluate(X[:5], LABELS[:5], verbose=0, return_dict=True)
    right = (X[:5] @ kernels[0]).argmax(1) == LABELS[:5]
    assert scores["accuracy"] == pytest.approx(right.mean())
    assert set(scores) == {"loss", "accuracy"}
    found = model.train_on_batch(X, LABELS, WEIGHTS, return_dict=True)
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-5)
    assert set(found) == {"loss", "accuracy", "mutual_loss"}


SHORT = {"epochs": 1, "units": (8,), "dropout_rate": 0.0, "batch_size": 256}


def test_a_run_of_the_student_that_goes_on(tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        remembered = False

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if batch == 3:
                raise KeyboardInterrupt

    def distilled(name: str, **changes: Any) -> Any:
        keras.utils.clear_session()
        options = {"method": "mutual", "snapshot_every": "1", **SHORT, **changes}
        return kzoo.distill(
            ["self", "mlp"], "mlp", "digits", out=tmp_path / name, **options
        )

    run = distilled("whole")
    with pytest.raises(KeyboardInterrupt):
        distilled("stopped", callbacks=[Stop()])
    again = distilled("stopped")
    files = [one.folder / "model" / "model.safetensors" for one in (run, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "mutual_loss" in run.history[0]
    assert kzoo.evaluate(run)["accuracy"] == run.metrics["test"]["accuracy"]
    facts = run.config["distillation"]
    units = [one["model"]["hparams"]["units"] for one in facts["peers"]]
    assert units == [
        [8],
        [256, 256],
    ]  # the student's kind; what its recipe makes of mlp
    assert facts["teachers"] == []
    assert not (run.folder / "compression.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--option", "generations=2"], "for networks that learn from labels, once"),
        (["--method", "mutual+kd"], "mutual teaches by peers and goes alone"),
        (["--dataset", "diabetes"], "mutual compares probabilities of classes"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())
    given = ["distill", "--teacher", "mlp", "--student", "mlp", "--dataset", "digits"]
    given += ["--method", "mutual", "--out", str(tmp_path / "run"), *words]
    assert main(given) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_networks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="has no other to learn from"):
        compiled([linear()])
    inputs = keras.Input((FEATURES,))
    other = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="tells 2 classes, the student 3"):
        compiled([linear(), other])
    with pytest.raises(ValueError, match=r"kzoo\.distill trains the peers together"):
        kzoo.build_model(
            "distiller", teacher=linear(), student=linear(), method="mutual"
        )
