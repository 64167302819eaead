"""Theorem 4.1 of Santurkar et al. 2018, arXiv:1805.11604: what batch normalization does to a gradient's size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from normscope.nn import normalizer


def gradients(seed: int) -> tuple[Tensor, ...]:
    """By the activations before the layer and after it, the normalized ones, gain and deviation: (m, units)."""
    generator = torch.Generator().manual_seed(seed)
    m, units = 12, 5
    site = normalizer("batchnorm_train", eps=0.0).site(units, 2, dtype=torch.float64)
    with torch.no_grad():
        site.weight.uniform_(0.5, 2.0, generator=generator)
        site.bias.normal_(generator=generator)
    readout = nn.Linear(units, 3, dtype=torch.float64)
    nn.init.normal_(readout.weight, generator=generator)
    y = (3 * torch.randn(m, units, generator=generator, dtype=torch.float64) + 1).requires_grad_()
    z = site(y)
    loss = nn.functional.cross_entropy(readout(z.tanh()), torch.randint(3, (m,), generator=generator))
    by_y, by_z = torch.autograd.grad(loss, (y, z))
    normalized = (z.detach() - site.bias) / site.weight
    return by_y, by_z, normalized.detach(), site.weight.detach(), y.detach().std(0, correction=0)


def right_side(power: float, by_z: Tensor, normalized: Tensor, gain: Tensor, sigma: Tensor) -> Tensor:
    m = len(by_z)
    removed = by_z.sum(0).square() / m + (by_z * normalized).sum(0).square() / m**power
    return (gain / sigma).square() * (by_z.square().sum(0) - removed)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_an_equality_with_one_over_m_in_its_last_term(seed):
    by_y, *others = gradients(seed)
    torch.testing.assert_close(by_y.square().sum(0), right_side(1.0, *others), rtol=1e-10, atol=1e-15)


def test_with_one_over_root_m_as_printed_it_fails():
    """‖ŷ‖ is √m, so ŷ/√m has norm 1 and the projection on it carries 1/m; 1/√m takes away more than there is."""
    by_y, *others = gradients(0)
    assert (by_y.square().sum(0) > right_side(0.5, *others) * (1 + 1e-6)).any()
