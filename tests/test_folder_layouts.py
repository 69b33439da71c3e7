"""Which folders are splits, which are classes, and which files are images."""

import logging
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.datasets.image_files import find_images, similar_names


def fill(folder: Path, number: int = 4, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        pixels = np.full((4, 4, 3), value, "uint8")
        Image.fromarray(pixels).save(folder / f"{i}.png")


def fill_classes(folder: Path, number: int = 4, value: int = 0) -> None:
    for name in ("cat", "dog"):
        fill(folder / name, number, value)


def values(root: Path, split: str) -> set[int]:
    """Which values the pixels of a split have."""
    part = kzoo.load_dataset(f"folder:{root}").splits[split]
    return set(np.unique(part.rows(np.arange(len(part)))).tolist())


def refused(root: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        kzoo.load_dataset(f"folder:{root}")
    assert "\n" not in str(caught.value)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "kzoo")
    return caplog


# --- splits -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "valid", "test"),
        ("Train", "Val", "Test"),
        ("TRAINING", "dev", "testing"),
        ("training_set", "validation-set", "Test Data"),
        ("train2017", "val2017", "test2017"),
        ("train", "development", "eval"),
    ],
)
def test_names_of_splits_in_any_spelling(
    tmp_path: Path, train: str, validation: str, test: str
) -> None:
    for value, name in enumerate((train, validation, test)):
        fill_classes(tmp_path / name, value=value)
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    assert data.spec.classes == ("cat", "dog")
    for value, split in enumerate(("train", "validation", "test")):
        assert values(tmp_path, split) == {value}
        assert len(data.splits[split]) == 8


@pytest.mark.parametrize("other", ["valid", "Dev", "Test", "evaluation"])
def test_two_splits_leave_an_eighth_to_validate(tmp_path: Path, other: str) -> None:
    fill_classes(tmp_path / "Training", 20)
    fill_classes(tmp_path / other, value=1)
    assert values(tmp_path, "test") == {1}
    assert values(tmp_path, "validation") == values(tmp_path, "train") == {0}


def test_a_split_alone_is_refused(tmp_path: Path) -> None:
    fill_classes(tmp_path / "Train")
    refused(
        tmp_path,
        r"has the folder Train .*add validation or test, or give folder:.*/Train",
    )
    fill_classes(tmp_path / "other" / "val")
    fill_classes(tmp_path / "other" / "test")
    refused(
        tmp_path / "other", "has the folder test, val .* none of the training split"
    )


def test_two_names_of_a_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "Training", "test"):
        fill_classes(tmp_path / name)
    refused(tmp_path, "has two folders for the train split, Training and train")


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    for name in ("Train", "Test"):
        fill(tmp_path / name)
    refused(tmp_path, r"no images in .*Train: expected one folder .*0\.png is in none")


