"""Augmentation and mixing: pixels by Pillow and scipy, draws by their statistics."""

import hashlib
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import ndimage

import kzoo
from kzoo.datasets import pixels
from kzoo.datasets.augmentation import (
    AUGMENTATIONS,
    CHANGES,
    affine,
    around_centre,
    augment,
    erasing,
    find_augmentation,
    flip,
    randaugment,
    turns,
)
from kzoo.datasets.mixing import mixed, soft_labels

IMAGES = [name for name, one in AUGMENTATIONS.items() if one.inputs == "images"]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def photographs(count: int = 6, height: int = 23, width: int = 31) -> np.ndarray:
    """Smooth colours with noise, of 8 bits, no two alike: (count, height, width, 3)."""
    rng = generator(5)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = rng.uniform(1, 6, (count, 3, 4))[..., None, None]
    smooth = np.sin(waves[:, :, 0] * x + waves[:, :, 1] * y + waves[:, :, 2])
    planes = 127 + (20 + 15 * waves[:, :, 3]) * smooth
    noisy = np.moveaxis(planes, 1, -1) + rng.normal(0, 8, (count, height, width, 3))
    return noisy.clip(0, 255).astype("uint8")


PHOTOGRAPHS = photographs()


def pillow(
    images: np.ndarray, change: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def assert_near(ours: np.ndarray, theirs: np.ndarray, most: int) -> None:
    assert ours.dtype == theirs.dtype == np.uint8
    distance = np.abs(ours.astype(int) - theirs.astype(int))
    assert distance.max() <= most, (distance.max(), (distance > most).mean())


# --- all of them ------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int32"])
def test_shape_and_type_stay(name: str, dtype: str) -> None:
    if AUGMENTATIONS[name].bytes_only and dtype != "uint8":
        pytest.skip("for 8 bits")
    for shape in ((1, 1, 1, 1), (3, 8, 8, 1), (2, 9, 5, 3), (2, 4, 7, 2)):
        images = generator(1).integers(0, 256, shape).astype(dtype)
        before = images.copy()
        found = augment([name], images, generator())
        assert (found.shape, found.dtype) == (images.shape, images.dtype)
        np.testing.assert_array_equal(images, before)  # the caller's own
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", IMAGES)
def test_generator_decides(name: str) -> None:
    one, again, other = (augment([name], PHOTOGRAPHS, generator(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_drawn_does_not_hang_on_the_pixels(name: str) -> None:
    """So that the next augmentation, or another version of the data, draws the same."""
    ends = []
    for images in (PHOTOGRAPHS, np.zeros_like(PHOTOGRAPHS)):
        rng = generator(2)
        augment([name], images, rng)
        ends.append(rng.integers(0, 2**62))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("name", IMAGES)
def test_images_do_not_touch_one_another(name: str) -> None:
    alone = np.zeros_like(PHOTOGRAPHS)
    alone[2] = PHOTOGRAPHS[2]
    together = augment([name], PHOTOGRAPHS, generator(8))
    np.testing.assert_array_equal(augment([name], alone, generator(8))[2], together[2])


def test_several_go_in_order() -> None:
    found = augment(("flip", "shift"), PHOTOGRAPHS, generator())
    rng = generator()
    step = AUGMENTATIONS["flip"].function(PHOTOGRAPHS, rng, 0.5)
    expected = AUGMENTATIONS["shift"].function(step, rng, 1 / 8)
    np.testing.assert_array_equal(found, expected)
    assert (found != augment(("shift", "flip"), PHOTOGRAPHS, generator())).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rotaton", "unknown augmentation 'rotaton'. Did you mean 'rotation'?"),
        ("rotation:x", "augmentation 'rotation:x': 'x' is not degrees from 0 to 180"),
        ("rotation:181", "augmentation 'rotation:181': '181' is not degrees from 0"),
        ("crop:-1", "augmentation 'crop:-1': '-1' is not the least share of the area"),
        ("flip:nan", "augmentation 'flip:nan': 'nan' is not a share of the images"),
    ],
)
def test_unknown_names_and_strengths(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        find_augmentation(name)


# --- moving pixels ----------------------------------------------------------------


def test_shifts_bits_are_what_they_were_in_the_first_release() -> None:
    images = np.arange(5 * 9 * 17 * 3).reshape(5, 9, 17, 3).astype("uint8")
    found = hashlib.sha256(augment(["shift"], images, generator(7)).tobytes())
    assert found.hexdigest().startswith("a934a674350a697a711a75a4ab313f0e")


def test_warp_is_scipys_affine_transform() -> None:
    rng = generator(1)
    images = PHOTOGRAPHS.astype("float32")
    maps = np.tile(np.eye(2, 3), (len(images), 1, 1))
    maps += rng.normal(0, 0.2, maps.shape) * [1, 1, 20]
    ours = pixels.warp(images, maps)
    for image, found, (across, down) in zip(images, ours, maps, strict=True):
        matrix = np.array([[down[1], down[0]], [across[1], across[0]]])
        offset = (down[2], across[2])
        for channel in range(3):
            theirs = ndimage.affine_transform(
                image[..., channel], matrix, offset, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(found[..., channel], theirs, atol=0.02)


def test_zoom_is_pillows_affine_transform() -> None:
    """Whose bilinear filter leaves out what lies beyond the rim; look inside."""
    image = photographs(1, 40, 40)
    found = augment(["zoom:0.3"], image, generator(3))
    factor = math.exp(generator(3).uniform(-0.3, 0.3))
    offset = 20 - 20 / factor
    numbers = (1 / factor, 0, offset, 0, 1 / factor, offset)
    theirs = Image.fromarray(image[0]).transform(
        (40, 40), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR
    )
    inside = slice(8, -8)
    ours = found[0, inside, inside]
    assert_near(ours, np.asarray(theirs)[inside, inside], 1)
    assert abs(factor - 1) > 0.05


def by_pillow(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """An image through (3, 3), of pixels counted from the centre; inside of the rim."""
    size = image.shape[0]
    centre = np.eye(3)
    centre[:2, 2] = size / 2  # Pillow counts from the corner of the first pixel
    numbers = (centre @ matrix @ np.linalg.inv(centre))[:2].ravel().tolist()
    found = Image.fromarray(image).transform(
        (size, size), Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR
    )
    return np.asarray(found)[10:-10, 10:-10]


def drawn_matrix(name: str, rng: np.random.Generator, size: int) -> np.ndarray:
    """What a map of one image has to be: where each pixel was."""
    word, strength = name.split(":")
    most, matrix = float(strength), np.eye(3)
    if word == "rotation":
        angle = math.radians(rng.uniform(-most, most))
        cosine, sine = math.cos(angle), math.sin(angle)
        matrix[:2, :2] = [[cosine, -sine], [sine, cosine]]
    elif word == "stretch":
        wider, taller = np.exp(rng.uniform(-most, most, 2))
        matrix[0, 0], matrix[1, 1] = 1 / wider, 1 / taller
    elif word == "shear":
        matrix[0, 1] = math.tan(math.radians(rng.uniform(-most, most)))
    elif word == "translation":
        matrix[:2, 2] = rng.uniform(-most, most, 2) * size
    return matrix


@pytest.mark.parametrize(
    "names",
    [
        ("stretch:0.3",),
        ("shear:25",),
        ("translation:0.12",),
        ("rotation:20", "translation:0.1"),
        ("translation:0.1", "rotation:20"),
        ("rotation:10", "stretch:0.2", "shear:10", "translation:0.1"),
    ],
    ids=",".join,
)
def test_moves_are_pillows_and_resampled_once(names: tuple[str, ...]) -> None:
    image = photographs(1, 48, 48)
    rng, matrix = generator(2), np.eye(3)
    for name in names:
        matrix = matrix @ drawn_matrix(name, rng, 48)
    ours = augment(names, image, generator(2))[0, 10:-10, 10:-10]
    assert_near(ours, by_pillow(image[0], matrix), 1)
    assert np.abs(ours.astype(int) - image[0, 10:-10, 10:-10]).max() > 20


def test_turns_and_zooms_in_a_row_are_resampled_once() -> None:
    image = photographs(1, 32, 32)
    found = augment(["rotation:30", "zoom:0.2"], image, generator(1))
    rng = generator(1)
    angle = np.deg2rad(rng.uniform(-30, 30, 1))
    factor = np.exp(rng.uniform(-0.2, 0.2, 1))
    maps = around_centre(affine(turns(angle) / factor), image.shape)
    np.testing.assert_array_equal(found, pixels.warp(image, maps))
    twice = augment(["zoom:0.2"], augment(["rotation:30"], image, generator(1)), rng)
    assert (found != twice).any()


def test_translation_is_of_the_images_sizes_and_of_parts_of_pixels() -> None:
    """Read off ramps: the place of a pixel is its value."""
    y, x = np.mgrid[:20, :60].astype("float32")
    ramps = np.broadcast_to(np.stack([y, x], axis=-1), (2000, 20, 60, 2))
    found = augment(["translation:0.1"], ramps, generator())
    down, along = np.moveaxis(found[:, 10, 30] - (10, 30), -1, 0)
    for moved, most in ((down, 2), (along, 6)):
        assert 0.97 * most < moved.max() <= most
        assert -most <= moved.min() < -0.97 * most
        assert moved.std() == pytest.approx(most / math.sqrt(3), rel=0.05)
        assert len(np.unique(moved.round(3))) > 500


def test_rotation_by_quarters_is_exact() -> None:
    square = photographs(4, 12, 12)
    for quarters in range(4):
        angles = np.full(4, quarters * math.pi / 2)
        found = pixels.warp(square, around_centre(affine(turns(angles)), square.shape))
        np.testing.assert_array_equal(found, np.rot90(square, quarters, axes=(1, 2)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_boxes_are_resized_as_pillow_resizes_them(
    height: int, width: int, seed: int
) -> None:
    images, rng = photographs(2, height, width), generator(seed)
    tall, wide = rng.integers(1, height + 1, 2), rng.integers(1, width + 1, 2)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    ours = pixels.resized_boxes(images, np.stack([top, left, tall, wide], axis=1))
    for i, image in enumerate(images):
        box = (left[i], top[i], left[i] + wide[i], top[i] + tall[i])
        cut = Image.fromarray(image).crop(box)
        theirs = np.asarray(cut.resize((width, height), Image.Resampling.BILINEAR))
        assert_near(ours[i], theirs, 1)


def test_crops_have_the_areas_and_ratios_of_the_paper() -> None:
    """Read off ramps: how fast they rise tells the box."""
    size, count = 64, 1000
    y, x = np.mgrid[:size, :size].astype("float32")
    ramps = np.broadcast_to(np.stack([y, x], axis=-1), (count, size, size, 2))
    found = augment(["crop:0.2"], ramps, generator())
    tall = (found[:, 40, 0, 0] - found[:, 20, 0, 0]) / 20 * size
    wide = (found[:, 0, 40, 1] - found[:, 0, 20, 1]) / 20 * size
    area, ratio = tall * wide / size**2, wide / tall
    assert 0.19 < area.min() < 0.22
    assert 0.98 < area.max() < 1.001
    inside = (tall < size) & (wide < size)
    assert 0.7 < ratio[inside].min() < 0.8
    assert 1.25 < ratio[inside].max() < 1.4
    # Even in [0.2, 1]; boxes that are longer than the image lose some.
    assert 0.55 < area.mean() < 0.61
    assert (found[:, 0, 0] >= 0).all()
    assert (found[:, -1, -1] <= size - 1).all()


def test_flip_mirrors_its_share() -> None:
    images = np.tile(PHOTOGRAPHS[:1], (2000, 1, 1, 1))
    found = flip(images, generator(), 0.3)
    mirrored = (found == images[0, :, ::-1]).all(axis=(1, 2, 3))
    same = (found == images[0]).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 0.27 < mirrored.mean() < 0.33  # 3 sigma
    np.testing.assert_array_equal(flip(images, generator(), 1.0), images[:, :, ::-1])


def test_erased_boxes_are_as_in_the_paper() -> None:
    count, size = 4000, 60
    images = np.zeros((count, size, size, 1), "float32")
    images[:, 0, 0] = 3600.0  # the mean is 1
    found = erasing(images, generator(), 0.25)
    erased = (found == 1.0)[..., 0]
    hit = erased.any(axis=(1, 2))
    assert 0.23 < hit.mean() < 0.27
    tall = erased.any(axis=2).sum(axis=1)[hit]
    wide = erased.any(axis=1).sum(axis=1)[hit]
    np.testing.assert_array_equal(tall * wide, erased.sum(axis=(1, 2))[hit])  # a box
    area = tall * wide / size**2
    assert 0.015 < area.min() < 0.03
    assert 0.31 < area.max() < 0.35
    assert 0.16 < area.mean() < 0.19
    assert 3 < (wide / tall).max() < 3.8


# --- changing colours -------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize(
    ("ours", "theirs", "most"),
    [
        (pixels.brightness, ImageEnhance.Brightness, 1),
        (pixels.contrast, ImageEnhance.Contrast, 1),
        (pixels.saturation, ImageEnhance.Color, 1),
        (pixels.sharpness, ImageEnhance.Sharpness, 1),
    ],
)
def test_factors_are_pillows(
    ours: Callable[..., np.ndarray], theirs: type, most: int, factor: float
) -> None:
    found = ours(PHOTOGRAPHS, np.full(len(PHOTOGRAPHS), factor))
    expected = pillow(PHOTOGRAPHS, lambda image: theirs(image).enhance(factor))
    assert_near(found, expected, most)


def test_smoothing_is_pillows() -> None:
    found = pixels.sharpness(PHOTOGRAPHS, np.zeros(len(PHOTOGRAPHS)))
    expected = pillow(PHOTOGRAPHS, lambda image: image.filter(ImageFilter.SMOOTH))
    assert_near(found, expected, 1)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pixels.equalize, ImageOps.equalize),
        (pixels.autocontrast, ImageOps.autocontrast),
        (lambda x: pixels.posterize(x, 3), lambda x: ImageOps.posterize(x, 3)),
        (lambda x: pixels.posterize(x, 8), lambda x: ImageOps.posterize(x, 8)),
        (lambda x: pixels.solarize(x, 100), lambda x: ImageOps.solarize(x, 100)),
    ],
    ids=["equalize", "autocontrast", "posterize", "posterize_8", "solarize"],
)
def test_tables_of_bytes_are_pillows(
    ours: Callable[[np.ndarray], np.ndarray],
    theirs: Callable[[Image.Image], Image.Image],
) -> None:
    dull = PHOTOGRAPHS // 3 + 40
    flat = np.full_like(PHOTOGRAPHS, 77)
    for images in (
        PHOTOGRAPHS,
        dull,
        flat,
        photographs(3, 2, 3),
        photographs(3, 64, 64),
    ):
        np.testing.assert_array_equal(ours(images), pillow(images, theirs))


def test_colour_leaves_grey_images_grey_and_floats_unclipped() -> None:
    grey = np.repeat(PHOTOGRAPHS[..., :1], 3, axis=-1)
    found = augment(["colour:0.9"], grey, generator())
    assert (found == found[..., :1]).all()
    floats = PHOTOGRAPHS / np.float32(255)
    assert augment(["colour:0.9"], floats, generator()).max() > 1.0
    same = augment(["colour:0"], PHOTOGRAPHS, generator())
    np.testing.assert_array_equal(same, PHOTOGRAPHS)


def test_randaugment_makes_two_of_its_changes() -> None:
    image = PHOTOGRAPHS[:1]
    m = 9 / 30
    signs = [np.array([sign]) for sign in (-1, 1)]
    once = [change(image, m, sign) for change in CHANGES.values() for sign in signs]
    twice = {
        change(first, m, sign).tobytes()
        for first in once
        for change in CHANGES.values()
        for sign in signs
    }
    found = randaugment(np.repeat(image, 400, axis=0), generator(), 9)
    seen = {one.tobytes() for one in found}
    assert seen <= twice
    assert len(seen) > 120
    # Identity twice: 1/196; and what does nothing to this image at all.
    still = (found == image).all(axis=(1, 2, 3)).mean()
    assert still < 0.1


# --- mixing -----------------------------------------------------------------------


@given(
    classes=st.integers(2, 7),
    count=st.integers(1, 12),
    seed=st.integers(0, 99),
    alphas=st.sampled_from([(0.2, 0.0), (0.0, 1.0), (0.8, 1.0), (1.0, 0.0)]),
)
def test_labels_are_mixed_as_the_images_are(
    classes: int, count: int, seed: int, alphas: tuple[float, float]
) -> None:
    """Images that show their class: channel c is 1 where class c is to be seen."""
    labels = generator(seed).integers(0, classes, count)
    soft = soft_labels(labels, classes)
    images = np.broadcast_to(soft[:, None, None, :], (count, 9, 7, classes))
    rng = generator(seed)
    for _ in range(4):
        found, mixed_labels = mixed(images, soft, rng, *alphas)
        assert found.shape == images.shape
        assert mixed_labels.dtype == np.float32
        np.testing.assert_allclose(found.mean(axis=(1, 2)), mixed_labels, atol=1e-5)
        np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, atol=1e-6)


def test_mixup_is_even_in_pixels_and_cutmix_takes_them_whole() -> None:
    images = np.repeat(np.arange(64, dtype="uint8")[:, None, None, None], 8, axis=1)
    images = np.broadcast_to(images, (64, 8, 8, 1))
    soft = soft_labels(np.arange(64), 64)
    blend, _ = mixed(images, soft, generator(), 1.0, 0.0)
    assert (blend == blend[:, :1, :1]).all()
    assert ((blend % 1) > 0).any()  # not rounded
    cut, labels = mixed(images, soft, generator(), 0.0, 1.0)
    assert cut.dtype == np.uint8
    for i, image in enumerate(cut):
        values = np.unique(image)
        assert len(values) <= 2
        taken = image[..., 0] != i
        box = np.outer(taken.any(axis=1), taken.any(axis=0))
        np.testing.assert_array_equal(taken, box)
        assert labels[i, i] == pytest.approx(1 - taken.mean(), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_betas(alpha: float) -> None:
    count = 4000
    ones = np.repeat([0.0, 1.0], count // 2).astype("float32")[:, None]
    soft = soft_labels(np.repeat([0, 1], count // 2), 2)
    _, labels = mixed(ones, soft, generator(), alpha, 0.0)
    share = labels[soft[:, 1] == 1, 1]  # B where the partner has the other class, or 1
    crossed = share[share < 1]
    assert crossed.mean() == pytest.approx(0.5, abs=0.04)
    assert crossed.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.012)


def test_both_take_turns() -> None:
    images = generator().random((16, 8, 8, 1)).astype("float32")
    soft, rng = soft_labels(np.arange(16), 16), generator()
    cut = 0
    for _ in range(200):
        found, _ = mixed(images, soft, rng, 1.0, 1.0)
        cut += bool(np.isin(found, images).all())
    assert 70 < cut < 130


def test_one_logit_and_targets_are_mixed_too() -> None:
    points = np.array([[0.0, 0.0], [4.0, 2.0]], "float32")
    soft = soft_labels(np.array([0, 1]), 1)
    found, labels = mixed(points, soft, generator(4), 1.0, 0.0)
    assert labels.shape == (2,)
    np.testing.assert_allclose(found, labels[:, None] * points[1], atol=1e-6)
    same, kept = mixed(points, soft, generator(), 0.0, 0.0)
    assert same is points
    assert kept is soft


# --- in a dataset -----------------------------------------------------------------

EVERYTHING = (
    "shift",
    "crop:0.3",
    "flip",
    "rotation",
    "zoom",
    "stretch",
    "shear",
    "translation",
    "colour",
    "erasing",
)
DIGITS = kzoo.load_dataset("digits")


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.2}, {"mixup": 0.8, "cutmix": 1.0}])
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_get_their_rows_of_the_same_batch(
    mixing: dict[str, float], workers: int
) -> None:
    data = DIGITS.augmented(*EVERYTHING, "randaugment", **mixing)
    whole = data.train_batches(8, 3)[200]
    parts = [data.train_batches(8, 3, 200, (i, workers))[0] for i in range(workers)]
    for key, array in whole.items():
        together = np.concatenate([part[key] for part in parts])
        assert together.dtype == array.dtype
        np.testing.assert_array_equal(together, array)


@given(st.integers(0, 400), st.integers(0, 99), st.sampled_from([0.0, 1.0]))
def test_labels_go_with_their_images_through_mixing_and_workers(
    step: int, seed: int, cutmix: float
) -> None:
    """Of classes that are told by their channel alone."""
    classes = np.arange(40) % 4
    images = np.zeros((40, 6, 6, 4), "float32")
    images[np.arange(40), :, :, classes] = 1
    splits = dict.fromkeys(("train", "validation", "test"), (images, classes))
    data = kzoo.load_dataset(splits).augmented("flip", mixup=0.5, cutmix=cutmix)
    for rank in range(2):
        batch = data.train_batches(12, seed, step, (rank, 2))[0]
        assert batch["labels"].shape == (6, 4)
        shown = batch["inputs"].mean(axis=(1, 2))
        np.testing.assert_allclose(shown, batch["labels"], atol=1e-5)
        own = batch["labels"][np.arange(6), classes[batch["index"]]]
        assert (own > 0).any()
    evaluated = data.eval_batches("train", 40)[0]
    np.testing.assert_array_equal(evaluated["labels"], classes)


def regression() -> Any:
    return kzoo.load_dataset("diabetes")


def unknown_labels() -> Any:
    from kzoo.datasets.few_labels import few_labels

    return few_labels(DIGITS, 3)[1]


def floating() -> Any:
    return kzoo.load_dataset((np.zeros((60, 4, 4, 1)), np.arange(60) % 3))


def tokens() -> Any:
    return kzoo.load_dataset((np.zeros((60, 4), "int32"), np.arange(60) % 3))


@pytest.mark.parametrize(
    ("load", "names", "mixing", "message"),
    [
        (regression, ("flip",), {}, "augmentation='flip' is for images; diabetes has"),
        (regression, (), {"cutmix": 1.0}, "cutmix is for images; diabetes has vectors"),
        (tokens, (), {"mixup": 1.0}, "mixup has no mean of tokens"),
        (floating, ("randaugment",), {}, "'randaugment' is for 8-bit images; arrays"),
        (floating, ("rotat",), {}, "unknown augmentation 'rotat'. Did you mean 'rota"),
        (unknown_labels, (), {"mixup": 1.0}, "need all labels to be known"),
    ],
)
def test_what_does_not_go_together(
    load: Callable[[], Any], names: Any, mixing: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load().augmented(*names, **mixing)


def test_targets_are_mixed_with_their_inputs() -> None:
    data = regression()
    mixed_data = data.augmented(mixup=1.0)
    plain, batch = (one.train_batches(16, 0)[3] for one in (data, mixed_data))
    assert batch["labels"].shape == plain["labels"].shape
    assert (batch["labels"] != plain["labels"]).any()
    low, high = plain["labels"].min(), plain["labels"].max()
    assert low <= batch["labels"].min() <= batch["labels"].max() <= high
