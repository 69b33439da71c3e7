"""Which examples are in which split: by a hash, fair to rare classes, by groups."""

import csv
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

import kzoo
from kzoo.datasets.splits import (
    SPLITS,
    fair_parts,
    grouped_parts,
    hashed_parts,
    split_of,
)


def keys_of(count: int, word: str = "") -> list[bytes]:
    return [f"{word}{i}".encode() for i in range(count)]


def counts_of(parts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Examples of each class in each split (classes, 3)."""
    return np.array([np.bincount(parts[labels == c], minlength=3) for c in set(labels)])


# --- rare classes -----------------------------------------------------------------


def test_plenty_of_examples_are_split_by_their_hash_alone() -> None:
    keys, labels = keys_of(600), np.arange(600) % 3
    parts = fair_parts(keys, labels, seed=4)
    assert [SPLITS[part] for part in parts] == [split_of(key, 4) for key in keys]
    np.testing.assert_array_equal(parts, hashed_parts(keys, 4))


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_has_its_share_and_the_others_stay(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys = keys_of(300) + keys_of(20, "rare")
    labels = np.repeat([0, 1], [300, 20])
    with caplog.at_level(logging.INFO, "kzoo"):
        parts = fair_parts(keys, labels, seed, names=("cat", "emu"))
    before = hashed_parts(keys, seed)
    np.testing.assert_array_equal(parts[:300], before[:300])
    if caplog.messages:  # else the hash was fair
        assert "emu (20)" in caplog.text
        assert "cat" not in caplog.text
        assert np.bincount(parts[300:]).tolist() == [14, 2, 4]  # 70, 10 and 20 %
    assert (np.bincount(parts[300:], minlength=3)[1:] >= [2, 4]).all()


@given(
    st.lists(st.integers(1, 30), min_size=2, max_size=5),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_shares_do_not_hang_on_the_order_of_examples(
    sizes: list[int], seed: int, draw: Any
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = keys_of(len(labels))
    parts = fair_parts(keys, labels, seed)
    order = list(range(len(labels)))
    draw.shuffle(order)
    shuffled = fair_parts([keys[i] for i in order], labels[order], seed)
    np.testing.assert_array_equal(shuffled, parts[order])
    for size, (train, validation, test) in zip(
        sizes, counts_of(parts, labels), strict=True
    ):
        assert train >= 1
        assert validation >= max(int(0.1 * size), size >= 3)
        assert test >= max(int(0.2 * size), size >= 2)


def test_equal_keys_of_a_rare_class_stay_together() -> None:
    keys = [b"%d" % (i // 4) for i in range(80)]
    labels = np.arange(80) // 4 % 2
    labels[:2] = 1 - labels[:2]  # one key has examples of both classes
    for seed in range(20):
        parts = fair_parts(keys, labels, seed)
        assert len(set(zip(keys, parts.tolist(), strict=True))) == 20
        assert set(parts.tolist()) == {0, 1, 2}


def test_small_sets_of_targets_have_all_splits() -> None:
    for seed in range(20):
        keys = keys_of(12)
        parts = fair_parts(keys, None, seed)
        before = hashed_parts(keys, seed)
        if len(set(before.tolist())) == 3:
            np.testing.assert_array_equal(parts, before)
        assert set(parts.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("kind", ["folder", "csv", "arrays"])
def test_a_rare_class_of_each_source_is_in_every_split(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["cat"] * 110 + ["emu"] * 8 + ["owl"] * 20
    source: Any
    if kind == "folder":
        for i, name in enumerate(names):
            (tmp_path / name).mkdir(exist_ok=True)
            pixels = np.full((2, 2), i, "uint8")
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
        source = f"folder:{tmp_path}"
    elif kind == "csv":
        with open(tmp_path / "a.csv", "w", newline="", encoding="utf-8") as file:
            rows = [(f"text {i}", name) for i, name in enumerate(names)]
            csv.writer(file).writerows([("text", "label"), *rows])
        source = f"csv:{tmp_path / 'a.csv'}"
    else:
        inputs = np.random.default_rng(0).normal(size=(len(names), 3))
        source = (inputs, np.unique(names, return_inverse=True)[1])
    with caplog.at_level(logging.INFO, "kzoo"):
        found = [kzoo.load_dataset(source, seed=seed) for seed in range(4)]
    for data in found:
        counts = [Counter(data.splits[name].labels.tolist()) for name in SPLITS]
        for label, least in ((1, (1, 1)), (2, (2, 4))):
            assert counts[0][label] >= 1
            assert (counts[1][label], counts[2][label]) >= least
            assert counts[2][label] >= least[1]
    assert ("emu (8)" if kind != "arrays" else "1 (8)") in caplog.text or (
        kind == "arrays"  # scikit-learn's own strata may do
    )


def test_a_folder_with_its_own_test_keeps_it_and_validates_on_each_class(
    tmp_path: Path,
) -> None:
    for split, count in (("train", 16), ("test", 3)):
        for i in range(2 * count):
            folder = tmp_path / split / ("cat", "emu")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((2, 2), i, "uint8")).save(folder / f"{i}.png")
    for seed in range(4):
        data = kzoo.load_dataset(f"folder:{tmp_path}", seed=seed)
        assert np.bincount(data.splits["test"].labels).tolist() == [3, 3]
        counts = np.bincount(data.splits["validation"].labels, minlength=2)
        assert (counts >= 2).all()  # an eighth of 16


# --- groups -----------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 12), min_size=6, max_size=40),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_a_group_is_in_one_split_whatever_the_order(
    sizes: list[int], seed: int, draw: Any
) -> None:
    groups = [f"g{i}" for i, size in enumerate(sizes) for _ in range(size)]
    parts = grouped_parts(groups, None, seed)
    assert len(set(zip(groups, parts.tolist(), strict=True))) == len(sizes)
    assert set(parts.tolist()) == {0, 1, 2}
    order = list(range(len(groups)))
    draw.shuffle(order)
    shuffled = grouped_parts([groups[i] for i in order], None, seed)
    np.testing.assert_array_equal(shuffled, parts[order])


def test_groups_are_shared_out_about_as_evenly_as_scikit_learn_does_it() -> None:
    """The test split of 20 % against that of the best of five folds."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        group = np.sort(rng.integers(0, 40, 600))
        labels = (rng.random(600) < np.linspace(0.02, 0.5, 40)[group]).astype(int)
        parts = grouped_parts([str(one) for one in group], labels, seed)
        shares = counts_of(parts, labels) / np.bincount(labels)[:, None]
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs = [
            np.abs(np.bincount(labels[test]) / np.bincount(labels) - 0.2).max()
            for _, test in folds.split(labels, labels, group)
        ]
        assert np.abs(shares[:, 2] - 0.2).max() < max(theirs) + 0.05
        assert np.abs(shares[:, 1] - 0.1).max() < 0.1


def test_many_groups_are_split_by_the_hash_of_their_names() -> None:
    groups = [str(i // 2) for i in range(1000)]
    parts = grouped_parts(groups, np.arange(1000) % 2, 3)
    expected = hashed_parts([group.encode() for group in groups], 3)
    np.testing.assert_array_equal(parts, expected)


@pytest.mark.parametrize(
    ("groups", "labels", "message"),
    [
        (["a"] * 9, None, "1 group is too few to split by groups: no validation"),
        (["a", "b"] * 9, None, "2 groups are too few to split by groups: no test"),
        (["a", "b", "c", "d"] * 2, [0, 1, 2, 3] * 2, "4 groups are too few"),
    ],
)
def test_too_few_groups_are_one_line(
    groups: list[str], labels: list[int] | None, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        grouped_parts(groups, None if labels is None else np.array(labels), 0)


def table(path: Path, patients: int) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = [
            (f"p{i % patients}", i / 7, (i * i) % 13, ("well", "ill")[i % 2])
            for i in range(120)
        ]
        header = ("patient", "age", "weight", "state")
        csv.writer(file).writerows([header, *rows])
    return f"csv:{path}"


def test_rows_of_one_patient_are_in_one_split(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv", 9)
    data = kzoo.load_dataset(source, groups="patient")
    assert data.spec.hparams["num_features"] == 2  # the patient is no input
    ages = {round(i / 7, 3): f"p{i % 9}" for i in range(120)}
    owners = [
        {ages[round(float(age), 3)] for age in data.splits[name].inputs[:, 0]}
        for name in SPLITS
    ]
    assert sum(map(len, owners)) == 9
    assert all(owners)
    with pytest.raises(ValueError, match="'patient': 2 groups are too few to split"):
        kzoo.load_dataset(table(tmp_path / "b.csv", 2), groups="patient")
    with pytest.raises(ValueError, match=r"no column 'patent'\. Did you mean"):
        kzoo.load_dataset(source, groups="patent")
    with pytest.raises(ValueError, match="split=state says the splits already"):
        kzoo.load_dataset(source, groups="patient", split="state", label="age")
