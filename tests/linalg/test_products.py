from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from normscope.linalg import product_singular_values


def drawn(size: int, factors: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, size, generator=generator, dtype=torch.float64) / math.sqrt(size) for _ in range(factors)]


@pytest.mark.parametrize("factors", [1, 2, 4])
def test_they_are_those_of_the_product_of_the_generators_matrices(factors):
    s = product_singular_values(6, factors, generator=torch.Generator().manual_seed(5))
    matrices = drawn(6, factors, 5)
    product = matrices[0]
    for matrix in matrices[1:]:
        product = product @ matrix
    torch.testing.assert_close(s, torch.linalg.svdvals(product), rtol=1e-9, atol=0)
    assert s.dtype == torch.float64


def test_small_values_keep_their_digits():
    """The determinant of a product is the product of the determinants, whatever the condition number."""
    s = product_singular_values(100, 5, generator=torch.Generator().manual_seed(0))
    expected = sum(torch.linalg.slogdet(matrix).logabsdet for matrix in drawn(100, 5, 0))
    assert s[0] / s[-1] > 1e6
    torch.testing.assert_close(s.log().sum(), expected, rtol=0, atol=1e-7)


def test_entries_have_variance_one_over_size():
    s = product_singular_values(200, 2, generator=torch.Generator().manual_seed(0))
    assert s.square().mean().item() == pytest.approx(1, abs=4 * math.sqrt(4) / 200)


def test_the_global_random_state_is_not_used_and_the_type_is_asked_for():
    before = torch.get_rng_state()
    first, second = (product_singular_values(5, 2, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    single = product_singular_values(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), first, rtol=1e-3, atol=1e-5)


def test_no_size_and_no_factor_are_refused():
    with pytest.raises(ValueError, match="size is at least 1, but 0 arrived"):
        product_singular_values(0, 1, generator=torch.Generator())
    with pytest.raises(ValueError, match="factors is at least 1, but 0 arrived"):
        product_singular_values(4, 0, generator=torch.Generator())
