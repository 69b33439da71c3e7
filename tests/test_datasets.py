"""Embedded sets, arrays of the caller's own, and what every set's batches keep."""

import dataclasses
import hashlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight

import kzoo
from kzoo.datasets import DATASETS, Dataset
from kzoo.datasets.augmentation import shift
from kzoo.datasets.batches import Batch, philox
from kzoo.datasets.dataset import Spec
from kzoo.datasets.examples import Split, fingerprint
from kzoo.datasets.splits import hashed_splits
from kzoo.datasets.supervised import supervised, weights_of
from kzoo.preprocessing import Preprocessing
from kzoo.tasks import TASKS

SPLITS = ("train", "validation", "test")


def arrays(examples: int, seed: int = 0) -> Dataset:
    """Vectors of which each says where it stands: row i holds i."""
    rows = np.arange(examples, dtype="float32")[:, None]
    split = (rows, np.arange(examples) % 2)
    return kzoo.load_dataset(dict.fromkeys(SPLITS, split), seed=seed)


# --- digits -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 3])
def test_digits_are_split_as_scikit_learn_splits(seed: int) -> None:
    source = sklearn.datasets.load_digits()
    rows = np.arange(1797)
    rest, test = train_test_split(
        rows, test_size=0.2, stratify=source.target, random_state=seed
    )
    train, validation = train_test_split(
        rest, test_size=0.125, stratify=source.target[rest], random_state=seed
    )
    digits = kzoo.load_dataset("digits", seed=seed)
    for name, part in zip(SPLITS, (train, validation, test), strict=True):
        split = digits.splits[name]
        np.testing.assert_array_equal(split.inputs[..., 0], source.images[part])
        np.testing.assert_array_equal(split.labels, source.target[part])
    assert sorted([*train, *validation, *test]) == list(rows)


def test_digits_are_1797_in_70_10_20_each_class_in_its_share() -> None:
    digits = kzoo.load_dataset("digits")
    sizes = [len(digits.splits[name]) for name in SPLITS]
    assert sizes == [1257, 180, 360]
    for name, share in zip(SPLITS, (0.7, 0.1, 0.2), strict=True):
        counts = np.bincount(digits.splits[name].labels)
        whole = np.bincount(sklearn.datasets.load_digits().target)
        np.testing.assert_allclose(counts, share * whole, atol=1.5)
    images = digits.splits["train"].inputs
    assert (images.shape[1:], images.dtype) == ((8, 8, 1), np.uint8)


def test_digits_say_what_they_fix() -> None:
    image = kzoo.load_dataset("digits").spec
    assert (image.task, image.inputs) == ("image-classification", "images")
    assert image.hparams == {"num_classes": 10, "image_size": 8, "channels": 1}
    sequence = kzoo.load_dataset("digits", as_sequence=True).spec
    assert (sequence.task, sequence.inputs) == ("sequence-classification", "features")
    assert sequence.hparams == {
        "num_classes": 10,
        "vocab_size": 0,
        "num_features": 8,
        "sequence_length": 8,
    }
    assert image.classes == sequence.classes == tuple("0123456789")


def test_sequence_digits_are_rows_of_the_images() -> None:
    image = kzoo.load_dataset("digits").train_batches(16, seed=0)[0]
    sequence = kzoo.load_dataset("digits", as_sequence=True).train_batches(16, seed=0)
    assert sequence[0]["inputs"].shape == (16, 8, 8)
    np.testing.assert_array_equal(sequence[0]["inputs"], image["inputs"][..., 0])
    assert 0 <= image["inputs"].min() < image["inputs"].max() == 1.0  # of 16 greys


# --- diabetes, xor ----------------------------------------------------------------


