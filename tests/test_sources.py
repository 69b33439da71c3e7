"""Batches as people have them: PyDataset, tf.data, DataLoader, lists of batches."""

import itertools
import logging
import math
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

import kzoo
from kzoo.datasets import Dataset

SPLITS = ("train", "validation", "test")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
Y = np.arange(60) % 3
IMAGES = RNG.integers(0, 256, (60, 8, 8, 3), "uint8")
SMALL = {"units": (8,), "batch_size": 16, "epochs": 2, "snapshot_every": "1"}

with_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.data needs TensorFlow"
)


class InBatches(keras.utils.PyDataset):
    """Arrays in batches, in an order of their own."""

    def __init__(self, inputs: Any = X, labels: Any = Y, size: int = 16) -> None:
        super().__init__()
        self.inputs, self.labels, self.size = inputs, labels, size
        self.order = np.arange(len(labels))

    @property
    def num_batches(self) -> int | None:
        return math.ceil(len(self.labels) / self.size)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        rows = self.order[i * self.size : (i + 1) * self.size]
        return self.inputs[rows], self.labels[rows]


class Shuffled(InBatches):
    """Another order at each epoch."""

    rng = np.random.default_rng()

    def on_epoch_begin(self) -> None:
        self.order = self.rng.permutation(len(self.labels))


class Noisy(InBatches):
    """Random augmentation."""

    rng = np.random.default_rng()

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        inputs, labels = super().__getitem__(i)
        return inputs + self.rng.normal(size=inputs.shape), labels


class Uneven(InBatches):
    def __getitem__(self, i: int) -> tuple[Any, ...]:
        return self.inputs[: self.size + 1], self.labels[: self.size]


class Endless(InBatches):
    @property
    def num_batches(self) -> None:
        return None


def batches(inputs: Any = X, labels: Any = Y, size: int = 16) -> list[Any]:
    return [
        (inputs[i : i + size], labels[i : i + size])
        for i in range(0, len(labels), size)
    ]


def check_equal(found: Dataset, wanted: Dataset) -> None:
    """The same specification and options, and the same training batches."""
    assert found.spec == wanted.spec
    assert found.options == wanted.options
    for one, other in zip(
        itertools.islice(found.train_batches(8, seed=3), 9),
        itertools.islice(wanted.train_batches(8, seed=3), 9),
        strict=True,
    ):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


# --- equal to the arrays ----------------------------------------------------------


@pytest.mark.parametrize("source", [InBatches(), batches()], ids=["py", "list"])
def test_batches_are_the_arrays_that_they_hold(source: Any) -> None:
    check_equal(kzoo.load_dataset(source, seed=1), kzoo.load_dataset((X, Y), seed=1))


def test_a_list_of_two_batches_is_no_pair_of_arrays() -> None:
    check_equal(kzoo.load_dataset(batches(size=30)), kzoo.load_dataset((X, Y)))


def test_each_split_may_be_batches_or_arrays() -> None:
    own = {"train": (X, Y), "validation": (X[:9], Y[:9]), "test": (X[9:], Y[9:])}
    mixed = {**own, "train": InBatches(), "test": batches(X[9:], Y[9:])}
    check_equal(kzoo.load_dataset(mixed), kzoo.load_dataset(own))


def test_groups_go_with_batches() -> None:
    groups = np.arange(60) // 5
    check_equal(
        kzoo.load_dataset(InBatches(), groups=groups),
        kzoo.load_dataset((X, Y), groups=groups),
    )


@with_tensorflow
def test_tf_data_is_the_arrays_that_it_holds() -> None:
    import tensorflow as tf

    texts = np.array([f"text {i} é" for i in range(60)], object)
    for inputs in (X, IMAGES, texts):
        source = tf.data.Dataset.from_tensor_slices((inputs, Y)).batch(16)
        check_equal(kzoo.load_dataset(source), kzoo.load_dataset((inputs, Y)))
    two = {"first": texts, "second": texts[::-1]}
    source = tf.data.Dataset.from_tensor_slices((two, Y)).batch(16).prefetch(2)
    check_equal(kzoo.load_dataset(source), kzoo.load_dataset((two, Y)))


