from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

import normscope as ns
from normscope.nn.switches import switch
from normscope.nn.switches.gradient import scaled_gradient

from .networks import CLASSES, DEPTH, FEATURES, draw, plain_mlp, switched_mlp

K = 1.21
WEIGHT = draw(7, seed=1)


def gradient_norms(model: nn.Module) -> Tensor:
    subject = ns.Subject(model, F.cross_entropy, (draw(9, FEATURES), torch.arange(9) % CLASSES))
    return ns.probes.GradientNorm()(subject, generator=torch.Generator().manual_seed(0)).values


def factor(model: nn.Module, plain: nn.Module | None = None) -> float:
    """Of the gradient at the first of two sites, against the plain network's."""
    plain = plain_mlp(ns.normalizer("layernorm"), depth=2) if plain is None else plain
    return (gradient_norms(model)[0] / gradient_norms(plain)[0]).item()


@pytest.mark.parametrize("name", ["layernorm", "batchnorm", "none"])
def test_the_gradient_at_site_l_is_multiplied_by_k_to_the_number_of_sites_behind_it(name):
    model, _ = switched_mlp(ns.normalizer(name), [switch("gradient_scale", k=K)])
    ratios = gradient_norms(model) / gradient_norms(plain_mlp(ns.normalizer(name)))
    expected = K ** torch.arange(DEPTH - 1, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(ratios, expected, rtol=1e-12, atol=0)


def test_the_forward_pass_is_the_plain_networks_bit_for_bit():
    model, _ = switched_mlp(ns.normalizer("layernorm"), [switch("gradient_scale", k=K)])
    x = draw(9, FEATURES)
    assert torch.equal(model(x), plain_mlp(ns.normalizer("layernorm"))(x))


def surrogate(x: Tensor) -> Tensor:
    return (scaled_gradient(x, K - 1).sin() * WEIGHT).sum()


def test_the_derivative_is_k_in_every_mode_alike():
    """f(x) = sum(w sin(S(x))) with S' = k: f' = k w cos x and, the rule applied again, f'' = -k^2 w sin x."""
    x, tangent, weight = draw(7), draw(7, seed=2), WEIGHT
    first, second = K * weight * x.cos(), -(K**2) * weight * x.sin() * tangent

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(leaf), leaf, create_graph=True)
    torch.testing.assert_close(gradient, first)
    torch.testing.assert_close(torch.autograd.grad(gradient, leaf, tangent)[0], second)

    torch.testing.assert_close(torch.func.grad(surrogate)(x), first)
    torch.testing.assert_close(torch.func.jvp(surrogate, (x,), (tangent,))[1], first @ tangent)
    torch.testing.assert_close(torch.func.jvp(torch.func.grad(surrogate), (x,), (tangent,))[1], second)
    torch.testing.assert_close(torch.func.jvp(torch.func.jacrev(surrogate), (x,), (tangent,))[1], second)
    torch.testing.assert_close(torch.func.hessian(surrogate)(x) @ tangent, second)

    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.clone(), tangent).requires_grad_()
        (got,) = torch.autograd.grad(surrogate(dual), dual)
        torch.testing.assert_close(forward_ad.unpack_dual(got).tangent, second)


@pytest.mark.parametrize(("step", "k"), [(0, 2.0), (1, 1.98), (25, 1.5), (49, 1.02), (50, 1.0), (80, 1.0)])
def test_the_factor_goes_down_linearly_and_is_off_from_its_end(step, k):
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("gradient_scale", k=2.0, until=50)], depth=2)
    switched.at_step(model, step)
    assert factor(model) == pytest.approx(k, rel=1e-12)
    assert all(module.surrogate == (k != 1) for module in model.modules() if hasattr(module, "surrogate"))


def test_before_the_first_step_the_factor_is_whole():
    model, _ = switched_mlp(ns.normalizer("layernorm"), [switch("gradient_scale", k=0.8, until=50)], depth=2)
    assert factor(model) == pytest.approx(0.8, rel=1e-12)


def test_a_model_in_half_precision_keeps_its_schedule():
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("gradient_scale", k=2.0, until=500)], depth=2)
    switched.at_step(model, 499)
    rounded = plain_mlp(ns.normalizer("layernorm"), depth=2).bfloat16().double()
    assert factor(model.bfloat16().double(), rounded) == pytest.approx(1.002, rel=1e-6)
    steps = [module.step for module in model.modules() if hasattr(module, "surrogate")]
    assert [int(step) for step in steps] == [499, 499]


@pytest.mark.parametrize(("k", "is_one"), [(1.0, False), (0.8, True)])
def test_a_surrogate_says_so(k, is_one):
    model, _ = switched_mlp(ns.normalizer("none"), [switch("gradient_scale", k=k)])
    assert {module.surrogate for module in model.modules() if hasattr(module, "surrogate")} == {is_one}


def test_a_hessian_of_it_is_refused_and_without_a_factor_is_not():
    batches = [(draw(8, FEATURES), torch.arange(8) % CLASSES)]
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("gradient_scale", k=K, until=5)], depth=2)
    with pytest.raises(ValueError, match=r"norms\.0\.behind\.0 \(GradientScale\) has no exact second derivative"):
        ns.curvature.HessianOperator(model, F.cross_entropy, batches)
    switched.at_step(model, 5)
    ns.curvature.HessianOperator(model, F.cross_entropy, batches)
