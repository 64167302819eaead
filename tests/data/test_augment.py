from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from normscope.data import crop_flip


def legal(image: torch.Tensor, padding: int) -> list[torch.Tensor]:
    """Every crop of the padded image, by torch's own padding, and each one flipped."""
    padded = F.pad(image[None], [padding] * 4, mode="reflect")[0]
    height, width = image.shape[1:]
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    return [*crops, *(crop.flip(2) for crop in crops)]


def places(inputs: torch.Tensor, outputs: torch.Tensor, padding: int) -> list[int]:
    """Which of the legal pictures each output is; an assertion where it is none."""
    found = []
    for image, output in zip(inputs, outputs, strict=True):
        matches = [index for index, picture in enumerate(legal(image, padding)) if torch.equal(picture, output)]
        assert len(matches) == 1
        found.append(matches[0])
    return found


@pytest.mark.parametrize(
    ("shape", "padding"), [((6, 3, 8, 8), 4), ((5, 1, 5, 9), 2), ((4, 2, 6, 5), 4), ((3, 1, 4, 4), 0)]
)
def test_every_output_is_one_of_the_legal_pictures(shape, padding, generator):
    inputs = torch.randn(shape, generator=generator)
    outputs = crop_flip(inputs, generator=generator, padding=padding)
    assert outputs.shape == inputs.shape
    for image, output in zip(inputs, outputs, strict=True):
        assert any(torch.equal(picture, output) for picture in legal(image, padding))


def test_all_places_and_both_sides_are_equally_likely(seed):
    padding, n = 1, 3600  # 18 pictures, 200 expected of each
    inputs = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(5)).expand(n, 1, 4, 4)
    outputs = crop_flip(inputs, generator=torch.Generator().manual_seed(seed), padding=padding)
    pictures = torch.stack(legal(inputs[0], padding)).flatten(1)
    counts = (outputs.flatten(1)[:, None] == pictures).all(2).sum(0)
    assert counts.sum() == n
    chi_square = ((counts - n / 18) ** 2 / (n / 18)).sum().item()
    assert chi_square < 40.8  # 17 degrees of freedom: exceeded once in a thousand


def test_images_of_a_batch_are_drawn_apart(generator):
    inputs = torch.randn(1, 1, 8, 8, generator=generator).expand(64, 1, 8, 8)
    outputs = crop_flip(inputs, generator=generator)
    assert len(outputs.flatten(1).unique(dim=0)) > 40


def test_channels_move_together_and_any_dtype_does(generator):
    inputs = torch.arange(2 * 64).view(2, 1, 8, 8).expand(2, 3, 8, 8)
    outputs = crop_flip(inputs, generator=generator)
    assert outputs.dtype == torch.int64
    assert torch.equal(outputs[:, 0], outputs[:, 2])


def test_draws_come_from_the_generator_alone_and_the_inputs_stay():
    inputs = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept, state = inputs.clone(), torch.get_rng_state()
    one = crop_flip(inputs, generator=torch.Generator().manual_seed(1))
    two = crop_flip(inputs, generator=torch.Generator().manual_seed(1))
    other = crop_flip(inputs, generator=torch.Generator().manual_seed(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(inputs, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_channels_last_inputs_give_the_same_pixels(generator):
    inputs = torch.randn(4, 3, 8, 8, generator=generator)
    plain = crop_flip(inputs, generator=torch.Generator().manual_seed(1))
    last = crop_flip(inputs.contiguous(memory_format=torch.channels_last), generator=torch.Generator().manual_seed(1))
    assert torch.equal(plain, last)


@pytest.mark.parametrize(
    ("shape", "padding", "match"),
    [
        ((3, 8, 8), 4, r"inputs must be images \(N, C, H, W\), got shape \(3, 8, 8\)"),
        ((2, 1, 4, 9), 4, "padding must lie between 0 and 3 for these images, got 4"),
        ((2, 1, 4, 9), -1, "padding must lie between 0 and 3 for these images, got -1"),
    ],
)
def test_impossible_arguments_are_refused(shape, padding, match, generator):
    with pytest.raises(ValueError, match=match):
        crop_flip(torch.zeros(shape), generator=generator, padding=padding)


@pytest.mark.gpu
def test_the_device_sees_the_same_draws():
    inputs = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    here = crop_flip(inputs, generator=torch.Generator().manual_seed(1))
    there = crop_flip(inputs.cuda(), generator=torch.Generator().manual_seed(1))
    assert torch.equal(here, there.cpu())
    with pytest.raises(ValueError, match="generator must be on the CPU, got one on cuda"):
        crop_flip(inputs.cuda(), generator=torch.Generator("cuda"))
