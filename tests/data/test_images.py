from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from normscope.data.images import decode, without_equal_channels

COLORS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def encoded(pixels, mode=None, kind="PNG"):
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, lossless=True)
    return {"bytes": file.getvalue(), "path": None}


def test_formats_may_be_mixed_and_the_order_is_kept():
    images = [encoded(COLORS), encoded(255 - COLORS, kind="WEBP"), encoded(COLORS, kind="BMP"), encoded(COLORS)]
    pixels = decode(images, range(4))
    np.testing.assert_array_equal(pixels, np.stack([COLORS, 255 - COLORS, COLORS, COLORS]))


def test_images_may_lie_in_files(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decode([{"bytes": None, "path": str(tmp_path / "x.png")}], [0])[0], COLORS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_eight_bit_modes_become_three_channels(mode):
    pixels = decode([encoded(COLORS, mode)], [0])
    expected = np.asarray(Image.fromarray(COLORS).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(pixels[0], expected)


def test_grey_is_seen_by_the_pixels_of_all_parts():
    color, grey = COLORS[None], np.repeat(COLORS[None, ..., :1], 3, axis=-1)
    assert [part.shape[-1] for part in without_equal_channels([grey, grey])] == [1, 1]
    assert [part.shape[-1] for part in without_equal_channels([grey, color])] == [3, 3]
    blue_differs = grey.copy()
    blue_differs[0, 0, 0, 2] ^= 1
    assert without_equal_channels([blue_differs])[0].shape[-1] == 3


def test_a_size_resizes_the_largest_central_square_over_all_pixels():
    square = np.random.default_rng(1).integers(0, 256, (12, 12), dtype=np.uint8)
    framed = np.pad(square, ((0, 0), (6, 6)), constant_values=255)
    # A triangle over as many old pixels as one new pixel covers, on each side.
    distance = np.abs(np.arange(12) + 0.5 - 4 * (np.arange(3)[:, None] + 0.5)) / 4
    weights = np.maximum(0, 1 - distance)
    weights /= weights.sum(1, keepdims=True)
    expected = weights @ square @ weights.T
    for image, resized in ((framed, expected), (framed.T.copy(), expected.T), (square, expected)):
        np.testing.assert_allclose(decode([encoded(image)], [0], 3)[0, ..., 0], resized, atol=1.01)
    np.testing.assert_array_equal(decode([encoded(square)], [0], 12)[0, ..., 0], square)


def test_a_fine_pattern_is_averaged_and_not_sampled():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = decode([encoded(stripes)], [0], 8)
    assert np.abs(small.astype(int) - 127).max() <= 20


def test_a_size_makes_images_of_several_sizes_one():
    pixels = decode([encoded(COLORS), encoded(COLORS[:3]), encoded(COLORS, "L")], range(3), 7)
    assert pixels.shape == (3, 7, 7, 3)


def test_unusable_images_are_refused_by_their_row():
    good = encoded(COLORS)
    with pytest.raises(ValueError, match=r"one size, got 4x5 and, in row 8, 4x3\. Give image_size to resize them"):
        decode([good, encoded(COLORS[:3])], [7, 8])
    with pytest.raises(ValueError, match="the image of row 8 cannot be decoded"):
        decode([good, {"bytes": b"rubbish", "path": None}], [7, 8])
    with pytest.raises(ValueError, match="the image of row 8 cannot be decoded"):
        decode([good, {"bytes": good["bytes"][:60], "path": None}], [7, 8])
    with pytest.raises(ValueError, match=r"row 7 cannot be decoded \(it is missing\)"):
        decode([{"bytes": None, "path": None}], [7])
    with pytest.raises(ValueError, match="not 8 bits per channel"):
        decode([encoded(np.zeros((2, 2), np.uint16))], [7])
