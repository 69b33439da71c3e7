"""Image files of every mode, beside what Pillow makes of them; and damaged ones."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

import kzoo
from kzoo.datasets.images import header
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.images import FORMATS, read_image
from kzoo.training.predict import predict


def file_of(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def ramp(bits: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    """Grey from black to white of so many bits, as 16-bit integers."""
    return (
        np.linspace(0, 2**bits - 1, shape[0] * shape[1]).astype("uint16").reshape(shape)
    )


# --- depth ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_keep_their_upper_8(kind: str, channels: int) -> None:
    grey = ramp(16)
    found = read_image(file_of(Image.fromarray(grey), kind), channels=channels)
    expected = np.repeat((grey // 256)[..., None], channels, axis=-1)
    np.testing.assert_array_equal(found, expected)


def test_16_bit_pgm_under_any_suffix(tmp_path: Path) -> None:
    """Once cut at 255; and a greatest value of its own is white."""
    pixels = ramp(10).astype(">u2")
    for name in ("a.pgm", "a.png", "a.tif"):
        path = tmp_path / name
        path.write_bytes(b"P5 16 16 1023\n" + pixels.tobytes())
        found = read_image(path, channels=1)[..., 0]
        expected = pixels.astype(int) * 65535 // 1023 // 256
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert found[-1, -1] == 255


def test_12_bits_of_a_tiff_are_scaled() -> None:
    """Two pixels in three bytes, by the specification of TIFF."""
    pixels = np.array([0, 1024, 2048, 4095], "uint16")
    a, b = pixels[::2].astype(int), pixels[1::2].astype(int)
    packed = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], 1).astype("uint8")
    file = file_of(Image.new("L", (4, 1)), "TIFF")
    content = bytearray(file.getvalue())
    with Image.open(io.BytesIO(bytes(content))) as image:
        offset = image.tag_v2[273][0]  # type: ignore[attr-defined]
    content = content[:offset] + packed.tobytes()
    for tag, value in ((258, 12), (279, 6)):  # BitsPerSample, StripByteCounts
        at = bytes(content).index(tag.to_bytes(2, "little"))
        content[at + 8 : at + 10] = value.to_bytes(2, "little")
    found = read_image(io.BytesIO(bytes(content)), channels=1)[0, :, 0]
    np.testing.assert_array_equal(found, pixels // 16)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("int32", "32-bit integers"), ("float32", "floating-point numbers")],
)
def test_pixels_without_a_range_are_refused(
    tmp_path: Path, dtype: str, words: str
) -> None:
    for folder in ("cat", "dog"):
        (tmp_path / folder).mkdir()
        for i in range(3):
            image = Image.fromarray((ramp(8) / 255).astype(dtype))
            image.save(tmp_path / folder / f"{i}.tif")
    with pytest.raises(ValueError, match=f"cat/0.tif .*pixels are {words}.*to 8 bits"):
        kzoo.load_dataset(f"folder:{tmp_path}")
    with pytest.raises(ValueError, match=words):
        read_image(tmp_path / "cat" / "0.tif")


# --- transparency -----------------------------------------------------------------


def transparent(mode: str) -> Image.Image:
    """A black disk with a soft edge on a transparent ground, that is black as well."""
    y, x = np.mgrid[:20, :20] - 9.5
    opacity = (255 * np.clip(9 - np.hypot(y, x), 0, 1)).astype("uint8")
    pixels = np.zeros((20, 20, 4), "uint8")
    pixels[..., 3] = opacity
    image = Image.fromarray(pixels)
    if mode == "P":
        palette = Image.fromarray(np.where(opacity > 99, 1, 0).astype("uint8"), "P")
        palette.putpalette([0, 0, 0, 0, 0, 0])
        palette.info["transparency"] = 0
        return palette
    return image.convert(mode)


@pytest.mark.parametrize("background", ["white", "black", "#ff8000"])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGBA", "TIFF"),
        ("RGBA", "WEBP"),
        ("RGBA", "AVIF"),
    ],
)
def test_transparent_images_are_composited(
    mode: str, kind: str, background: str
) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image = transparent(mode)
    saved = {"transparency": 0} if mode == "P" else lossless
    file = file_of(image, kind, **saved)
    with Image.open(file) as opened:
        rgba = opened.convert("RGBA")
    ground = Image.new("RGBA", rgba.size, background)
    expected = Image.alpha_composite(ground, rgba).convert("RGB")
    found = read_image(file, background=background)
    np.testing.assert_array_equal(found, np.asarray(expected))
    if background != "black":
        assert len(np.unique(found[..., 0])) > 1  # the disk is seen
    grey = read_image(file, channels=1, background=background)
    np.testing.assert_array_equal(grey[..., 0], np.asarray(expected.convert("L")))
    np.testing.assert_array_equal(read_image(file, channels=4), np.asarray(rgba))


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_may_be_transparent(bits: int) -> None:
    """PNG's tRNS of a grey image; of 16 bits it is compared before it is cut."""
    grey = ramp(bits) if bits == 16 else ramp(8).astype("uint8")
    clear = int(grey[3, 3])
    file = file_of(Image.fromarray(grey), "PNG", transparency=clear)
    found = read_image(file, channels=1)[..., 0]
    expected = np.where(grey == clear, 255, grey >> (bits - 8))
    np.testing.assert_array_equal(found, expected)