def test_a_class_may_be_called_train(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bus", "car", "train"):
        fill(tmp_path / name, 12)
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    assert data.spec.classes == ("bus", "car", "train")
    assert "train in" in caplog.text and "is a class, not a split" in caplog.text


def test_splits_among_classes_are_refused(tmp_path: Path) -> None:
    fill_classes(tmp_path / "train")
    fill(tmp_path / "bird")
    refused(tmp_path, r"holds train, named as a split is, beside bird/: put all")
    shutil.rmtree(tmp_path / "train")
    for name in ("train", "test"):
        fill(tmp_path / name)
    refused(tmp_path, r"holds test, train, named as a split is, beside bird/")


def test_what_lies_beside_the_splits_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("train", "test", "unlabelled"):
        fill_classes(tmp_path / name, 12)
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    assert sum(map(len, data.splits.values())) == 48
    assert "has the splits test, train; unlabelled/ left out" in caplog.text


def test_a_folder_around_the_classes_is_pointed_to(tmp_path: Path) -> None:
    fill_classes(tmp_path / "images")
    refused(tmp_path, rf"one class alone, 'images'.*; is it folder:{tmp_path}/images\?")


# --- classes ----------------------------------------------------------------------


def test_folders_without_images_are_named(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    fill_classes(tmp_path, 12)
    fill(tmp_path / "emu", 0)
    fill(tmp_path / "gnu", 0)
    for name in ("1.HEIC", "2.heic", "3.mp4"):
        (tmp_path / "gnu" / name).write_bytes(b"x")
    fill(tmp_path, 2)
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    assert data.spec.classes == ("cat", "dog")
    assert f"{tmp_path}/emu is no class: it holds no image" in told.text
    assert (
        "gnu is no class: it holds no image that kzoo reads, but 2 .heic, 1 .mp4"
        in (told.text)
    )
    assert "3 files under" in told.text and "gnu/1.HEIC" in told.text
    assert f"2 images lie directly in {tmp_path}" in told.text
    shutil.rmtree(tmp_path / "cat")
    shutil.rmtree(tmp_path / "dog")
    refused(tmp_path, r"there are no images in .* is in none")
    for file in tmp_path.glob("*.png"):
        file.unlink()
    refused(tmp_path, r"there are no images in .*; there are 2 \.heic, 1 \.mp4")


def test_log_of_a_run_says_what_was_left_out(tmp_path: Path) -> None:
    for name in ("Train", "dev"):
        fill_classes(tmp_path / "photos" / name, 20)
        (tmp_path / "photos" / name / "cat" / "a.heic").write_bytes(b"x")
    fill(tmp_path / "photos" / "Train" / "emu", 0)
    name = os.fsdecode(b"photo \xff.png")
    shutil.copy(tmp_path / "photos/dev/dog/0.png", tmp_path / "photos/dev/dog" / name)
    (tmp_path / "photos/dev/cat" / os.fsdecode(b"a \xff.heic")).write_bytes(b"x")
    source = f"folder:{tmp_path}/photos"
    run = kzoo.train("mlp", source, out=tmp_path / "run", epochs=1, units=(2,))
    text = (run.folder / "log.txt").read_text(encoding="utf-8")
    assert "3 files under" in text and "3 .heic" in text
    assert "Train/emu is no class" in text
    # Names that are not UTF-8 are read, be the folders splits or classes.
    assert len(kzoo.load_dataset(source).splits["test"]) == 41
    assert kzoo.load_dataset(f"folder:{tmp_path}/photos/dev").spec.classes == (
        "cat",
        "dog",
    )


def test_names_that_hardly_differ_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (" cat", "cat", "1", "01", "caf\u00e9", "cafe\u0301", "dog"):
        fill(tmp_path / name, 40)
    assert len(kzoo.load_dataset(f"folder:{tmp_path}").spec.classes) == 7
    assert "' cat' and 'cat' are 2 classes of" in caplog.text
    assert "'01' and '1' are 2 classes of" in caplog.text
    named = [r for r in caplog.records if "classes of" in r.message]
    assert len(named) == 3
    assert list(similar_names(["0", "00", "NA", "na", "-1", "1"])) == [
        ["0", "00"],
        ["NA", "na"],
    ]


# --- files ------------------------------------------------------------------------


def test_hidden_files_at_any_depth_are_no_images(tmp_path: Path) -> None:
    fill_classes(tmp_path, 12)
    before = kzoo.load_dataset(f"folder:{tmp_path}").spec.fingerprint
    for left in (
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "cat/deep/.thumbnails/1.png",
        "dog/._1.png",
        "dog/__MACOSX/1.png",
        "@eaDir/1.png",
        ".git/1.png",
    ):
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "cat" / "1.png", tmp_path / left)
    (tmp_path / "dog" / "Thumbs.db").write_bytes(b"x")
    assert kzoo.load_dataset(f"folder:{tmp_path}").spec.fingerprint == before
    # The data themselves may lie in a hidden folder.
    hidden = tmp_path.parent / f".{tmp_path.name}"
    shutil.move(tmp_path, hidden)
    assert kzoo.load_dataset(f"folder:{hidden}").spec.fingerprint == before


def test_links_to_folders_are_followed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    fill_classes(root, 3)
    fill(elsewhere / "more", 2)
    (elsewhere / "back").symlink_to(elsewhere)
    (root / "cat" / "linked").symlink_to(elsewhere)
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "twin").symlink_to(root / "dog")
    (root / "cat" / "again").symlink_to(elsewhere / "more")
    found = find_images(root / "cat", root)
    names = [file.relative_to(root / "cat").as_posix() for file in found.images]
    assert names == ["0.png", "1.png", "2.png", "again/0.png", "again/1.png"]
    assert [link.name for link in found.links] == ["linked", "loop", "twin"]
    (root / "emu").symlink_to(elsewhere / "more")  # a class that is a link
    fill(elsewhere / "more", 40)
    for name in ("cat", "dog"):
        fill(root / name, 40)
    assert kzoo.load_dataset(f"folder:{root}").spec.classes == ("cat", "dog", "emu")
    assert "links to folders that are read already are not followed" in caplog.text


def test_only_files_are_images(tmp_path: Path) -> None:
    fill_classes(tmp_path, 3)
    (tmp_path / "cat" / "folder.png").mkdir()
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = find_images(tmp_path / "cat")
    assert [file.name for file in found.images] == [
        "0.png",
        "1.png",
        "2.png",
        "gone.png",
    ]
    assert [file.name for file in found.others] == ["pipe.png"]
    refused(
        tmp_path, re.escape(f"{tmp_path}/cat/gone.png is no image that can be read")
    )


def test_the_hint_at_skip_corrupt_comes_with_each_error(tmp_path: Path) -> None:
    fill_classes(tmp_path, 12)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(file.read_bytes()[:-25])
    part = kzoo.load_dataset(f"folder:{tmp_path}").splits["train"]
    with pytest.raises(
        ValueError, match="; --data skip_corrupt=true leaves such files"
    ):
        part.rows(np.arange(2))
