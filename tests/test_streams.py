"""Training on streams: generators, functions that make them, endless loaders."""

import csv
import logging
from typing import Any

import keras
import numpy as np
import pytest

import kzoo
from kzoo.datasets import Dataset
from kzoo.datasets.few_labels import few_labels

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
Y = X[:, :3].argmax(1)
HELD_OUT = {"validation": (X, Y), "test": (X, Y)}
SMALL = {"units": (8,), "batch_size": 16, "snapshot_every": "1"}


def batches(labels: Any = Y) -> Any:
    for i in range(0, 60, 7):
        yield X[i : i + 7], labels[i : i + 7]


def load(stream: Any, **options: Any) -> Dataset:
    return kzoo.load_dataset({"train": stream, **HELD_OUT}, steps=4, **options)


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, i: int) -> Any:
        rows = np.arange(i * 7, i * 7 + 7) % 60
        return X[rows], Y[rows]


def endless_torch() -> Any:
    torch = pytest.importorskip("torch")

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self) -> Any:
            return zip(X, Y, strict=True)

    return torch.utils.data.DataLoader(Stream(), batch_size=7)


def endless_tensorflow() -> Any:
    if keras.config.backend() != "tensorflow":
        pytest.skip("tf.data needs TensorFlow")
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(7).repeat()


@pytest.mark.parametrize(
    "make",
    [lambda: batches, lambda: batches(), Endless, endless_torch, endless_tensorflow],
    ids=["function", "generator", "PyDataset", "DataLoader", "tf.data"],
)
def test_batches_are_the_streams_in_its_order(make: Any) -> None:
    stream = make()
    loaded = load(stream)
    fed = loaded.train_batches(16, seed=0)
    passes = 1 if hasattr(stream, "__next__") else 3
    # Whole batches of 7, and in tf.data of 4 at the end of a pass, up to 1,000.
    count = 1001 if isinstance(stream, Endless) else 60
    count = 1002 if hasattr(stream, "cardinality") else count
    peeked = X[np.arange(count) % 60]
    for i in range(passes * 60 // 16):
        rows = np.arange(i * 16, i * 16 + 16) % 60
        np.testing.assert_array_equal(fed[i]["labels"], Y[rows])
        wanted = (X[rows] - peeked.mean(0)) / peeked.std(0)
        np.testing.assert_allclose(fed[i]["inputs"], wanted, atol=1e-5)
    assert loaded.steps_per_epoch(16) == 4


def test_training_learns_goes_on_and_is_scored(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    data, known = {"train": batches, **HELD_OUT}, {"data": {"steps": 8}, **SMALL}
    known |= {"learning_rate": 0.03, "out": tmp_path / "run"}
    caplog.set_level(logging.WARNING, "kzoo")
    kzoo.train("mlp", data, epochs=1, **known)
    assert "resuming is not exact" in caplog.text
    run = kzoo.train("mlp", data, epochs=2, existing="extend", **known)
    assert "with the stream from its beginning" in caplog.text
    with (tmp_path / "run" / "history.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    for scored in (data, {"train": (X, Y), **HELD_OUT}):
        found = kzoo.evaluate(run, scored)["accuracy"]
        assert found == pytest.approx(run.score("test", "accuracy"))


def test_a_generator_that_runs_dry_is_one_line() -> None:
    fed = load(batches()).train_batches(16, seed=0)
    with pytest.raises(ValueError, match="batches ended after 60 examples"):
        fed[3]


def test_labels_keep_their_meaning() -> None:
    names = np.array(["cat", "emu", "owl"], object)
    held_out = {"validation": (X, names[Y]), "test": (X, names[Y])}

    def later() -> Any:
        for _ in range(20):
            yield from batches(names[Y])
        yield X[:16], np.array(["yak"] * 16, object)

    data = {"train": later, **held_out}
    fed = kzoo.load_dataset(data, steps=4).train_batches(16, seed=0)
    np.testing.assert_array_equal(fed[0]["labels"], Y[:16])
    with pytest.raises(ValueError, match="label 'yak', which is none of"):
        fed[75]


def test_what_is_refused() -> None:
    data = {"train": batches, **HELD_OUT}
    with pytest.raises(ValueError, match="say how many training steps"):
        kzoo.load_dataset(data)
    with pytest.raises(ValueError, match="a stream has no option 'stepps'"):
        kzoo.load_dataset(data, stepps=4)
    with pytest.raises(ValueError, match="is a stream, which cannot be split"):
        kzoo.load_dataset(batches)
    with pytest.raises(ValueError, match="steps= is for a stream"):
        kzoo.load_dataset((X, Y), steps=4)
    with pytest.raises(ValueError, match="cannot be divided among 2 workers"):
        load(batches).train_batches(16, seed=0, shard=(0, 2))
    with pytest.raises(ValueError, match="cannot be chosen or relabelled"):
        few_labels(load(batches), 2, 0)