def test_opaque_images_are_read_as_without_opacity() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 9, 4), "uint8")
    pixels[..., 3] = 255
    found = read_image(file_of(Image.fromarray(pixels), "PNG"))
    np.testing.assert_array_equal(found, pixels[..., :3])


def shapes(root: Path, *, clear: bool) -> None:
    """Black disks and bars, on a transparent or a white ground."""
    for name in ("bar", "disk"):
        (root / name).mkdir(parents=True)
        for i in range(20):
            image = transparent("RGBA").resize((20 + i % 3, 20))
            if name == "bar":
                image.paste((0, 0, 0, 0), (0, 0, 8, 20))
            if not clear:
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            image.resize((20, 20)).save(root / name / f"{i}.png")


def test_background_of_a_folder_goes_with_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kzoo")
    shapes(tmp_path / "clear", clear=True)
    shapes(tmp_path / "opaque", clear=False)
    source = f"folder:{tmp_path}/clear"
    white, black = (
        kzoo.load_dataset(source, background=name) for name in ("white", "black")
    )
    assert "40 of 40 images are transparent" in caplog.text
    assert "composited on black; --data background=COLOUR" in caplog.text
    rows = [data.splits["train"].rows(np.arange(4)) for data in (white, black)]
    assert rows[0].min() == 0 and rows[0].max() == 255 and rows[1].max() == 0
    assert white.spec.fingerprint != black.spec.fingerprint
    caplog.clear()
    opaque, on_red = (
        kzoo.load_dataset(f"folder:{tmp_path}/opaque", background=name)
        for name in ("white", "red")
    )
    assert "transparent" not in caplog.text
    assert opaque.spec.fingerprint == on_red.spec.fingerprint
    run = kzoo.train(
        "mlp", source, out=tmp_path / "run", data={"background": "#808080"}, epochs=1
    )
    path = tmp_path / "clear" / "disk" / "0.png"
    seen = read_image(path, (20, 20), background="#808080")
    expected = run.load().predict(seen[None] / np.float32(255), verbose=0)[0]
    answer = predict(run, path, top=2)[0]
    assert answer.classes[0] == ("bar", "disk")[int(expected.argmax())]
    odds = np.exp(expected[0] - expected[1])
    shares = dict(zip(answer.classes, answer.probabilities, strict=True))
    assert shares["bar"] / shares["disk"] == pytest.approx(odds, rel=1e-3)


