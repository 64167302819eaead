"""Encoded images to one array of pixels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import numpy.typing as npt

from normscope.data.source import require

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = npt.NDArray[np.uint8]
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


class Encoded(TypedDict):
    """An image as Hugging Face stores it: the file's bytes, or where the file is."""

    bytes: bytes | None
    path: str | None


def decode(images: Iterable[Encoded], rows: Sequence[int], size: int | None = None) -> Pixels:
    """Decode images of one size to (n, H, W, 3) uint8; grey ones get three equal channels.

    Args:
        images: n of them, one at a time.
        rows: the number of each, to name it in an error.
        size: resize them to H = W = size: the largest central square, bilinear over all pixels below each new one.

    Raises:
        ValueError: an image is missing, unreadable, of another size than the first, or of more than 8 bits.
    """
    pil = require("PIL.Image")
    pil.init()  # fills the list of formats
    pixels: Pixels | None = None
    likely = ""
    for i, (row, encoded) in enumerate(zip(rows, images, strict=True)):
        try:
            with _open(pil, encoded, likely) as image:
                likely = image.format or ""
                values = _rgb(image, size)
        except (OSError, SyntaxError, pil.DecompressionBombError) as error:  # Pillow's ways to say "damaged"
            raise ValueError(f"the image of row {row} cannot be decoded ({error}). Replace or drop it.") from error
        if pixels is None:
            pixels = np.empty((len(rows), *values.shape), np.uint8)
        if values.shape != pixels.shape[1:]:
            raise ValueError(
                f"all images must have one size, got {_size(pixels[0])} and, in row {row}, {_size(values)}. "
                "Give image_size to resize them."
            )
        pixels[i] = values
    assert pixels is not None, "no image to decode"
    return pixels


def without_equal_channels(parts: Sequence[Pixels]) -> list[Pixels]:
    """Keep one channel where all images of all parts are grey: (n, H, W, C) -> (n, H, W, 1); else change nothing.

    Judged by the pixels, because formats such as WebP store grey images as color.
    """
    grey = all(np.array_equal(part, np.broadcast_to(part[..., :1], part.shape)) for part in parts)
    return [part[..., :1] for part in parts] if grey else list(parts)


def _open(pil: Any, encoded: Encoded | None, likely: str) -> Image:
    if encoded is None or (encoded["bytes"] is None and encoded["path"] is None):
        raise OSError("it is missing")
    source = encoded["path"] if encoded["bytes"] is None else io.BytesIO(encoded["bytes"])
    # Pillow tries its formats in turn; putting the last image's first takes a third of the time off small images.
    opened: Image = pil.open(source, formats=[likely, *pil.ID] if likely else None)
    return opened


def _rgb(image: Image, size: int | None) -> Pixels:
    if image.mode not in _EIGHT_BITS:
        raise OSError(f"mode {image.mode}, not 8 bits per channel")
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(rgb if size is None else _square(rgb, size))


def _square(image: Image, size: int) -> Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: `resize(box=...)` would let the pixels around the square bleed into its edge.
    square = image if image.width == image.height else image.crop((left, top, left + side, top + side))
    return square.resize((size, size), require("PIL.Image").Resampling.BILINEAR)


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
