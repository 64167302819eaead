"""Resized crops: their pixels by torch's own interpolation, their boxes by the rule drawn one after the other."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from normscope.data import resized_crop_flip

F64 = torch.float64
Box = tuple[int, int, int, int]  # top, left, height, width


def with_places(images: torch.Tensor) -> torch.Tensor:
    """The images with each pixel's row and its column as two further channels, from which a box can be read."""
    n, _, height, width = images.shape
    rows = torch.arange(height, dtype=images.dtype).view(1, 1, height, 1).expand(n, 1, height, width)
    columns = torch.arange(width, dtype=images.dtype).view(1, 1, 1, width).expand(n, 1, height, width)
    return torch.cat([images, rows, columns], 1)


def boxes(outputs: torch.Tensor) -> tuple[list[Box], list[bool]]:
    """Of what became of `with_places`: the box of each image, and whether it is flipped.

    Bilinear interpolation gives a ramp back, and reaches the first and the last pixel of a box that it enlarges.
    """
    top, bottom = outputs[:, -2, 0, 0], outputs[:, -2, -1, 0]
    left, right = outputs[:, -1, 0, 0], outputs[:, -1, 0, -1]
    found = torch.stack([top, torch.minimum(left, right), bottom - top + 1, (right - left).abs() + 1], 1)
    assert torch.allclose(found, found.round())
    return [tuple(box) for box in found.round().int().tolist()], (left > right).tolist()


def drawn_one_by_one(height: int, width: int, draw: random.Random) -> Box:
    """The rule of `torchvision.transforms.RandomResizedCrop`, for one image."""
    for _ in range(10):
        area = height * width * draw.uniform(0.08, 1)
        aspect = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return draw.randint(0, height - h), draw.randint(0, width - w), h, w
    h, w = height, width
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("shape", [(12, 3, 16, 16), (9, 1, 7, 12), (6, 2, 15, 5), (4, 1, 1, 6), (2, 3, 1, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 1e-5)])
def test_every_output_is_torchs_interpolation_of_a_box(shape, dtype, tolerance, generator):
    images = torch.randn(shape, generator=generator, dtype=dtype)
    outputs = resized_crop_flip(with_places(images), generator=generator)
    assert outputs.dtype == dtype
    for image, output, (top, left, h, w), flipped in zip(images, outputs, *boxes(outputs), strict=True):
        crop = image[None, :, top : top + h, left : left + w]
        expected = F.interpolate(crop, shape[2:], mode="bilinear", align_corners=False)[0]
        expected = expected.flip(2) if flipped else expected
        torch.testing.assert_close(output[:-2], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("height", "width"), [(6, 6), (4, 16), (20, 5)])
def test_boxes_are_as_likely_as_under_the_rule(height, width, seed):
    n = 4000
    images = with_places(torch.empty(1, 0, height, width, dtype=F64)).expand(n, 2, height, width)
    ours, flipped = boxes(resized_crop_flip(images, generator=torch.Generator().manual_seed(seed)))
    draw = random.Random(seed)
    theirs = Counter(drawn_one_by_one(height, width, draw) for _ in range(5 * n))
    often = [box for box, count in theirs.items() if count >= 50]  # ten expected of ours
    found = Counter(ours)
    table = [[counts[box] for box in often] for counts in (found, theirs)]
    table = [[*row, total - sum(row)] for row, total in zip(table, (n, 5 * n), strict=True)]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert abs(sum(flipped) / n - 0.5) < 4 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize(
    ("shape", "box"),
    [((2, 61), (0, 29, 2, 3)), ((61, 2), (29, 0, 3, 2))],  # 0.08 of the area and 3/4 are too high, or too wide
)
def test_where_no_box_fits_it_is_the_one_in_the_middle(shape, box, generator):
    outputs = resized_crop_flip(with_places(torch.zeros(50, 1, *shape, dtype=F64)), generator=generator)
    assert set(boxes(outputs)[0]) == {box}
    assert box == drawn_one_by_one(*shape, random.Random(0))


def test_images_of_a_batch_are_drawn_apart(generator):
    images = torch.randn(1, 1, 16, 16, generator=generator).expand(64, 1, 16, 16)
    outputs = resized_crop_flip(images, generator=generator)
    assert len(outputs.flatten(1).unique(dim=0)) > 55


def test_draws_come_from_the_generator_alone_and_the_inputs_stay():
    images = torch.randn(8, 3, 9, 8, generator=torch.Generator().manual_seed(0))
    kept, state = images.clone(), torch.get_rng_state()
    one, two, other = (resized_crop_flip(images, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(resized_crop_flip(last, generator=torch.Generator().manual_seed(1)), one)


def test_in_half_precision_places_are_exact_and_values_are_rounded():
    images = torch.randn(8, 3, 40, 40, generator=torch.Generator().manual_seed(0)).bfloat16()
    half, full = (
        resized_crop_flip(one, generator=torch.Generator().manual_seed(1)) for one in (images, images.float())
    )
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), full, rtol=0, atol=8 * torch.finfo(torch.bfloat16).eps)


def test_no_image_gives_none(generator):
    assert resized_crop_flip(torch.zeros(0, 3, 8, 8), generator=generator).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    ("inputs", "match"),
    [
        (torch.zeros(3, 8, 8), r"inputs must be images \(N, C, H, W\), got shape \(3, 8, 8\)"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), r"inputs must be floating-point to be resized, got torch\.uint8"),
    ],
)
def test_impossible_arguments_are_refused(inputs, match, generator):
    with pytest.raises(ValueError, match=match):
        resized_crop_flip(inputs, generator=generator)


@pytest.mark.gpu
def test_the_device_sees_the_same_boxes():
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    here = resized_crop_flip(images, generator=torch.Generator().manual_seed(1))
    there = resized_crop_flip(images.cuda(), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(here, there.cpu())
    with pytest.raises(ValueError, match="generator must be on the CPU, got one on cuda"):
        resized_crop_flip(images.cuda(), generator=torch.Generator("cuda"))