def test_background_is_a_colour(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'whit' is not a colour.*mean 'white'\?"):
        kzoo.load_dataset(f"folder:{tmp_path}", background="whit")
    with pytest.raises(ValueError, match="is not a colour, such as white"):
        kzoo.load_dataset(f"folder:{tmp_path}", background="#ff000080")
    old = Preprocessing().to_json()
    del old["background"]  # as it was before there was one
    assert Preprocessing.from_json(old) == Preprocessing()


# --- whatever lies in a folder ----------------------------------------------------


def test_oddities_are_read_as_pillow_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (8, 8, 3), "uint8")
    image = Image.fromarray(pixels)
    other = Image.fromarray(255 - pixels)
    image.save(tmp_path / "first.gif", save_all=True, append_images=[other])
    image.save(tmp_path / "first.webp", save_all=True, append_images=[other])
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    image.convert("YCbCr").save(tmp_path / "luma.tif")
    image.quantize(16).save(tmp_path / "palette.png")
    image.save(tmp_path / "wrong.jpg", "PNG")
    image.save(tmp_path / "wrong.png", "JPEG")
    image.save(tmp_path / "photo.jfif", "JPEG")
    image.resize((1, 1)).save(tmp_path / "one.png")
    files = sorted(tmp_path.iterdir())
    assert len(files) == 9
    for file in files:
        with Image.open(file) as opened:
            expected = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(read_image(file), expected, err_msg=file.name)
    assert read_image(tmp_path / "one.png", (6, 6)).shape == (6, 6, 3)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("held", range(1, 9))
def test_every_way_to_hold_a_camera(held: int, kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    exif = Image.Exif()
    exif[0x0112] = held
    pixels = np.arange(5 * 7 * 3, dtype="uint8").reshape(5, 7, 3)
    path = tmp_path / "a.png"  # whatever the suffix
    Image.fromarray(pixels).save(path, kind, exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path), expected)
    assert header(path).size == expected.shape[:2]


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16"])
def test_uncompressed_tiff_on_its_side(mode: str, tmp_path: Path) -> None:
    """Pillow 13 gives other pixels for its path than for its bytes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.fromarray(np.arange(35, dtype="uint8").reshape(5, 7))
    image = grey.convert("I;16" if mode == "I;16" else "RGB").convert(mode)
    path = tmp_path / "a.tif"
    image.save(path, exif=exif)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    if mode == "I;16":
        expected = np.repeat(np.asarray(upright)[..., None] >> 8, 3, axis=-1)
    else:
        expected = np.asarray(upright.convert("RGB"))
    np.testing.assert_array_equal(read_image(path), expected)
    assert header(path).size == (7, 5)


def test_what_is_no_image_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(ValueError, match=f"{path} is no image .*: {message}"):
            read_image(path)

    path = tmp_path / "a.png"
    path.write_bytes(b"")
    refused(path, "it is empty")
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    refused(path, "it begins like none of .*JPEG, JPEG2000, .*, WEBP$")
    path.write_text("<svg/>")
    refused(path, "it begins like none of .*BMP, .*, WEBP$")
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    refused(path, "it begins like none of .*BMP, .*, WEBP$")  # no program is run
    refused(tmp_path / "nowhere.png", ".*No such file")
    Image.new("L", (30, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refused(path, ".*exceeds limit of 20 pixels")


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "YCbCr", "LAB")


def written() -> list[bytes]:
    """A small file of each mode in each format that Pillow writes and kzoo reads."""
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (6, 5, 4), "uint8")
    rgba = Image.fromarray(pixels)
    files = []
    for kind in FORMATS:
        for mode in MODES:
            grey = Image.fromarray(pixels[..., 0])
            try:
                image = grey.convert(mode) if mode in "I F I;16" else rgba.convert(mode)
                files.append(file_of(image, kind).getvalue())
            except (OSError, ValueError, KeyError):
                continue  # not every format has every mode
    return files


FILES = written()


@given(st.data())
def test_damaged_bytes_give_an_image_or_one_line(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
            st.integers(0, 255)
        )
    content = content[: data.draw(st.integers(0, len(content)))] or content
    channels = data.draw(st.sampled_from((1, 3, 4)))
    try:
        found = read_image(io.BytesIO(bytes(content)), (4, 4), channels)
    except ValueError as error:
        assert str(error).startswith("a record is no image") and "\n" not in str(error)
    else:
        assert (found.shape, found.dtype) == ((4, 4, channels), np.uint8)


def test_there_is_a_file_of_many_kinds() -> None:
    assert len(FILES) > 40
