from __future__ import annotations

import pytest
import torch

from normscope.probes.noise import perturbed


def test_noise_is_gaussian_and_scaled_by_the_inputs_standard_deviation(generator: torch.Generator) -> None:
    x = 5 + 3 * torch.randn(400, 500, generator=generator, dtype=torch.float64)

    difference = perturbed(x, 0.2, generator=generator) - x

    assert abs(difference.std() / (0.2 * x.std()) - 1) < 4 / (2 * x.numel()) ** 0.5
    assert abs(difference.mean()) < 4 * 0.2 * x.std() / x.numel() ** 0.5
    assert abs((difference / difference.std()).pow(4).mean() - 3) < 4 * (96 / x.numel()) ** 0.5


def test_every_leaf_has_its_own_scale_and_masks_are_kept(generator: torch.Generator) -> None:
    small, large = torch.randn(2, 1000, generator=generator).mul(torch.tensor([[1e-3], [1e3]]))
    mask = small > 0
    inputs = {"pair": (small, large), "mask": mask, "length": 3}

    noisy = perturbed(inputs, 0.1, generator=generator)

    assert noisy["mask"] is mask
    assert noisy["length"] == 3
    for before, after in zip(inputs["pair"], noisy["pair"], strict=True):
        assert 0.09 < (after - before).std() / before.std() < 0.11


def test_without_noise_inputs_are_the_same(generator: torch.Generator) -> None:
    x = torch.randn(8, generator=generator)
    assert torch.equal(perturbed(x, 0.0, generator=generator), x)


def test_half_precision_noise_is_drawn_in_single(generator: torch.Generator) -> None:
    x = torch.randn(1000, generator=generator)
    noisy = perturbed(x.bfloat16(), 0.5, generator=torch.Generator().manual_seed(1))

    assert noisy.dtype == torch.bfloat16
    expected = perturbed(x, 0.5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(noisy.float(), expected, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("inputs", "arrived"),
    [
        (torch.zeros(2, dtype=torch.int64), "a torch.int64 tensor"),
        ({"x": torch.zeros(2), "tokens": torch.zeros(2, dtype=torch.int32)}, "a torch.int32 tensor"),
        (torch.zeros(2, dtype=torch.complex64), "a torch.complex64 tensor"),
        ("text", "no tensor of that kind"),
    ],
)
def test_inputs_that_noise_cannot_be_added_to_are_refused(
    inputs: object, arrived: str, generator: torch.Generator
) -> None:
    with pytest.raises(ValueError, match=f"floating-point inputs, but {arrived} arrived. For tokens"):
        perturbed(inputs, 0.1, generator=generator)
