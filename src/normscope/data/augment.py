"""Augmentation of batches where they are: on the device, without a loop over examples."""

from __future__ import annotations

import torch
from torch import Tensor


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
    if inputs.ndim != 4:
        raise ValueError(f"inputs must be images (N, C, H, W), got shape {tuple(inputs.shape)}.")
    n, _, height, width = inputs.shape
    if not 0 <= padding < min(height, width):
        raise ValueError(f"padding must lie between 0 and {min(height, width) - 1} for these images, got {padding}.")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, got one on {generator.device}.")
    offsets = torch.randint(2 * padding + 1, (2, n, 1), generator=generator) - padding
    flipped = torch.randint(2, (n, 1), generator=generator).bool()
    rows = _reflected(torch.arange(height) + offsets[0], height)
    columns = torch.arange(width).expand(n, width)
    columns = _reflected(torch.where(flipped, columns.flip(1), columns) + offsets[1], width)
    pixels = (rows[:, :, None] * width + columns[:, None, :]).flatten(1).to(inputs.device, non_blocking=True)
    flat = inputs.flatten(2)
    return flat.gather(2, pixels[:, None].expand_as(flat)).view_as(inputs)


def _reflected(index: Tensor, size: int) -> Tensor:
    """Positions up to size - 1 beyond either border, mirrored in it."""
    return size - 1 - (size - 1 - index.abs()).abs()
