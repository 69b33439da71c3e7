"""Resampled images, beside Pillow's and torchvision's."""

import numpy as np
import pytest
from PIL import Image

from kzoo.preprocessing import Preprocessing, imagenet
from kzoo.preprocessing.images import resize, resized_crop

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth and sharp at once, (height, width, 3) in uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 5)[..., None] + np.cos(y / 9)[..., None] * [1, 0.5, 2]
    noise = rng.normal(size=(height, width, 3))
    return (60 * waves / 2 + 20 * noise + 128).clip(0, 255).astype("uint8")


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("size", [(37, 20), (224, 224), (60, 81)])
def test_resize_is_pillows(interpolation: str, size: tuple[int, int]) -> None:
    image = photograph(60, 81)
    expected = np.asarray(
        Image.fromarray(image).resize(size[::-1], RESAMPLING[interpolation])
    )
    found = resize(image[None], size, interpolation)[0]
    assert found.dtype == np.uint8
    # Pillow rounds after each of its two passes.
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.peers
@pytest.mark.parametrize("shape", [(60, 81), (81, 60), (50, 50), (300, 233)])
def test_crop_is_torchvisions(shape: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, Resize

    image = photograph(*shape)
    steps = Compose([Resize(48), CenterCrop(42)])
    expected = np.asarray(steps(Image.fromarray(image)))
    found = resized_crop(image[None], (42, 42), 0.875, "bilinear")[0]
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_imagenet_preprocessing() -> None:
    images = np.full((2, 80, 60, 3), 255, "uint8")
    x = imagenet(32).inputs(images)
    assert x.shape == (2, 32, 32, 3)
    # White, by the published mean and spread.
    expected = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(x[0, 0, 0], expected, rtol=1e-5)


def test_reversed_channels() -> None:
    caffe = Preprocessing(
        input_mean=(1.0, 2.0, 3.0), input_scale=(1.0, 1.0, 1.0), reversed_channels=True
    )
    x = caffe.inputs(np.array([[[[10, 20, 30]]]], "uint8"))
    np.testing.assert_array_equal(x, [[[[29, 18, 7]]]])
    assert Preprocessing.from_json(caffe.to_json()) == caffe