@with_tensorflow
@pytest.mark.parametrize("labels", ["int", "binary", "categorical"])
def test_an_image_folder_of_keras_keeps_its_names(tmp_path: Path, labels: str) -> None:
    for name, start in (("emu", 0), ("yak", 30)):
        (tmp_path / name).mkdir()
        for i in range(start, start + 30):
            keras.utils.save_img(tmp_path / name / f"{i}.png", IMAGES[i], scale=False)
    source = keras.utils.image_dataset_from_directory(
        tmp_path, label_mode=labels, image_size=(8, 8)
    )
    data = kzoo.load_dataset(source)
    assert data.spec.classes == data.preprocessing.classes == ("emu", "yak")
    assert data.spec.task == "image-classification"
    of_one = {row.tobytes(): i // 30 for i, row in enumerate(IMAGES.astype("float32"))}
    found = {
        row.tobytes(): label
        for split in data.splits.values()
        for row, label in zip(split.inputs, split.labels, strict=True)
    }
    assert found == of_one


@pytest.mark.peers
def test_loaders_of_torch_are_the_arrays_that_they_hold() -> None:
    import torch
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset
    from torch.utils.data.distributed import DistributedSampler

    labels = torch.tensor(Y)
    vectors = TensorDataset(torch.tensor(X), labels)
    wanted = kzoo.load_dataset((X, Y))
    check_equal(kzoo.load_dataset(DataLoader(vectors, batch_size=16)), wanted)
    shuffled = [DataLoader(vectors, batch_size=16, shuffle=True) for _ in range(2)]
    check_equal(*map(kzoo.load_dataset, shuffled))
    images = TensorDataset(torch.tensor(IMAGES).permute(0, 3, 1, 2), labels)
    loaded = kzoo.load_dataset(DataLoader(images, batch_size=16))
    check_equal(loaded, kzoo.load_dataset((IMAGES, Y)))

    class Stream(IterableDataset):
        def __iter__(self) -> Any:
            return iter(vectors)

    part = DistributedSampler(vectors, num_replicas=2, rank=0)
    for source, line in (
        (DataLoader(vectors, batch_size=16, sampler=part), "DistributedSampler"),
        (vectors, "single examples, not batches"),
        (DataLoader(vectors, batch_size=None), "single examples, not batches"),
        (DataLoader(Stream(), batch_size=16), "DataLoader has no length"),
        (DataLoader(vectors, shuffle=True, batch_size=16, drop_last=True), "remainder"),
    ):
        with pytest.raises(ValueError, match=line):
            kzoo.load_dataset(source)


# --- order ------------------------------------------------------------------------


def test_a_shuffling_source_makes_one_dataset(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kzoo"):
        first = kzoo.load_dataset(Shuffled(), seed=1)
    assert "the order changes from one reading to the next" in caplog.text
    check_equal(kzoo.load_dataset(Shuffled(size=7), seed=1), first)
    whole = np.concatenate([first.splits[name].inputs for name in SPLITS])
    assert sorted(map(bytes, whole)) == sorted(map(bytes, X))
    for split in first.splits.values():
        rows = [int((row == X).all(1).argmax()) for row in split.inputs]
        np.testing.assert_array_equal(split.labels, Y[rows])


@with_tensorflow
def test_a_shuffling_tf_data_makes_one_dataset() -> None:
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices((X, Y))
    loaded = [kzoo.load_dataset(examples.shuffle(60).batch(16)) for _ in range(2)]
    check_equal(*loaded)


def test_a_shuffling_source_of_pairs_keeps_them_together() -> None:
    class Pairs(Shuffled):
        def __getitem__(self, i: int) -> tuple[Any, ...]:
            rows, labels = super().__getitem__(i)
            texts = [np.array([f"{k}{n}" for n in rows], object) for k in "ab"]
            return dict(zip(("first", "second"), texts, strict=True)), labels

    numbers = np.arange(60)
    loaded = [kzoo.load_dataset(Pairs(numbers, numbers % 2)) for _ in range(2)]
    check_equal(*loaded)
    for split in loaded[0].splits.values():
        first, second = (
            [int(text[1:]) for text in one] for one in split.inputs.values()
        )
        assert first == second
        np.testing.assert_array_equal(split.labels, np.array(first) % 2)


class Crash(keras.callbacks.Callback):
    """Dies in the second epoch, as a killed process would."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == (1, 1):
            raise MemoryError("killed")


@pytest.mark.skipif(keras.config.backend() == "torch", reason="bits differ on PyTorch")
def test_a_killed_run_on_shuffled_batches_ends_as_one_that_was_not(
    tmp_path: Path,
) -> None:
    def train(name: str, **more: Any) -> Any:
        keras.utils.clear_session()
        return kzoo.train("mlp", Shuffled(), out=tmp_path / name, **SMALL, **more)

    undisturbed = train("undisturbed")
    with pytest.raises(MemoryError):
        train("killed", callbacks=[Crash()])
    resumed = train("killed")
    first, second = (
        (run.folder / "model" / "model.safetensors").read_bytes()
        for run in (undisturbed, resumed)
    )
    assert first == second
    assert resumed.metrics["test"] == undisturbed.metrics["test"]
    again = kzoo.evaluate(resumed, Shuffled())
    assert again["loss"] == pytest.approx(resumed.metrics["test"]["loss"], rel=1e-6)


def test_a_killed_run_on_a_shuffle_of_each_process_is_not_resumed(
    tmp_path: Path,
) -> None:
    class ShuffledOnce(InBatches):
        def __init__(self) -> None:
            super().__init__()
            self.order = Shuffled.rng.permutation(len(self.labels))

    kzoo.train("mlp", ShuffledOnce(), out=tmp_path / "run", **{**SMALL, "epochs": 1})
    with pytest.raises(ValueError, match="fingerprint"):
        kzoo.train("mlp", ShuffledOnce(), out=tmp_path / "run", **SMALL)


# --- what is refused --------------------------------------------------------------


def generator() -> Any:
    while True:
        yield X, Y


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (generator(), "the data: generator can be read only once"),
        ({"train": (X, Y), "validation": generator(), "test": (X, Y)}, "validation: g"),
        (Endless(), "Endless has no end"),
        (Noisy(), "Noisy gives other examples each time it is read"),
        ([*batches(), (X[:, :3], Y)], "batch 4 has inputs of shape (60, 3), batch 0"),
        ([*batches(), (X.astype("float64"), Y)], "batch 4 has inputs of float64"),
        ([(X, Y, Y)], "sample weights"),
        (InBatches(labels=Y[:, None, None]), "labels"),
        ([(pd.DataFrame(X), pd.Series(Y))] * 3, "pandas.concat"),
        (Uneven(), "batch 0 has 17 inputs and 16 labels"),
        (range(3), "expected batches (inputs, labels), got int"),
        ((InBatches(), Y), "inputs are InBatches, no array"),
        ({"train": InBatches(), "test": InBatches()}, "got train, test"),
        (set("abc"), "expected batches (inputs, labels), got str"),
        (InBatches(X, Y[:0]), "InBatches has no examples"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_one_line_says_what_is_wrong(source: Any, line: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(line)):
        kzoo.load_dataset(source)


def test_single_examples_are_refused() -> None:
    class Single(InBatches):
        def __getitem__(self, i: int) -> tuple[Any, ...]:
            return self.inputs[i], self.labels[i]

    with pytest.raises(ValueError, match="single examples, not batches"):
        kzoo.load_dataset(Single(size=1))


def test_a_length_that_is_wrong_is_refused() -> None:
    class Longer(list):
        def __len__(self) -> int:
            return 7

    with pytest.raises(ValueError, match="Longer has 7 batches by its length, but 4"):
        kzoo.load_dataset(Longer(batches()))


def test_groups_need_an_order() -> None:
    with pytest.raises(ValueError, match="groups cannot go with its examples"):
        kzoo.load_dataset(Shuffled(), groups=np.arange(60))


def test_memory_is_limited_before_all_is_read() -> None:
    class Counted(InBatches):
        read = 0

        def __getitem__(self, i: int) -> tuple[Any, ...]:
            self.read += 1
            return super().__getitem__(i)

    source = Counted(np.zeros((600, 1024), "float32"), np.arange(600) % 3, size=100)
    with pytest.raises(ValueError, match=re.escape("memory=1 (MiB)")):
        kzoo.load_dataset(source, memory=1)
    assert source.read == 1
    with pytest.raises(ValueError, match="no option 'tsak'"):
        kzoo.load_dataset(source, tsak="regression")
    assert source.read == 1
    data = kzoo.load_dataset(source, memory=4)
    assert "memory" not in data.options
    each = dict.fromkeys(SPLITS, source)
    with pytest.raises(ValueError, match=r"^validation: 6 batches of 0\.4 MiB"):
        kzoo.load_dataset(each, memory=4)
    with pytest.raises(ValueError, match=r"has no .* 'memory'"):
        kzoo.load_dataset((X, Y), memory=4)
    with pytest.raises(ValueError, match="memory=0"):
        kzoo.load_dataset(source, memory=0)


@with_tensorflow
def test_tf_data_without_an_end_or_a_length_is_refused() -> None:
    import tensorflow as tf

    whole = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    with pytest.raises(ValueError, match=r"has no end.*\.take\(100\)"):
        kzoo.load_dataset(whole.repeat())
    unknown = whole.filter(lambda x, y: True)
    with pytest.raises(ValueError, match="assert_cardinality"):
        kzoo.load_dataset(unknown)
    stated = unknown.apply(tf.data.experimental.assert_cardinality(4))
    check_equal(kzoo.load_dataset(stated), kzoo.load_dataset((X, Y)))
    ragged = tf.ragged.constant([[1.0], [1.0, 2.0]] * 30)
    with pytest.raises(ValueError, match=r"RaggedTensor, no array; pad.*to_tensor"):
        kzoo.load_dataset(tf.data.Dataset.from_tensor_slices((ragged, Y)).batch(16))
    sparse = whole.map(lambda x, y: (tf.sparse.from_dense(x), y))
    with pytest.raises(ValueError, match="to_dense"):
        kzoo.load_dataset(sparse)
    with pytest.raises(ValueError, match="single examples"):
        kzoo.load_dataset(tf.data.Dataset.from_tensor_slices((X, Y)))
