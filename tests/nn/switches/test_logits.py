from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch

from .networks import draw

VARIANTS = [(True, True), (True, False), (False, True)]


def around(model: nn.Module, num_classes: int = 4, **options) -> nn.Module:
    chosen = [switch("logits_norm", **options)]
    return (
        switches.apply(ns.normalizer("none"), chosen, generator=torch.Generator()).around(model, num_classes).double()
    )


def test_both_together_are_torchs_batch_norm_in_train_and_eval():
    model, torchs = around(nn.Identity()), nn.BatchNorm1d(4, affine=False, dtype=torch.float64)
    for step in range(3):
        x = 2 * draw(9, 4, seed=step) + 1
        torch.testing.assert_close(model(x), torchs(x))
    torch.testing.assert_close(model.norm.running_mean, torchs.running_mean)
    torch.testing.assert_close(model.norm.running_var, torchs.running_var)
    torch.testing.assert_close(model.eval()(x), torchs.eval()(x))


@pytest.mark.parametrize(("mean", "variance"), VARIANTS)
def test_each_variant_is_its_formula_in_train_and_eval(mean, variance):
    model = around(nn.Identity(), mean=mean, variance=variance)
    x = 2 * draw(9, 4) + 1
    batch_mean, batch_variance = x.mean(0), x.var(0, correction=0)
    expected = (x - batch_mean if mean else x) / ((batch_variance + 1e-5).sqrt() if variance else 1)
    torch.testing.assert_close(model(x), expected)

    running_mean, running_variance = 0.1 * batch_mean, 0.9 + 0.1 * x.var(0)
    other = draw(1, 4, seed=7)
    expected = (other - running_mean if mean else other) / ((running_variance + 1e-5).sqrt() if variance else 1)
    torch.testing.assert_close(model.eval()(other), expected)


@pytest.mark.parametrize(("mean", "variance"), VARIANTS)
def test_first_and_second_derivatives_equal_finite_differences(mean, variance):
    def function(x: Tensor) -> Tensor:
        return around(nn.Identity(), mean=mean, variance=variance)(x)

    x = draw(5, 4).requires_grad_()
    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


def test_every_token_belongs_to_the_batch():
    x = draw(5, 3, 4)
    torch.testing.assert_close(around(nn.Identity())(x).flatten(0, 1), around(nn.Identity())(x.flatten(0, 1)))


def test_the_network_is_called_as_it_was():
    class Keyword(nn.Module):
        def forward(self, x: Tensor, *, twice: bool) -> Tensor:
            return 2 * x if twice else x

    x = draw(5, 4)
    torch.testing.assert_close(around(Keyword(), variance=False)(x, twice=True), 2 * (x - x.mean(0)))


def test_it_is_no_site_and_says_that_it_couples_the_batch():
    model = around(nn.Sequential(ns.normalizer("layernorm").site(4, 2)))
    assert [name for name, module in model.named_modules() if hasattr(module, "normalizer_site")] == ["model.0"]
    assert model.norm.couples_batch
    assert not model.eval().norm.couples_batch


def test_other_outputs_are_refused():
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(TypeError, match="returns its logits as one tensor, got tuple"):
        around(Pair())(draw(5, 4))
    with pytest.raises(ValueError, match=r"the input has shape \(5, 3\)"):
        around(nn.Identity())(draw(5, 3))
