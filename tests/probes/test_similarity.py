from __future__ import annotations

import math

import pytest
import torch

from normscope.probes.similarity import cosine, inner_products, log_norm, norm


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_inner_products_are_exact_across_pieces(size: int) -> None:
    a, b = torch.arange(size) % 7 - 3.0, torch.arange(size) % 5 - 1.0

    expected = [(a * a).sum().item(), (a * b).sum().item(), (b * b).sum().item()]

    assert inner_products(a, b).tolist() == expected
    assert norm(a) == expected[0] ** 0.5


def test_memory_layout_does_not_matter(generator: torch.Generator) -> None:
    a, b = torch.randn(2, 3, 4, 5, 6, generator=generator)

    torch.testing.assert_close(inner_products(a.contiguous(memory_format=torch.channels_last), b), inner_products(a, b))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_neither_underflow_nor_overflow(scale: float, generator: torch.Generator) -> None:
    a = torch.randn(100, generator=generator) * scale

    assert cosine(inner_products(a, -a)) == -1
    assert 0 < norm(a) < float("inf")


def test_log_norms_hold_whatever_the_dtype_holds(generator: torch.Generator) -> None:
    a, b = torch.randn(40_000, generator=generator, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    expected = torch.cat([a, b.flatten()]).norm().log().item()

    for exponent in (-290, -150, 0, 150, 300):
        scale = 10.0**exponent
        shifted = log_norm(scale * a, scale * b).item()
        assert shifted == pytest.approx(expected + exponent * math.log(10), rel=1e-13)
    assert log_norm((1e36 * a).float()).item() == pytest.approx(a.norm().log().item() + 36 * math.log(10), rel=1e-7)


def test_log_norms_of_nothing_and_of_what_is_not_finite() -> None:
    assert log_norm(torch.zeros(3), torch.zeros(2)).item() == -math.inf
    assert log_norm(torch.tensor([1.0, math.inf]), torch.zeros(2)).item() == math.inf
    assert log_norm(torch.tensor([1.0, math.inf]), torch.tensor([math.nan])).isnan()


def test_equal_vectors_have_cosine_exactly_one(generator: torch.Generator) -> None:
    for size in (3, 33_333, 99_999):
        a = torch.randn(size, generator=generator)
        assert cosine(inner_products(a, a.clone())) == 1


def test_the_cosine_of_nothing_is_nan() -> None:
    assert cosine(inner_products(torch.zeros(3), torch.ones(3))).isnan()
