"""Image files: decoded, brought to size, split; and what is wrong with a folder."""

import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.datasets import Dataset
from kzoo.datasets.loading import Kept
from kzoo.preprocessing.images import read_image, resized_crop

SPLITS = ("train", "validation", "test")


def photograph(seed: int, height: int = 24, width: int = 30) -> np.ndarray:
    """Smooth colours (height, width, 3) of 8 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = rng.uniform(1, 4, (3, 3))[..., None, None]
    planes = np.sin(waves[:, 0] * x + waves[:, 1] * y + waves[:, 2])
    return (127 + 120 * np.moveaxis(planes, 0, -1)).astype("uint8")


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of 3 classes, of which each says its number in its colours."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(60):
        name = ("cat", "dog", "emu")[number % 3]
        image = np.full((6, 6, 3), [number, 100, 200], "uint8")
        save(root / name / f"{number}.png", image)
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "README.md").write_text("none")
    return root


# --- files ------------------------------------------------------------------------


def test_image_is_resized_as_its_pixels_are(tmp_path: Path) -> None:
    """As the preprocessing does it to an array, but for the rounding."""
    for height, width, size in (
        (40, 60, (20, 20)),
        (33, 21, (30, 24)),
        (9, 9, (16, 16)),
    ):
        image = photograph(1, height, width)
        save(tmp_path / "a.png", image)
        found = read_image(tmp_path / "a.png", size, crop_rate=0.9)
        expected = resized_crop(image[None], size, 0.9, "bilinear")[0]
        assert (found.shape, found.dtype) == ((*size, 3), np.uint8)
        assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


def test_large_jpegs_are_decoded_at_a_fraction_and_look_the_same(
    tmp_path: Path,
) -> None:
    image = photograph(3, 400, 500)
    save(tmp_path / "a.jpg", image, quality=95)
    save(tmp_path / "a.png", image)
    small, exact = (
        read_image(tmp_path / f"a.{end}", (32, 32)) for end in ("jpg", "png")
    )
    assert np.abs(small.astype(int) - exact).max() <= 4


def test_photographs_are_turned_as_the_camera_says(tmp_path: Path) -> None:
    image = photograph(2)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees, clockwise, to be seen
    save(tmp_path / "a.jpg", image, exif=exif, quality=100, subsampling=0)
    found = read_image(tmp_path / "a.jpg")
    assert np.abs(found.astype(int) - np.rot90(image, -1)).max() <= 6


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_become_as_many_channels(tmp_path: Path, channels: int) -> None:
    image = photograph(2)
    for number, mode in enumerate(("RGB", "L", "P", "RGBA", "1", "LA", "CMYK")):
        path = tmp_path / f"{number}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.fromarray(image).convert(mode).save(path)
        found = read_image(path, channels=channels)
        assert (found.shape, found.dtype) == ((24, 30, channels), np.uint8)
    deep = np.arange(24 * 30, dtype="uint16").reshape(24, 30) * 90
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = read_image(tmp_path / "deep.png", channels=1)[..., 0]
    assert np.abs(found.astype(int) - deep // 256).max() <= 1


# --- a folder ---------------------------------------------------------------------


def test_folder_is_classes_split_by_paths(photographs: Path) -> None:
    data = kzoo.load_dataset(f"folder:{photographs}", seed=1)
    assert data.spec.task == "image-classification"
    assert data.spec.classes == ("cat", "dog", "emu")
    assert data.spec.hparams == {"image_size": 6, "channels": 3, "num_classes": 3}
    numbers = []
    for name in SPLITS:
        split = data.splits[name]
        rows = split.rows(np.arange(len(split)))
        numbers += (found := rows[:, 0, 0, 0].tolist())
        np.testing.assert_array_equal(split.labels, np.array(found) % 3)
    assert sorted(numbers) == list(range(60))
    batch = data.train_batches(8, 0)[3]
    raw = data.splits["train"].rows(batch["index"])
    np.testing.assert_array_equal(batch["inputs"], raw / np.float32(255))
    np.testing.assert_array_equal(batch["labels"], raw[:, 0, 0, 0] % 3)


def test_an_image_keeps_its_split_when_others_come_or_go(
    tmp_path: Path,
) -> None:
    def parts(data: Dataset) -> dict[int, str]:
        return {
            number: name
            for name, split in data.splits.items()
            for number in split.rows(np.arange(len(split)))[:, 0, 0, 0].tolist()
        }

    for number in range(240):  # of two classes, none of them rare
        image = np.full((2, 2), number, "uint8")
        save(tmp_path / "all" / "ab"[number % 2] / f"{number}.png", image)
    before = kzoo.load_dataset(f"folder:{tmp_path / 'all'}")
    shutil.copytree(tmp_path / "all", tmp_path / "fewer")
    for number in range(0, 240, 9):
        next((tmp_path / "fewer").glob(f"*/{number}.png")).unlink()
    after = kzoo.load_dataset(f"folder:{tmp_path / 'fewer'}")
    assert len(parts(after)) == 213
    assert parts(after).items() <= parts(before).items()
    assert after.spec.fingerprint != before.spec.fingerprint
    other = kzoo.load_dataset(f"folder:{tmp_path / 'all'}", seed=3)
    assert len(other.splits["test"].labels) != 0


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "validation", "test"), {"validation": 1, "test": 2}),
        (("train", "val", "test"), {"validation": 1, "test": 2}),
        (("train", "val"), {"validation": 0, "test": 1}),
        (("train", "test"), {"validation": 0, "test": 1}),
    ],
)
def test_folders_of_splits_are_the_splits(
    tmp_path: Path, folders: tuple[str, ...], expected: dict[str, int]
) -> None:
    for number, folder in enumerate(folders):
        for i in range(40 if number == 0 else 4):
            image = np.full((4, 4, 3), number, "uint8")
            save(tmp_path / folder / "ab"[i % 2] / f"{i}.png", image)
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    for name, number in {"train": 0, **expected}.items():
        split = data.splits[name]
        assert (split.rows(np.arange(len(split))) == number).all()
        assert set(split.labels.tolist()) == {0, 1}
    assert sum(len(split) for split in data.splits.values()) == 36 + 4 * len(folders)


def test_sizes_and_channels_that_differ(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "ab"[i % 2] / f"{i}.jpg", photograph(i, 20 + i, 20)[..., 0])
    data = kzoo.load_dataset(f"folder:{tmp_path}")
    assert data.spec.hparams == {"image_size": 224, "channels": 1, "num_classes": 2}
    data = kzoo.load_dataset(f"folder:{tmp_path}", image_size=(8, 12), channels=3)
    assert data.spec.hparams["image_size"] == (8, 12)
    assert data.train_batches(3, 0)[0]["inputs"].shape == (3, 8, 12, 3)
    assert data.preprocessing.image_size == (8, 12)


def test_images_stay_in_memory_where_they_fit(photographs: Path) -> None:
    small = kzoo.load_dataset(f"folder:{photographs}").splits["train"]
    read = kzoo.load_dataset(f"folder:{photographs}", memory=0).splits["train"]
    assert isinstance(small, Kept)
    assert not isinstance(read, Kept)
    index = np.array([3, 0, 3, 7])
    for _ in range(2):
        np.testing.assert_array_equal(small.rows(index), read.rows(index))


# --- what is wrong with it --------------------------------------------------------


def test_damaged_image_is_named_or_left_out(
    photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)
    whole = (root / "dog" / "1.png").read_bytes()
    cut = root / "dog" / "1.png"
    cut.write_bytes(whole[:-25])  # its header is sound
    source = f"folder:{root}"
    data = kzoo.load_dataset(source)
    with pytest.raises(ValueError, match=rf"{re.escape(str(cut))} is no image that"):
        for split in data.splits.values():
            split.rows(np.arange(len(split)))
    empty = root / "cat" / "0.png"
    empty.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{empty} is no image .*skip_corrupt=true"):
        kzoo.load_dataset(source)
    data = kzoo.load_dataset(source, skip_corrupt=True)
    assert "2 of 60 images" in caplog.text
    assert str(empty) in caplog.text
    rows = [split.rows(np.arange(len(split))) for split in data.splits.values()]
    assert sorted(np.concatenate(rows)[:, 0, 0, 0]) == [
        i for i in range(60) if i not in (0, 1)
    ]


def test_damaged_image_ends_a_run_by_its_name(
    photographs: Path, tmp_path: Path
) -> None:
    """Whatever the backend makes of an exception in its input."""
    root = tmp_path / "photographs"
    shutil.copytree(photographs, root)
    data = kzoo.load_dataset(f"folder:{root}")
    # Neither of the first two batches, which Keras looks at before it trains.
    late = data.train_batches(4, 0)[6]["index"][0]
    path = data.splits["train"].examples.files[late]
    path.write_bytes(path.read_bytes()[:-25])
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))} is no image that"):
        kzoo.train("mlp", f"folder:{root}", out=tmp_path / "run", batch_size=4)
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("kzoo-batches")]


def nothing(root: Path) -> None:
    """An empty folder."""


def one_class(root: Path) -> None:
    for i in range(5):
        save(root / "cat" / f"{i}.png", photograph(i))


def one_image(root: Path) -> None:
    one_class(root)
    save(root / "dog" / "0.png", photograph(0))


def no_class(root: Path) -> None:
    for i in range(5):
        save(root / f"{i}.png", photograph(i))


def two_validations(root: Path) -> None:
    for split in ("train", "val", "validation"):
        one_class(root / split)


def no_test_images(root: Path) -> None:
    one_image(root / "train")
    (root / "test").mkdir()


def few(root: Path) -> None:
    for name in ("cat", "dog"):
        for i in range(2):
            save(root / name / f"{i}.png", photograph(i))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (nothing, "there are no images in {}: expected one folder for each class"),
        (no_class, "there are no images in {}: expected one folder for each class"),
        (one_class, "{} has one class alone, 'cat'; two are needed"),
        (one_image, "class 'dog' in {} has 1 image; it needs one to learn from and"),
        (
            two_validations,
            "{} has two folders for the validation split, val and validation",
        ),
        (no_test_images, "there are no images in {}/test: expected one folder for"),
        (few, "in {} is in the "),
    ],
)
def test_folders_that_hold_no_set(tmp_path: Path, fill: Any, message: str) -> None:
    fill(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message.format(tmp_path))):
        kzoo.load_dataset(f"folder:{tmp_path}")


def test_no_folder(tmp_path: Path) -> None:
    message = f"folder:{tmp_path}/x: there is no folder {tmp_path}/x"
    with pytest.raises(ValueError, match=message):
        kzoo.load_dataset(f"folder:{tmp_path}/x")
    with pytest.raises(ValueError, match=r"has no option 'sed'\. Did you mean 'seed'"):
        kzoo.load_dataset(f"folder:{tmp_path}", sed=1)
