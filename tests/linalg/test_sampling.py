from __future__ import annotations

import pytest
import torch

from normscope.linalg import gaussian, rademacher

CPU = torch.device("cpu")


@pytest.mark.parametrize("draw", [gaussian, rademacher])
def test_entries_have_mean_zero_and_variance_one(draw, seed):
    z = draw(100_000, generator=torch.Generator().manual_seed(seed), device=CPU)

    assert z.dtype == torch.float64
    assert abs(float(z.mean())) < 4 / 100_000**0.5
    assert abs(float(z.square().mean()) - 1) < 4 * (2 / 100_000) ** 0.5


def test_rademacher_entries_are_signs(generator):
    assert rademacher(1000, generator=generator, device=CPU).abs().eq(1).all()


@pytest.mark.parametrize("draw", [gaussian, rademacher])
def test_the_same_generator_state_gives_the_same_vector(draw):
    first, second = (draw(50, generator=torch.Generator().manual_seed(3), device=CPU) for _ in range(2))
    assert torch.equal(first, second)
