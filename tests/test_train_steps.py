"""Training on a label a step, and on batches that differ in length."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.datasets import Dataset, Spec
from kzoo.datasets.batches import Batch
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.supervised import supervised
from kzoo.preprocessing import Preprocessing
from kzoo.training import Run
from kzoo.training.compiling import compiled
from kzoo.training.feeding import TrainingSequence
from kzoo.training.plan import plan

pytestmark = pytest.mark.contract

LENGTHS = (4, 8)


def cut(
    data: Dataset, raw: Batch, rng: np.random.Generator, training: bool
) -> dict[str, Any]:
    """Tokens without the steps that are padding in the whole batch, at few lengths."""
    longest = (raw["inputs"] > 0).sum(1).max()
    steps = next(length for length in LENGTHS if length >= longest)
    return supervised(data, {**raw, "inputs": raw["inputs"][:, :steps]}, rng, training)


def sequences() -> Dataset:
    """Is the token even? A few are long."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (64, 8)).astype("int32")
    lengths = np.where(np.arange(64) % 16 == 5, 7, rng.integers(1, 5, 64))
    tokens[np.arange(8) >= lengths[:, None]] = 0
    labels = np.where(tokens > 0, tokens % 2, -1)
    splits = dict.fromkeys(("train", "validation", "test"), Split(tokens, labels))
    fixed = {"vocab_size": 9, "num_classes": 2, "per_step": True}
    spec = Spec(
        "sequence-labeling", "tokens", fixed, ("odd", "even"), fingerprint(splits)
    )
    preprocessing = Preprocessing(lengths=LENGTHS, classes=("odd", "even"))
    return Dataset("parity", {}, splits, spec, preprocessing, transform=cut)


class Logs(keras.callbacks.Callback):
    """The running metrics after each batch."""

    remembered = False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rows.append({k: float(v) for k, v in logs.items()})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Logs]]:
    logs = Logs()
    yield (
        kzoo.train(
            "simple_rnn",
            sequences(),
            out=tmp_path_factory.mktemp("steps") / "run",
            callbacks=[logs],
            **SETTINGS,
        ),
        logs,
    )


SETTINGS = {
    "units": 8,
    "num_layers": 1,
    "embedding_dim": 8,
    "dropout_rate": 0.0,
    "batch_size": 4,
    "epochs": 4,
    "learning_rate": 0.02,
    "seed": 2,
}


def test_first_batches_are_short_and_later_ones_long() -> None:
    """What Keras's own adapter fails on: it takes the shapes of the first two."""
    batches = sequences().train_batches(4, seed=2)
    steps = [batches[i]["inputs"].shape[1] for i in range(16)]
    assert steps[:2] == [4, 4] and 8 in steps


def test_steps_are_learnt_and_scored(trained: tuple[Run, Logs]) -> None:
    run, _ = trained
    assert run.metrics["test"]["accuracy"] > 0.95
    assert "classes" not in run.metrics["test"]  # scores by class are of examples
    data, model = sequences(), run.load()
    split = data.splits["test"]
    logits = np.asarray(model.predict(split.inputs, verbose=0), "float64")
    known = split.labels >= 0
    right = (logits.argmax(-1) == split.labels)[known]
    assert run.metrics["test"]["accuracy"] == pytest.approx(right.mean())
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    picked = np.take_along_axis(log_p, np.maximum(split.labels, 0)[..., None], -1)
    expected = -picked[..., 0][known].mean()
    assert run.metrics["test"]["loss"] == pytest.approx(expected, rel=1e-4)
    assert kzoo.evaluate(run, data) == pytest.approx(run.metrics["test"], rel=1e-6)


def test_loss_and_accuracy_are_means_over_the_steps_that_count(
    trained: tuple[Run, Logs],
) -> None:
    """Above all where the layers hand a mask on to the outputs, as these do."""
    _, logs = trained
    planned = plan("simple_rnn", sequences(), settings=SETTINGS)
    model = compiled(planned)
    inputs, labels, weighted = TrainingSequence(planned.dataset, planned.recipe)[9]
    logits = np.asarray(model.predict_on_batch(inputs), "float64")
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    known = weighted > 0
    assert 0.2 < known.mean() < 0.8
    losses = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0][known]
    right = (logits.argmax(-1) == labels)[known]
    found = model.test_on_batch(inputs, labels, weighted, return_dict=True)
    assert float(found["loss"]) == pytest.approx(losses.mean(), rel=1e-5)
    assert float(found["accuracy"]) == pytest.approx(right.mean(), rel=1e-5)
    assert all(row["finite"] == 1 for row in logs.rows)
    assert logs.rows[-1]["accuracy"] > 0.9  # padding would hold it below one half


def test_a_masked_loss_has_the_gradient_of_that_mean() -> None:
    model = compiled(plan("simple_rnn", sequences(), settings=SETTINGS))
    model.compile(keras.optimizers.SGD(1.0), model.loss)
    data = sequences()
    batch = data.train_batches(4, seed=2)[9]
    before = model.get_weights()[-1]
    logits = np.asarray(model.predict_on_batch(batch["inputs"]), "float64")
    p = np.exp(logits - np.logaddexp.reduce(logits, -1, keepdims=True))
    known = batch["weights"] > 0
    expected = (p - np.eye(2)[batch["labels"]])[known].mean(0)  # of the last bias
    model.train_on_batch(batch["inputs"], batch["labels"], batch["weights"])
    np.testing.assert_allclose(before - model.get_weights()[-1], expected, atol=1e-5)
