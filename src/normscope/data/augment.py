"""Augmentation of batches where they are: on the device, without a loop over examples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TRIES = 10
_AREA = (0.08, 1.0)  # of the image's
_ASPECT = (3 / 4, 4 / 3)  # width to height


def crop_flip(inputs: Tensor, *, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Pad each image by reflection, crop it back to its size at a random place, and flip it sideways half the time.

    Each image has its own offset, uniform over the (2 padding + 1)^2 places, and its own coin. The border itself is
    not repeated by the reflection, as in ``torch.nn.functional.pad(mode="reflect")``.

    Shape: (N, C, H, W) in and out, of any dtype and device.
    Reference: the protocol of Rao and Sohl-Dickstein 2020, arXiv:2010.10687 (Flax's CIFAR-10 example of that year).

    Args:
        inputs: a batch of images.
        generator: of the draws; on the CPU, so that every device sees the same.
        padding: pixels on each side; less than H and W.

    Raises:
        ValueError: inputs are not (N, C, H, W); padding is negative or not less than H and W; the generator is not
            on the CPU.
    """
    n, height, width = _checked(inputs, generator)
    if not 0 <= padding < min(height, width):
        raise ValueError(f"padding must lie between 0 and {min(height, width) - 1} for these images, got {padding}.")
    offsets = torch.randint(2 * padding + 1, (2, n, 1), generator=generator) - padding
    flipped = torch.randint(2, (n, 1), generator=generator).bool()
    rows = _reflected(torch.arange(height) + offsets[0], height)
    columns = torch.arange(width).expand(n, width)
    columns = _reflected(torch.where(flipped, columns.flip(1), columns) + offsets[1], width)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1).to(inputs.device, non_blocking=True)
    flat = inputs.flatten(2)
    return flat.gather(2, pixels[:, None].expand_as(flat)).view_as(inputs)


def resized_crop_flip(inputs: Tensor, *, generator: torch.Generator) -> Tensor:
    """Cut a box of random area and shape from each image, resize it to the image's size, and flip it half the time.

    A box's area is uniform over 0.08 to 1 of the image's and the logarithm of its width over its height uniform
    between those of 3/4 and 4/3, both sides rounded to pixels; of ten such draws the first that fits is put at a random
    place. Where none fits, it is the largest box in the middle whose sides have such a ratio. Resizing is bilinear
    between the pixels of the box alone, as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``;
    no box is larger than the image, so there is nothing to smooth beforehand.

    Shape: (N, C, H, W) in and out, of any floating dtype and any device.
    Reference: Szegedy et al. 2015, arXiv:1409.4842, section 6; tries and fallback as ``RandomResizedCrop`` of
    torchvision has them.

    Args:
        inputs: a batch of images.
        generator: of the draws; on the CPU, so that every device sees the same boxes.

    Raises:
        ValueError: inputs are not (N, C, H, W) or not floating-point; the generator is not on the CPU.
    """
    n, height, width = _checked(inputs, generator)
    if not inputs.is_floating_point():
        raise ValueError(f"inputs must be floating-point to be resized, got {inputs.dtype}. Convert them first.")
    heights, widths, fits = _box_sizes(n, height, width, generator)
    place = torch.rand((2, n), generator=generator, dtype=torch.float64)
    flipped = torch.randint(2, (n, 1), generator=generator).bool()
    rows = _centers(_starts(place[0], height - heights, fits), heights, height)
    columns = _centers(_starts(place[1], width - widths, fits), widths, width)
    columns = torch.where(flipped, columns.flip(1), columns)
    return _between_pixels(_between_pixels(inputs, rows[:, None, :, None], 2), columns[:, None, None, :], 3)


def _checked(inputs: Tensor, generator: torch.Generator) -> tuple[int, int, int]:
    """The number of images, their height and their width, after checking that they are images."""
    if inputs.ndim != 4:
        raise ValueError(f"inputs must be images (N, C, H, W), got shape {tuple(inputs.shape)}.")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, got one on {generator.device}.")
    n, _, height, width = inputs.shape
    return n, height, width


def _box_sizes(n: int, height: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Heights and widths of n boxes, whole numbers as float64, and whether each was drawn: (n,) each."""
    area, log_aspect = (
        torch.empty((_TRIES, n), dtype=torch.float64).uniform_(low, high, generator=generator)
        for low, high in (_AREA, (math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    )
    # (width, height) of each try
    sides = (area * height * width * torch.stack([log_aspect, -log_aspect]).exp()).sqrt().round()
    fit = ((sides >= 1) & (sides <= torch.tensor([width, height]).view(2, 1, 1))).all(0)
    first = fit.int().argmax(0)
    widths, heights = sides[:, first, torch.arange(n)]
    fits = fit.any(0)
    widest, highest = min(width, round(height * _ASPECT[1])), min(height, round(width / _ASPECT[0]))
    return torch.where(fits, heights, highest), torch.where(fits, widths, widest), fits


def _starts(place: Tensor, room: Tensor, fits: Tensor) -> Tensor:
    """The first row or column of each box: uniform over the room there is, in the middle where no draw has fitted."""
    return torch.where(fits, place * (room + 1), room / 2).floor()


def _centers(starts: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Where the centers of `size` new pixels lie among those of each box, none beyond its outermost: (N, size)."""
    scale = (lengths / size)[:, None]
    inside = (torch.arange(size, dtype=torch.float64) + 0.5) * scale - 0.5
    return starts[:, None] + torch.minimum(inside.clamp(min=0), lengths[:, None] - 1)


def _between_pixels(inputs: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Linear interpolation at positions along one axis, the same in the other and in every channel."""
    shape = [*inputs.shape]
    below = positions.floor()
    weight = (positions - below).to(inputs.dtype).to(inputs.device, non_blocking=True)
    low = below.long().to(inputs.device, non_blocking=True)
    high = (low + 1).clamp(max=shape[dim] - 1)  # of weight 0 where it would lie beyond
    return torch.lerp(inputs.gather(dim, low.expand(shape)), inputs.gather(dim, high.expand(shape)), weight)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Positions up to size - 1 beyond either border, mirrored in it."""
    return size - 1 - (size - 1 - index.abs()).abs()
