"""Batches of images that are decoded one by one, and what has to be known of them beforehand."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from normscope.data.batches import Batch
from normscope.data.images import Encoded, Pixels, decode
from normscope.data.streamed import ahead, lists

Labelled: TypeAlias = tuple[Encoded, int]

_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Moments:
    """What some images tell of all.

    Attributes:
        mean, deviation: (3, 1, 1) by channel, of pixels from 0 to 255; a constant channel has deviation 1.
        shape: (H, W, 3) of each image.
        count: how many they were taken of.
    """

    mean: Tensor
    deviation: Tensor
    shape: tuple[int, ...]
    count: int


def moments(images: Iterable[Encoded], image_size: int | None) -> Moments:
    """Mean and standard deviation of the pixels of some images, decoded at `image_size` in bounded memory.

    Raises:
        ValueError: an image is damaged, or of another size than the first.
    """
    total = squares = torch.zeros(3, dtype=torch.float64)
    count = 0
    shape: tuple[int, ...] = ()
    for pixels in ahead(partial(_decode, image_size=image_size), lists(images, _AT_ONCE), os.cpu_count() or 1):
        shape = _same(shape or pixels.shape[1:], pixels)
        count += len(pixels)
        flat = torch.from_numpy(pixels).flatten(0, 2).double()
        total, squares = total + flat.sum(0), squares + flat.square().sum(0)
    values = count * shape[0] * shape[1]
    mean = total / values
    variance = squares / values - mean.square()
    deviation = torch.where(variance > 0, variance.sqrt(), 1.0)
    return Moments(mean.float().view(3, 1, 1), deviation.float().view(3, 1, 1), shape, count)


def image_batch(
    examples: list[Labelled], *, image_size: int | None, standardized_by: Moments, num_classes: int
) -> Batch:
    """Encoded images with their classes as inputs (N, 3, H, W), float32, standardized, and targets (N,), int64.

    Raises:
        ValueError: an image is damaged or of another size than the others; a class is none.
    """
    targets = torch.tensor([label for _, label in examples])
    unknown = targets[(targets < 0) | (targets >= num_classes)]
    if len(unknown):
        raise ValueError(f"a label is {unknown[0]}, which is none of the {num_classes} classes. Drop such rows.")
    pixels = _decode([encoded for encoded, _ in examples], image_size)
    _same(standardized_by.shape, pixels)
    inputs = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return inputs.sub_(standardized_by.mean).div_(standardized_by.deviation), targets


def _decode(images: list[Encoded], image_size: int | None) -> Pixels:
    return decode(images, range(len(images)), image_size)


def _same(shape: tuple[int, ...], pixels: Pixels) -> tuple[int, ...]:
    if pixels.shape[1:] != shape:
        raise ValueError(
            f"all images must have one size, got {shape[1]}x{shape[0]} and {pixels.shape[2]}x{pixels.shape[1]}. "
            "Give image_size to resize them."
        )
    return shape
