"""Batch normalization by other norms than the standard deviation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns

POWERS = (1, 2, "inf")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.7


def site(p, ndim: int = 4, **options):
    return ns.normalizer("lpnorm", p=p, affine=False, **options).site(5, ndim, dtype=torch.float64)


def by_hand(z: Tensor, p) -> Tensor:
    """Channel by channel, with one norm of torch's own over all values of the channel."""
    columns = []
    for values in z.movedim(1, -1).reshape(-1, 5).T:
        d = values - values.mean()
        size = torch.linalg.vector_norm(d, float(p)) / (1 if p == "inf" else len(d) ** (1 / p))
        columns.append(d / size)
    return torch.stack(columns, 1).reshape(z.movedim(1, -1).shape).movedim(-1, 1)


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("shape", [(6, 5), (4, 5, 3, 2)], ids=["NC", "NCHW"])
def test_it_is_the_definition(p, shape):
    z = draw(*shape)
    torch.testing.assert_close(site(p, len(shape), eps=0.0)(z), by_hand(z, p))


@pytest.mark.parametrize("training", [True, False])
def test_the_second_power_is_batch_normalization(training):
    z = draw(4, 5, 3, 2)
    batch = ns.normalizer("batchnorm_train", affine=False).site(5, dtype=torch.float64)
    torch.testing.assert_close(site(2).train(training)(z), batch.train(training)(z), rtol=1e-12, atol=1e-12)


def test_eps_is_added_inside_the_root():
    z = draw(4, 5, 3, 2)
    d = z - z.mean((0, 2, 3), keepdim=True)
    magnitude = d.abs()
    for p, divisor in (
        (1, magnitude.mean((0, 2, 3), keepdim=True) + 0.5),
        (2, (d.square().mean((0, 2, 3), keepdim=True) + 0.5).sqrt()),
        ("inf", magnitude.amax((0, 2, 3), keepdim=True) + 0.5),
    ):
        torch.testing.assert_close(site(p, eps=0.5)(z), d / divisor)


@pytest.mark.parametrize("p", POWERS)
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_first_and_second_derivatives_equal_finite_differences(p, ndim):
    function = ns.normalizer("lpnorm", p=p).site(5, ndim, dtype=torch.float64)
    z = draw(*{2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 2, 1)}[ndim]).requires_grad_()
    assert gradcheck(function, z)
    assert gradgradcheck(function, z)


@pytest.mark.parametrize("p", POWERS)
def test_two_values_that_share_the_largest_deviation_have_the_derivative_of_both(p):
    """Of two examples both deviate equally, always; the function is smooth there, and so is the gradient."""
    z = draw(2, 5).requires_grad_()
    assert gradcheck(site(p, 2, eps=0.1), z)
    assert gradgradcheck(site(p, 2, eps=0.1), z)


@pytest.mark.parametrize("p", POWERS)
def test_a_constant_channel_gives_zeros_and_a_finite_gradient(p):
    z = torch.full((6, 5), 3.0, dtype=torch.float64, requires_grad=True)
    y = site(p, 2)(z)
    assert not y.any()
    assert torch.autograd.grad((y * draw(6, 5)).sum(), z)[0].isfinite().all()


@pytest.mark.parametrize("p", POWERS)
def test_forward_over_reverse_equals_double_reverse(p):
    z, tangent, cotangent = (draw(6, 5, seed=s) for s in range(3))

    def loss(z: Tensor) -> Tensor:
        return (site(p, 2)(z).tanh() * cotangent).sum()

    _, product = torch.func.jvp(torch.func.grad(loss), (z,), (tangent,))
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    torch.testing.assert_close(product, torch.autograd.grad(gradient, leaf, tangent)[0])


@pytest.mark.parametrize("p", POWERS)
def test_the_largest_half_precision_values_do_not_overflow(p):
    z = (1e4 * draw(4, 5, 3, 2)).to(torch.float16)
    y = ns.normalizer("lpnorm", p=p).site(5)(z)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.double(), by_hand(z.double(), p), rtol=2e-3, atol=2e-3)


def test_the_row_couples_the_batch_in_both_modes_and_keeps_no_statistics():
    row = ns.normalizer("lpnorm", p="inf")
    assert row.couples_batch
    assert row.options == {"affine": True, "eps": 1e-5, "p": "inf"}
    assert not list(row.site(5).buffers())
    assert row.site(5).eval().couples_batch
    assert {p: dataclasses.replace(row, p=p).fused for p in POWERS} == {1: None, 2: "batch_norm", "inf": None}


@pytest.mark.parametrize("p", [0, 3, True, float("inf"), "2", None])
def test_other_powers_are_refused(p):
    with pytest.raises(ValueError, match="Option p of lpnorm must be 1, 2 or 'inf', got"):
        ns.normalizer("lpnorm", p=p)


def test_other_rows_have_no_power_and_this_one_no_running_statistics():
    with pytest.raises(ValueError, match="Unknown option 'p' of batchnorm"):
        ns.normalizer("batchnorm", p=1)
    with pytest.raises(ValueError, match="Unknown option 'momentum' of lpnorm"):
        ns.normalizer("lpnorm", momentum=0.1)
