"""Pixels in any mode of Pillow's as 8-bit grey, RGB or RGBA."""

from typing import Any

from kzoo.hparams import nearest


def to_mode(image: Any, mode: str, background: str = "white") -> Any:
    """An image as 8-bit pixels.

    Pixels of 16 bits keep their upper 8. Where the mode has no opacity, a transparent
    image is composited on the background.

    Args:
        image: one that Pillow opened.
        mode: ``L``, ``RGB`` or ``RGBA``.
        background: a colour, see :func:`check_colour`.

    Raises:
        ValueError: 32-bit integers or floating-point numbers.
    """
    from PIL import Image

    image = _eight_bits(image)
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        if _least_opacity(image) < 255:
            ground = Image.new("RGBA", image.size, background)
            image = Image.alpha_composite(ground, image)
    return image if image.mode == mode else image.convert(mode)


def is_transparent(image: Any) -> bool:
    """Whether a pixel of an image that Pillow opened is not opaque; decodes it."""
    if not image.has_transparency_data:
        return False
    return bool(_least_opacity(_eight_bits(image).convert("RGBA")) < 255)


def is_grey(image: Any) -> bool:
    """Whether an image that Pillow opened has no colours, by its header."""
    return image.mode in ("1", "I", "L", "LA", "La") or image.mode.startswith("I;16")


def check_mode(image: Any) -> None:
    """Raises a ``ValueError`` where the mode has no range that is black to white."""
    kind = {"I": "32-bit integers", "F": "floating-point numbers"}.get(image.mode)
    # PGM and PNG have 16 bits at most, which some versions of Pillow open as mode I.
    if kind and (image.mode == "F" or image.format not in ("PNG", "PPM")):
        raise ValueError(
            f"its pixels are {kind} (mode {image.mode}), and no file says which is "
            "white: convert all images to 8 bits by one range, 255 * (x - low) / "
            "(high - low)"
        )


def check_colour(name: str, value: str) -> None:
    """Raises a ``ValueError`` where Pillow knows no opaque colour of this name."""
    from PIL import ImageColor

    try:
        opaque = len(ImageColor.getrgb(value)) == 3
    except ValueError:
        opaque = False
    if not opaque:
        legal = "a colour, such as white, black or #rrggbb"
        hint = nearest(value, ImageColor.colormap) if value.isalpha() else ""
        raise ValueError(f"{name}={value!r} is not {legal}{hint}")


def _eight_bits(image: Any) -> Any:
    """The image in a mode of 8 bits, or of 1."""
    check_mode(image)
    if image.mode == "La":  # grey times opacity
        return image.convert("LA")
    clear = image.info.get("transparency")
    if image.mode == "RGB" and clear is not None and _has_16_bits(image):
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    return _upper_bits(image, clear)


def _upper_bits(image: Any, clear: int | None) -> Any:
    """Grey of 16 bits, or of the 12 that a TIFF may have, as mode L, or LA."""
    import numpy as np
    from PIL import Image

    bits = 16
    if image.format == "TIFF":
        bits = max(image.tag_v2.get(258, (16,)))  # BitsPerSample
    pixels = np.asarray(image)
    grey = Image.fromarray((pixels >> (bits - 8)).astype("uint8"))
    if clear is None:
        return grey
    opacity = Image.fromarray(np.where(pixels == clear, 0, 255).astype("uint8"))
    return Image.merge("LA", (grey, opacity))


def _has_16_bits(image: Any) -> bool:
    return any(";16" in str(tile[3]) for tile in image.tile)


def _least_opacity(image: Any) -> int:
    return int(image.getchannel("A").getextrema()[0])