def test_diabetes_are_the_442_patients() -> None:
    data = kzoo.load_dataset("diabetes")
    assert sum(len(data.splits[name]) for name in SPLITS) == 442
    sizes = [len(data.splits[name]) for name in SPLITS]
    np.testing.assert_allclose(np.array(sizes) / 442, [0.7, 0.1, 0.2], atol=0.05)
    assert data.spec.task == "regression"
    batch = data.eval_batches("train", sizes[0])[0]
    np.testing.assert_allclose(batch["inputs"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(batch["inputs"].std(0), 1, atol=1e-5)
    assert batch["labels"].std() == pytest.approx(1, abs=1e-5)


def rows_of(data: Dataset, name: str) -> set[bytes]:
    split = data.splits[name]
    return {
        row.tobytes() + label.tobytes()
        for row, label in zip(split.inputs, split.labels, strict=True)
    }


def test_diabetes_split_does_not_hang_on_the_order_of_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = kzoo.load_dataset("diabetes")
    source = sklearn.datasets.load_diabetes(scaled=False)
    order = np.random.default_rng(0).permutation(442)[:400]  # some rows went, too
    source.data, source.target = source.data[order], source.target[order]
    monkeypatch.setattr(sklearn.datasets, "load_diabetes", lambda scaled: source)
    after = kzoo.load_dataset("diabetes")
    for name in SPLITS:
        assert rows_of(after, name) <= rows_of(before, name)
    other = kzoo.load_dataset("diabetes", seed=1)
    assert not rows_of(other, "test") <= rows_of(before, "test")


def test_equal_keys_stay_together() -> None:
    inputs = np.repeat(np.arange(50, dtype="float32"), 4)[:, None]
    keys = [row.tobytes() for row in inputs]
    splits = hashed_splits(inputs, inputs[:, 0], keys, seed=0)
    parts = [set(splits[name].labels) for name in SPLITS]
    assert sum(len(part) for part in parts) == 50
    assert all(len(splits[n]) == 4 * len(set(splits[n].labels)) for n in SPLITS)


def test_xor_is_the_four_points_in_every_split() -> None:
    data = kzoo.load_dataset("xor")
    for name in SPLITS:
        split = data.splits[name]
        found = {(*point, label) for point, label in zip(*_lists(split), strict=True)}
        assert found == {(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)}
    assert data.spec.hparams["num_classes"] == 1
    assert set(np.unique(data.eval_batches("test", 4)[0]["inputs"])) == {-1.0, 1.0}


def _lists(split: Split) -> tuple[list[Any], list[Any]]:
    return split.inputs.tolist(), split.labels.tolist()


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_says_the_same_each_time(name: str) -> None:
    one, two = kzoo.load_dataset(name), kzoo.load_dataset(name)
    assert one.spec == two.spec
    assert one.spec.task in TASKS
    assert one.preprocessing == two.preprocessing
    assert set(one.splits) == set(SPLITS)
    assert one.options == two.options


# --- names and options ------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, "unknown dataset 'digit'. Did you mean 'digits'?"),
        ("zzz", {}, "unknown dataset 'zzz'. There are: dates, diabetes, digits, names"),
        (
            "digits",
            {"as_sequnce": True},
            "digits has no option 'as_sequnce'. Did you mean 'as_sequence'?",
        ),
        ("digits", {"as_sequence": 2}, "digits: as_sequence=2 is not true or false"),
        ("xor", {"seed": -1}, "xor: seed=-1 is not an int from 0 to 2.14748e+09"),
        ("diabetes", {"seed": "a"}, "diabetes: seed='a' is not an int from 0 to "),
    ],
)
def test_unknown_name_or_option_gets_the_nearest(
    source: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        kzoo.load_dataset(source, **options)


def test_a_loaded_dataset_is_taken_as_it_is() -> None:
    digits = kzoo.load_dataset("digits")
    assert kzoo.load_dataset(digits) is digits
    with pytest.raises(ValueError, match="takes no options"):
        kzoo.load_dataset(digits, seed=1)


# --- arrays -----------------------------------------------------------------------

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3


@pytest.mark.parametrize(
    ("inputs", "kind", "task", "hparams"),
    [
        (
            RNG.integers(0, 256, (60, 5, 5, 3)).astype("uint8"),
            "images",
            "image-classification",
            {"image_size": 5, "channels": 3},
        ),
        (
            RNG.random((60, 4, 6, 1)),
            "images",
            "image-classification",
            {"image_size": (4, 6), "channels": 1},
        ),
        (
            RNG.random((60, 7, 2)),
            "features",
            "sequence-classification",
            {"vocab_size": 0, "num_features": 2, "sequence_length": 7},
        ),
        (
            RNG.random((60, 4)),
            "vectors",
            "tabular-classification",
            {"num_features": 4, "image_size": None},
        ),
        (
            np.arange(60 * 6).reshape(60, 6) % 11,
            "tokens",
            "text-classification",
            {"vocab_size": 11, "sequence_length": 6},
        ),
    ],
    ids=["bytes", "images", "features", "vectors", "tokens"],
)
def test_arrays_say_what_they_are(
    inputs: np.ndarray, kind: str, task: str, hparams: dict[str, Any]
) -> None:
    data = kzoo.load_dataset((inputs, LABELS))
    assert (data.spec.inputs, data.spec.task) == (kind, task)
    assert data.spec.hparams == {**hparams, "num_classes": 3}
    assert data.spec.classes == ("0", "1", "2")
    assert [len(data.splits[name]) for name in SPLITS] == [42, 6, 12]
    batch = data.eval_batches("test", 12)[0]
    assert batch["inputs"].dtype == ("int32" if kind == "tokens" else "float32")
    if inputs.dtype == np.uint8:
        raw = data.splits["test"].inputs.astype("float32") / 255
        np.testing.assert_array_equal(batch["inputs"], raw)
    target = RNG.random(60)
    regression = kzoo.load_dataset((inputs, target)).spec
    assert (regression.task, regression.classes) == ("regression", ())
    assert regression.hparams["num_classes"] == 1


def test_arrays_split_by_the_caller_are_taken_so() -> None:
    parts = {
        name: (np.full((3 + i, 2), float(i)), np.arange(3 + i) % 2)
        for i, name in enumerate(SPLITS)
    }
    data = kzoo.load_dataset(parts)
    for name, (inputs, labels) in parts.items():
        np.testing.assert_array_equal(data.splits[name].inputs, inputs)
        np.testing.assert_array_equal(data.splits[name].labels, labels)


def test_options_of_arrays() -> None:
    data = kzoo.load_dataset((RNG.random((60, 4, 2)), LABELS), num_classes=5)
    assert data.spec.hparams["num_classes"] == 5
    tokens = kzoo.load_dataset((RNG.integers(1, 9, (60, 4)), LABELS), vocab_size=100)
    assert tokens.spec.hparams["vocab_size"] == 100


GOOD = RNG.random((60, 4))
NAN = GOOD.copy()
NAN[7, 2] = np.nan


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ((NAN, LABELS), {}, "inputs hold NaN or infinity, first in row 7"),
        ((GOOD, np.full(60, np.inf)), {}, "labels hold NaN or infinity, first in row"),
        (
            (GOOD, LABELS - 1),
            {"num_classes": 2},
            "label -1 is out of range: 2 classes are 0 to 1",
        ),
        (
            (GOOD, LABELS),
            {"num_classes": 2},
            "label 2 is out of range: 2 classes are 0 to 1",
        ),
        ((GOOD[:59], LABELS), {}, "59 inputs and 60 labels"),
        ((GOOD[:0], LABELS[:0]), {}, "0 inputs and 0 labels"),
        ((GOOD, RNG.random((60, 2))), {}, "several targets an example are not"),
        ((GOOD, np.array(["a"] * 60)), {}, "labels hold one class alone; two are"),
        ((GOOD, np.arange(60) // 2), {}, "60 examples are too few to split: each"),
        ((GOOD[:1], np.ones(1)), {}, "1 examples are too few: no "),
        (
            (np.array([["a", "b"]] * 60), LABELS),
            {},
            "inputs of object and shape (60, 2) are none of: images",
        ),
        ((GOOD + 1j, LABELS), {}, "inputs of complex128 and shape (60, 4) are none"),
        ((RNG.random(60), LABELS), {}, "inputs of float64 and shape (60,) are none of"),
        (
            (np.full((60, 4), 9), LABELS),
            {"vocab_size": 9},
            "token 9 is out of range: a vocabulary of 9 is 0 to 8",
        ),
        ((np.full((60, 4), -1), LABELS), {"vocab_size": 9}, "token -1 is out of"),
        ((GOOD, LABELS * 0.5), {"task": "image-classification"}, "does not go with"),
        ({"train": (GOOD, LABELS)}, {}, "a dict of arrays has the splits train, val"),
        ({}, {}, "a dict of arrays has the splits train, validation, test; got none"),
        ((GOOD,), {}, "the data: expected a pair (inputs, labels), got tuple"),
        (GOOD, {}, "the data: expected a pair (inputs, labels), got ndarray"),
        (
            {**dict.fromkeys(SPLITS, (GOOD, LABELS)), "test": (GOOD[:, :3], LABELS)},
            {},
            "train has examples of shape (4,), test of (3,)",
        ),
        (
            {**dict.fromkeys(SPLITS, (GOOD, LABELS)), "test": (GOOD, LABELS / 2)},
            {},
            "the splits have labels of different types: train int64, validation int64, "
            "test float64",
        ),
        (
            {**dict.fromkeys(SPLITS, (GOOD, LABELS)), "validation": (NAN, LABELS)},
            {},
            "validation: inputs hold NaN or infinity, first in row 7",
        ),
        ((GOOD, LABELS), {"sed": 1}, "arrays has no option 'sed'. Did you mean 'seed'"),
    ],
)
def test_arrays_that_do_not_fit_get_one_line(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        kzoo.load_dataset(source, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=90),
    st.sampled_from(["uint8", "int32", "int64", "uint64"]),
)
@example([0] * 17 + [1] * 3, "uint8")
@example(list(range(7)) * 10, "uint64")
def test_arrays_are_split_or_refused_in_our_words(
    labels: list[int], dtype: str
) -> None:
    inputs = np.arange(float(len(labels)))[:, None]
    try:
        data = kzoo.load_dataset((inputs, np.array(labels, dtype)))
    except ValueError as error:
        assert "too few to split" in str(error) or "one class alone" in str(error)
        return
    found = np.concatenate([data.splits[name].inputs for name in SPLITS])
    assert sorted(found[:, 0]) == list(range(len(labels)))
    trained = {int(data.spec.classes[label]) for label in data.splits["train"].labels}
    assert trained == set(labels)


def test_labels_far_apart_cost_no_memory() -> None:
    with pytest.raises(ValueError, match="too few to split"):
        kzoo.load_dataset((GOOD, np.where(LABELS == 0, 10**15, np.arange(60))))


# --- the stream of training batches -----------------------------------------------

sizes = st.integers(1, 40)


@given(examples=sizes, batch=sizes, seed=st.integers(0, 9), passes=st.integers(1, 3))
def test_each_pass_holds_each_example_once_in_full_batches(
    examples: int, batch: int, seed: int, passes: int
) -> None:
    batches = arrays(examples).train_batches(batch, seed)
    steps = -(-passes * examples // batch)
    taken = list(itertools.islice(batches, steps))
    assert all(len(one["index"]) == batch for one in taken)
    assert all((one["weights"] == 1).all() for one in taken)
    stream = np.concatenate([one["index"] for one in taken])
    for start in range(0, passes * examples, examples):
        window = stream[start : start + examples]
        assert sorted(window) == list(range(examples))


@given(examples=sizes, batch=sizes, start=st.integers(0, 60))
def test_start_step_is_a_position_in_the_same_stream(
    examples: int, batch: int, start: int
) -> None:
    data = arrays(examples)
    whole, later = data.train_batches(batch, 1), data.train_batches(batch, 1, start)
    for i in (0, 1, 2):
        assert_same(later[i], whole[start + i])
    assert_same(later[0], whole[start])  # in any order


@given(
    examples=sizes,
    rows=st.integers(1, 6),
    workers=st.integers(1, 5),
    step=st.integers(0, 30),
)
def test_shards_put_together_are_the_global_batch(
    examples: int, rows: int, workers: int, step: int
) -> None:
    data = arrays(examples)
    batch = rows * workers
    shards = [(rank, workers) for rank in range(workers)]
    parts = [data.train_batches(batch, 0, shard=shard)[step] for shard in shards]
    assert_same(joined(parts), data.train_batches(batch, 0)[step])
    if step < len(data.eval_batches("test", batch)):
        parts = [data.eval_batches("test", batch, shard)[step] for shard in shards]
        assert_same(joined(parts), data.eval_batches("test", batch)[step])


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def assert_same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert set(one) == set(two) == {"inputs", "labels", "weights", "index"}
    for key in one:
        assert one[key].dtype == two[key].dtype
        np.testing.assert_array_equal(one[key], two[key])


def test_shifts_are_the_same_on_any_number_of_workers() -> None:
    data = kzoo.load_dataset("digits").augmented("shift")
    whole = data.train_batches(12, 5)[33]
    parts = [data.train_batches(12, 5, shard=(rank, 3))[33] for rank in range(3)]
    assert_same(joined(parts), whole)


@pytest.mark.parametrize(
    ("batch", "workers", "near"), [(10, 3, 9), (2, 3, 3), (11, 3, 12)]
)
def test_workers_that_do_not_divide_the_batch(
    batch: int, workers: int, near: int
) -> None:
    message = (
        f"batch_size={batch} is not a multiple of the {workers} workers; the nearest "
        f"is {near}"
    )
    data = arrays(5)
    for call in (
        lambda: data.train_batches(batch, 0, shard=(0, workers)),
        lambda: data.eval_batches("test", batch, (0, workers)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@given(examples=sizes, batch=sizes)
def test_evaluation_is_one_pass_in_order_filled_with_weight_0(
    examples: int, batch: int
) -> None:
    data = arrays(examples)
    batches = data.eval_batches("test", batch)
    taken = list(batches)
    assert len(taken) == len(batches) == -(-examples // batch)
    assert all(one["inputs"].shape == (batch, 1) for one in taken)
    whole = joined(taken)
    real = whole["weights"] == 1
    np.testing.assert_array_equal(whole["index"][real], np.arange(examples))
    assert (whole["index"][~real] == -1).all()
    assert (whole["weights"][~real] == 0).all()
    assert np.isfinite(whole["inputs"]).all()
    np.testing.assert_array_equal(whole["labels"][real], np.arange(examples) % 2)


def test_unknown_split_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown split 'tets'\. Did you mean"):
        arrays(5).eval_batches("tets", 2)


@given(examples=sizes, batch=sizes)
def test_steps_of_an_epoch_cover_all_examples(examples: int, batch: int) -> None:
    steps = arrays(examples).steps_per_epoch(batch)
    assert (steps - 1) * batch < examples <= steps * batch


def digest(data: Dataset, seed: int, steps: int = 45) -> str:
    """sha256 of the first batches, over two passes of the digits."""
    found = hashlib.sha256()
    for batch in itertools.islice(data.train_batches(64, seed), steps):
        for key in sorted(batch):
            array = batch[key]
            found.update(f"{key} {array.dtype.str} {array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(
    ("name", "options", "augmentation", "batches", "data"),
    [
        ("digits", {}, ("shift",), "36d1f533a0fdcb42", "80d4f14b8cdacfbb"),
        (
            "digits",
            {"as_sequence": True},
            ("shift",),
            "cd4fb11ff97dd3df",
            "80d4f14b8cdac",
        ),
        ("diabetes", {}, (), "00cd594f1ceab263", "f88491eea86c5b71"),
    ],
)
def test_the_batches_are_those_that_measured_scores_were_trained_on(
    name: str, options: dict[str, Any], augmentation: Any, batches: str, data: str
) -> None:
    """The first digits of sha256, noted before inputs could be more than an array."""
    loaded = kzoo.load_dataset(name, **options)
    assert loaded.spec.fingerprint.startswith(data)
    assert digest(loaded.augmented(*augmentation), 0).startswith(batches)


def test_same_seed_same_batches_other_seed_other_batches() -> None:
    data = kzoo.load_dataset("digits").augmented("shift")
    again = kzoo.load_dataset("digits").augmented("shift")
    assert digest(data, 0) == digest(again, 0) != digest(data, 1)
    assert digest(data, 0) != digest(kzoo.load_dataset("digits"), 0)
    # As in the first release: a run of then goes on with the same batches.
    assert digest(data, 0).startswith("36d1f533a0fdcb426ae7c1d70006bb0f")


def test_each_pass_has_an_order_and_shifts_of_its_own() -> None:
    data = kzoo.load_dataset("digits").augmented("shift")
    examples = len(data.splits["train"])
    first, second = (data.train_batches(examples, 0)[i] for i in (0, 1))
    assert (first["index"] != second["index"]).any()
    by_example = [
        batch["inputs"][np.argsort(batch["index"])] for batch in (first, second)
    ]
    assert (by_example[0] != by_example[1]).any()


def test_each_step_draws_shifts_of_its_own() -> None:
    same = np.broadcast_to(RNG.random((1, 8, 8, 1)), (8, 8, 8, 1))  # one image, 8 times
    split = (same, np.zeros(8, "int32"))
    data = kzoo.load_dataset(dict.fromkeys(SPLITS, split)).augmented("shift")
    seen = {data.train_batches(8, 0)[step]["inputs"].tobytes() for step in range(5)}
    seen.add(data.train_batches(8, 1)[0]["inputs"].tobytes())
    assert len(seen) == 6


def test_philox_depends_on_each_of_its_arguments() -> None:
    cases = [(0, "order", 0), (1, "order", 0), (0, "augmentation", 0), (0, "order", 1)]
    draws = [philox(*case).integers(0, 2**63) for case in cases]
    assert len(set(draws)) == 4
    assert philox(0, "order", 0).integers(0, 2**63) == draws[0]


def test_batches_leave_numpys_global_state_alone() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    _ = arrays(10).train_batches(4, 0)[7]
    np.testing.assert_array_equal(np.random.get_state()[1], before)


BATCHES = """
import os, sys
if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None
import keras
import kzoo
from tests.test_datasets import digest
assert keras.config.backend() == os.environ["KERAS_BACKEND"]
for options in ({}, {"as_sequence": True}):
    print(digest(kzoo.load_dataset("digits", **options).augmented("shift"), 0))
print(digest(kzoo.load_dataset("diabetes"), 0))

import tempfile
from pathlib import Path
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as root:
    for i in range(40):
        folder = Path(root) / "ab"[i % 2]
        folder.mkdir(exist_ok=True)
        image = rng.integers(0, 256, (20, 24 + i % 3, 3)).astype("uint8")
        Image.fromarray(image).save(folder / f"{i}.jpg")
    data = kzoo.load_dataset(f"folder:{root}", image_size=16).augmented(
        "shift", "crop", "flip", "rotation", "zoom", "colour", "randaugment", "erasing",
        mixup=0.2, cutmix=1.0,
    )
    print(digest(data, 0, 4))
"""


def test_batches_are_the_same_on_every_backend() -> None:
    """With TensorFlow blocked on JAX."""
    pytest.importorskip("jax")
    found = {
        backend: subprocess.run(
            [sys.executable, "-c", BATCHES],
            env={**os.environ, "KERAS_BACKEND": backend},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for backend in ("tensorflow", "jax")
    }
    digits = kzoo.load_dataset("digits").augmented("shift")
    assert found["tensorflow"] == found["jax"]
    assert found["jax"][0] == digest(digits, 0)
    assert len(set(found["jax"])) == 4


# --- several inputs, labels a step, other transforms ------------------------------


def steps_dataset(transform: Any = None) -> Dataset:
    """Twelve sequences of tokens 1, 2, ... with a label a step, -1 where none is."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 9, (12, 6)).astype("int32")
    ends = rng.integers(1, 7, 12)
    tokens[np.arange(6) >= ends[:, None]] = 0
    labels = np.where(tokens > 0, tokens % 3, -1)
    inputs = {"tokens": tokens, "segment_ids": (tokens > 4).astype("int32")}
    splits = dict.fromkeys(SPLITS, Split(inputs, labels))
    spec = Spec("sequence-labeling", "tokens", {}, ("a", "b", "c"), fingerprint(splits))
    data = Dataset("steps", {}, splits, spec, Preprocessing())
    return data if transform is None else dataclasses.replace(data, transform=transform)


def test_a_batch_may_hold_a_dict_of_inputs() -> None:
    data = steps_dataset()
    raw = data.splits["train"]
    batch = data.train_batches(4, seed=0)[2]
    assert set(batch["inputs"]) == {"tokens", "segment_ids"}
    for name, array in batch["inputs"].items():
        np.testing.assert_array_equal(array, raw.inputs[name][batch["index"]])
        assert array.dtype == np.int32
    parts = [data.train_batches(4, seed=0, shard=(rank, 2))[2] for rank in (0, 1)]
    for name in batch["inputs"]:
        together = np.concatenate([part["inputs"][name] for part in parts])
        np.testing.assert_array_equal(together, batch["inputs"][name])


def test_weights_of_steps_are_0_at_padding_and_1_on_the_average() -> None:
    data = steps_dataset()
    raw = data.splits["train"]
    whole = data.train_batches(4, seed=0)[1]
    real = raw.labels[whole["index"]] >= 0
    assert whole["labels"].shape == whole["weights"].shape == (4, 6)
    assert ((whole["weights"] > 0) == real).all() and not real.all()
    assert whole["weights"].mean() == pytest.approx(1, rel=1e-6)
    assert len(np.unique(whole["weights"][real])) == 1
    # The workers' losses, averaged, are the mean over the steps that count.
    losses = np.arange(24.0).reshape(4, 6)
    shares = [data.train_batches(4, 0, shard=(rank, 2))[1] for rank in (0, 1)]
    means = [
        np.mean(losses[2 * rank : 2 * rank + 2] * part["weights"])
        for rank, part in enumerate(shares)
    ]
    assert np.mean(means) == pytest.approx(losses[real].mean(), rel=1e-6)


def test_evaluation_counts_each_step_of_each_example_once() -> None:
    data = steps_dataset()
    taken = list(data.eval_batches("test", 5))
    found = np.concatenate([np.where(b["weights"] > 0, b["labels"], -1) for b in taken])
    np.testing.assert_array_equal(found[:12], data.splits["test"].labels)
    assert (found[12:] == -1).all() and len(found) == 15
    assert set(np.unique(taken[0]["weights"])) == {0.0, 1.0}


def test_another_transform_gets_the_global_batch_and_the_steps_own_draw() -> None:
    seen = []

    def corrupted(
        data: Dataset, raw: Batch, rng: np.random.Generator, training: bool
    ) -> Batch:
        seen.append((len(raw["index"]), training))
        batch = supervised(data, raw, rng, training)
        noise = rng.integers(0, 1000, len(raw["index"]))
        return {**batch, "labels": noise, "weights": raw["weights"]}

    data = steps_dataset(corrupted)
    whole = data.train_batches(4, seed=0)[3]
    parts = [data.train_batches(4, seed=0, shard=(rank, 4))[3] for rank in range(4)]
    together = np.concatenate([part["labels"] for part in parts])
    np.testing.assert_array_equal(together, whole["labels"])
    assert (data.train_batches(4, 0)[4]["labels"] != whole["labels"]).any()
    assert (data.train_batches(4, 1)[3]["labels"] != whole["labels"]).any()
    first = data.eval_batches("test", 4)
    np.testing.assert_array_equal(first[1]["labels"], first[1]["labels"])
    assert set(seen) == {(4, True), (4, False)}


def test_fingerprint_knows_texts_and_the_names_of_inputs() -> None:
    labels = np.zeros(2, "int32")

    def of(inputs: Any) -> str:
        return fingerprint({"train": Split(inputs, labels)})

    texts = np.array(["ab", "c"], object)
    cases = [texts, np.array(["a", "bc"], object), {"first": texts}, {"second": texts}]
    assert len({of(case) for case in cases}) == len(cases)
    assert of(texts) == of(np.array(["ab", "c"], object))


# --- augmentation -----------------------------------------------------------------


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """One image (height, width, channels) moved pixel by pixel."""
    height, width, _ = image.shape
    moved = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                moved[y, x] = image[y - down, x - right]
    return moved


@given(
    count=st.integers(1, 5),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_shift_is_a_move_of_each_image(
    count: int, height: int, width: int, channels: int, seed: int
) -> None:
    shape = (count, height, width, channels)
    images = np.random.default_rng(seed).integers(1, 255, shape).astype("uint8")
    moved = shift(images, np.random.default_rng(seed))
    assert (moved.shape, moved.dtype) == (images.shape, images.dtype)
    y, x = max(1, height // 8), max(1, width // 8)
    moves = list(itertools.product(range(-y, y + 1), range(-x, x + 1)))
    for image, result in zip(images, moved, strict=True):
        assert any((shifted(image, *move) == result).all() for move in moves)


def test_shifts_of_each_kind_are_as_likely() -> None:
    images = np.zeros((9000, 8, 8, 1), "uint8")
    images[:, 4, 4] = 1
    where = np.argwhere(shift(images, np.random.default_rng(0)))[:, 1:3] - 4
    counts = Counter(map(tuple, where.tolist()))
    assert set(counts) == set(itertools.product((-1, 0, 1), repeat=2))
    assert all(850 < count < 1150 for count in counts.values())  # 1000, 5 sigma 150


def test_labels_stay_with_their_images() -> None:
    data = kzoo.load_dataset("digits").augmented("shift")
    raw = data.splits["train"]
    batch = data.train_batches(64, seed=3)[25]
    np.testing.assert_array_equal(batch["labels"], raw.labels[batch["index"]])
    moves = list(itertools.product((-1, 0, 1), repeat=2))
    moved = 0
    for image, row in zip(batch["inputs"], batch["index"], strict=True):
        source = raw.inputs[row].astype("float32") / 16
        assert any((shifted(source, *move) == image).all() for move in moves)
        moved += (image != source).any()
    assert moved > 32


def test_validation_and_test_are_not_augmented() -> None:
    data = kzoo.load_dataset("digits")
    for name in ("validation", "test", "train"):
        assert_same(
            data.augmented("shift").eval_batches(name, 64)[1],
            data.eval_batches(name, 64)[1],
        )


def test_shift_is_for_images() -> None:
    with pytest.raises(
        ValueError, match="augmentation='shift' is for images; diabetes"
    ):
        kzoo.load_dataset("diabetes").augmented("shift")


# --- the fingerprint --------------------------------------------------------------


@given(
    st.sampled_from(SPLITS), st.sampled_from(["inputs", "labels"]), st.integers(0, 3)
)
def test_fingerprint_changes_with_one_byte(name: str, what: str, row: int) -> None:
    def splits() -> dict[str, Split]:
        return {
            split: Split(np.arange(12, dtype="uint8").reshape(4, 3), np.arange(4))
            for split in SPLITS
        }

    before, after = splits(), splits()
    assert fingerprint(before) == fingerprint(after)
    getattr(after[name], what)[row] += 1
    assert fingerprint(before) != fingerprint(after)


def test_fingerprint_knows_names_shapes_and_types() -> None:
    x, y = np.zeros((4, 2), "int32"), np.zeros(4, "int32")
    cases = [
        {"train": Split(x, y)},
        {"test": Split(x, y)},
        {"train": Split(x.reshape(2, 4), y)},
        {"train": Split(x.view("float32"), y)},
        {"train": Split(x, y), "test": Split(x, y)},
    ]
    assert len({fingerprint(case) for case in cases}) == len(cases)


def test_order_of_memory_does_not_matter_to_the_fingerprint() -> None:
    x, y = RNG.random((4, 3)), np.zeros(4, "int32")
    fortran = {"train": Split(np.asfortranarray(x), y)}
    assert fingerprint(fortran) == fingerprint({"train": Split(x, y)})


# --- negative controls: what the checks above would not let pass ------------------


@given(examples=st.integers(3, 30), batch=st.integers(2, 30))
def test_a_stream_that_drops_the_rest_of_a_pass_is_noticed(
    examples: int, batch: int
) -> None:
    assume(examples % batch and batch < examples)
    order = np.random.default_rng(0).permutation(examples)
    kept = order[: examples // batch * batch]
    stream = np.concatenate([kept, kept])
    assert sorted(stream[:examples]) != list(range(examples))


def test_a_shift_drawn_by_each_worker_is_noticed() -> None:
    data = kzoo.load_dataset("digits").augmented("shift")
    whole = data.train_batches(12, 5)[33]
    mine = data.splits["train"].inputs[whole["index"][4:8]]
    alone = shift(mine, philox(5, "augmentation", 33)) / np.float32(16)
    assert (alone != whole["inputs"][4:8]).any()


# --- skewed classes ---------------------------------------------------------------


def skewed(mixup: float = 0.0) -> Dataset:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    data = kzoo.load_dataset(dict.fromkeys(SPLITS, (RNG.random((100, 4)), labels)))
    return data.augmented(mixup=mixup).weighted("balanced")


def test_balanced_weights_are_scikit_learns_and_count_in_training_alone() -> None:
    data = skewed()
    labels = data.splits["train"].labels
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(data.class_weights, theirs)
    batch = data.train_batches(100, seed=0)[0]
    np.testing.assert_allclose(batch["weights"], theirs[batch["labels"]], rtol=1e-6)
    assert batch["weights"].mean() == pytest.approx(1, rel=1e-6)
    assert set(data.eval_batches("test", 50)[0]["weights"]) == {1.0}
    assert set(data.weighted("none").train_batches(9, 0)[0]["weights"]) == {1.0}


def test_a_mixed_example_counts_as_its_parts_do() -> None:
    batch = skewed(mixup=0.4).train_batches(100, seed=0)[0]
    expected = batch["labels"] @ np.array(skewed().class_weights)
    np.testing.assert_allclose(batch["weights"], expected, rtol=1e-5)
    assert len(np.unique(batch["weights"].round(4))) > 3


def test_the_odds_of_one_logit_are_weighted_between_the_classes() -> None:
    found = weights_of(np.array([0.0, 0.25, 1.0], "float32"), (2.0, 0.4))
    np.testing.assert_allclose(found, [2.0, 1.6, 0.4], rtol=1e-6)


def test_labels_of_steps_are_weighted_by_their_class() -> None:
    data = steps_dataset().weighted("balanced")
    known = data.splits["train"].labels
    known = known[known >= 0]
    theirs = compute_class_weight("balanced", classes=np.unique(known), y=known)
    batch = data.train_batches(12, seed=0)[0]
    real = data.splits["train"].labels[batch["index"]] >= 0
    ratio = batch["weights"][real] / theirs[batch["labels"][real]]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert (batch["weights"][~real] == 0).all()


def test_numbers_have_no_class_weights() -> None:
    with pytest.raises(ValueError, match="diabetes has no classes to weigh"):
        kzoo.load_dataset("diabetes").weighted("balanced")
