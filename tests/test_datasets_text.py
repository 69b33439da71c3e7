"""Texts: ``names``, their tokens in batches, and characters left out or exchanged."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import kzoo
from kzoo.datasets import Dataset, characters
from kzoo.datasets.batches import philox
from kzoo.datasets.examples import Split
from kzoo.datasets.text import LANGUAGES, TextOptions, text_dataset
from kzoo.preprocessing.text import KINDS
from tests.test_datasets import SPLITS, digest

TEXT = st.text(st.characters(codec="utf-8"), max_size=9)


@pytest.fixture(scope="module")
def names() -> Dataset:
    return kzoo.load_dataset("names")


def array(values: list[str]) -> np.ndarray:
    made = np.empty(len(values), object)
    made[:] = values
    return made


# --- names ------------------------------------------------------------------------


def test_names_are_those_that_one_language_has_alone(names: Dataset) -> None:
    owners: dict[str, set[str]] = {}
    for language in LANGUAGES:
        locale = Locale.parse(language)
        for table in (
            locale.territories,
            locale.languages,
            locale.currencies,
            locale.scripts,
        ):
            for text in table.values():
                owners.setdefault(text, set()).add(language)
    expected = {text: own.pop() for text, own in owners.items() if len(own) == 1}
    found = {
        text: LANGUAGES[label]
        for split in names.splits.values()
        for text, label in zip(split.inputs, split.labels, strict=True)
    }
    assert found == expected
    assert sum(map(len, names.splits.values())) == len(expected) > 20_000


def test_names_are_split_by_their_key(names: Dataset) -> None:
    """Japan's names in all languages stand together: nothing of them to look up."""
    where = {text: name for name in SPLITS for text in names.splits[name].inputs}
    keys: dict[str, set[str]] = {}
    for language in LANGUAGES:
        for key, text in Locale.parse(language).territories.items():
            if text in where and Locale.parse(language).languages.get(key) != text:
                keys.setdefault(key, set()).add(where[text])
    assert np.mean([len(places) == 1 for places in keys.values()]) > 0.98
    sizes = np.array([len(names.splits[name]) for name in SPLITS])
    np.testing.assert_allclose(sizes / sizes.sum(), [0.7, 0.1, 0.2], atol=0.02)


def test_names_say_what_they_fix(names: Dataset) -> None:
    spec = names.spec
    assert (spec.task, spec.inputs) == ("text-classification", "texts")
    assert spec.classes[:3] == ("Czech", "Danish", "German") and len(spec.classes) == 26
    seen = set("".join(names.splits["train"].inputs))
    assert spec.hparams == {
        "vocab_size": len(seen) + 2,
        "sequence_length": 32,
        "pad_token_id": 0,
        "num_classes": 26,
    }
    # The tokenizer has seen the training split alone.
    unseen = set("".join(names.splits["test"].inputs)) - seen
    for character in unseen:
        assert names.preprocessing.tokenizer.encode([character]) == [[1]]


def test_a_model_trains_on_names_and_takes_its_tokenizer_along(tmp_path: Path) -> None:
    run = kzoo.train(
        "text_cnn",
        "names",
        out=tmp_path / "run",
        epochs=1,
        filters=16,
        kernel_sizes=(3,),
        dropout_rate=0.0,
        embedding_dim=8,
        batch_size=512,
        learning_rate=0.02,
        # The recipe's are for thirty epochs.
        warmup_steps=0,
        ema=0.0,
    )
    assert run.metrics["test"]["accuracy"] > 0.15  # 26 classes: 0.04 by chance
    assert (run.folder / "model" / "tokenizer.json").exists()
    assert kzoo.evaluate(run) == run.metrics["test"]


# --- batches ----------------------------------------------------------------------


def test_tokens_of_a_batch_are_those_of_its_texts(names: Dataset) -> None:
    batch = names.train_batches(16, seed=1)[3]
    raw = names.splits["train"]
    np.testing.assert_array_equal(batch["labels"], raw.labels[batch["index"]])
    expected = names.preprocessing.inputs(raw.inputs[batch["index"]])
    np.testing.assert_array_equal(batch["inputs"], expected)


@pytest.mark.parametrize("workers", [2, 4])
def test_shards_of_texts_have_the_shape_of_the_global_batch(
    names: Dataset, workers: int
) -> None:
    """A worker whose own texts are short pads them as far as the others do."""
    data = names.augmented("character_drop:0.2", "character_swap:0.1")
    shapes = set()
    for step in range(40):
        whole = data.train_batches(8, seed=0)[step]
        parts = [
            data.train_batches(8, seed=0, shard=(rank, workers))[step]
            for rank in range(workers)
        ]
        for key in whole:
            together = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(together, whole[key])
        shapes.add(whole["inputs"].shape)
    assert {shape[1] for shape in shapes} == {16, 32}
    later = data.train_batches(8, seed=0, start_step=17)[0]
    np.testing.assert_array_equal(
        later["inputs"], data.train_batches(8, seed=0)[17]["inputs"]
    )


BATCHES = """
import os, sys
if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None
import keras
import kzoo
from tests.test_datasets import digest
assert keras.config.backend() == os.environ["KERAS_BACKEND"]
data = kzoo.load_dataset("names").augmented("character_drop:0.1", "character_swap")
print(digest(data, 0, steps=20))
print(digest(kzoo.load_dataset("csv:" + sys.argv[1], tokenizer="bpe"), 0, steps=20))
images = kzoo.load_dataset("folder:" + sys.argv[2])
print(digest(images.augmented("shift", "rotation", mixup=0.2), 0, steps=20))
"""


def test_files_and_texts_give_the_same_batches_on_every_backend(
    names: Dataset, tmp_path: Path
) -> None:
    """With TensorFlow blocked on JAX."""
    pytest.importorskip("jax")
    rows = [f'"{text}, and\n more",{i % 2}' for i, text in enumerate("abcdefghij" * 9)]
    table = tmp_path / "a.csv"
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    draw = np.random.default_rng(0)
    for i in range(40):
        place = tmp_path / "images" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (8, 8, 3)).astype("uint8")
        Image.fromarray(pixels).save(place / f"{i}.png")
    found = {
        subprocess.run(
            [sys.executable, "-c", BATCHES, str(table), str(tmp_path / "images")],
            env={**os.environ, "KERAS_BACKEND": backend},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for backend in ("tensorflow", "jax")
    }
    data = names.augmented("character_drop:0.1", "character_swap")
    assert len(found) == 1
    hashes = found.pop().split()
    assert len(set(hashes)) == 3 and hashes[0] == digest(data, 0, steps=20)
    assert hashes[0] != digest(names, 0, steps=20)  # a control


@given(
    st.lists(TEXT, min_size=2, max_size=9, unique=True),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(KINDS),
)
def test_each_text_comes_once_a_pass_with_its_own_label(
    values: list[str], rows: int, workers: int, kind: str
) -> None:
    labels = np.arange(len(values), dtype="int32")
    splits = dict.fromkeys(SPLITS, Split(array(values), labels))
    options = TextOptions(tokenizer=kind, max_length=64)
    data = text_dataset("given", options, splits, [str(i) for i in labels])
    batch, stream = rows * workers, []
    alone = {i: tokens_of(data, [text]) for i, text in enumerate(values)}
    for step in range(-(-2 * len(values) // batch)):
        parts = [
            data.train_batches(batch, 0, 0, (r, workers))[step] for r in range(workers)
        ]
        assert len({part["inputs"].shape for part in parts}) == 1
        for part in parts:
            assert len(part["labels"]) == rows
            stream += list(part["labels"])
            for tokens, label in zip(part["inputs"], part["labels"], strict=True):
                np.testing.assert_array_equal(tokens[tokens > 0], alone[int(label)])
    for start in (0, len(values)):
        assert sorted(stream[start : start + len(values)]) == list(labels)
    taken = list(data.eval_batches("test", batch))
    real = np.concatenate([one["labels"][one["weights"] > 0] for one in taken])
    np.testing.assert_array_equal(real, labels)


def tokens_of(data: Dataset, values: list[str]) -> np.ndarray:
    tokens = data.preprocessing.inputs(array(values))[0]
    return tokens[tokens > 0]


def test_a_length_chosen_by_each_worker_is_noticed(names: Dataset) -> None:
    """The negative control: what the test of shards above would not let pass."""
    raw = names.splits["train"].inputs
    shapes = {
        tuple(
            names.preprocessing.inputs(raw[index[part : part + 4]]).shape
            for part in (0, 4)
        )
        for index in (names.train_batches(8, 0).indices(step) for step in range(40))
    }
    assert any(one != two for one, two in shapes)


# --- characters -------------------------------------------------------------------


@given(st.lists(TEXT, min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 99))
def test_what_is_dropped_leaves_the_others_in_order(
    values: list[str], rate: float, seed: int
) -> None:
    found = characters.drop(array(values), np.random.default_rng(seed), rate)
    assert found.dtype == object and len(found) == len(values)
    for before, after in zip(values, found, strict=True):
        rest = iter(before)
        assert all(character in rest for character in after)
        assert bool(after) == bool(before)
        if rate == 0:
            assert after == before


@given(st.lists(TEXT, min_size=1, max_size=6), st.floats(0, 1), st.integers(0, 99))
def test_what_is_swapped_moves_by_one(
    values: list[str], rate: float, seed: int
) -> None:
    found = characters.swap(array(values), np.random.default_rng(seed), rate)
    for before, after in zip(values, found, strict=True):
        assert Counter(before) == Counter(after)
        i = 0
        while i < len(before):
            if before[i] == after[i]:
                i += 1
            else:
                assert before[i : i + 2] == after[i : i + 2][::-1]
                i += 2


def test_the_share_is_the_rate() -> None:
    many = array(["abcdefghij" * 10] * 100)
    kept = sum(map(len, characters.drop(many, np.random.default_rng(0), 0.2)))
    assert abs(kept / 10_000 - 0.8) < 0.02  # 5 sigma
    swapped = characters.swap(many, np.random.default_rng(0), 0.05)
    pairs = zip("".join(many), "".join(swapped), strict=True)
    moved = sum(before != after for before, after in pairs)
    # Each exchange moves two; one that follows another does not count.
    assert abs(moved / 20_000 - 0.05 * 0.95) < 0.012


def test_drops_hang_on_the_batch_alone() -> None:
    values = array(["Österreich", "Ελλάδα", "日本"])
    one = characters.drop(values, philox(0, "augmentation", 4), 0.4)
    two = characters.drop(values, philox(0, "augmentation", 4), 0.4)
    assert list(one) == list(two)
    told = hashlib.sha256("".join(one).encode()).hexdigest()
    other = characters.drop(values, philox(0, "augmentation", 5), 0.4)
    assert told != hashlib.sha256("".join(other).encode()).hexdigest()


def test_characters_are_for_texts() -> None:
    with pytest.raises(ValueError, match="'character_drop' is for texts; digits has"):
        kzoo.load_dataset("digits").augmented("character_drop")
    with pytest.raises(ValueError, match="'shift' is for images; names has texts"):
        kzoo.load_dataset("names").augmented("shift")
