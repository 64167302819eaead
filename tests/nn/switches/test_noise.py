from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch
from normscope.nn.switches.noise import BatchNoise
from normscope.nn.switches.switch import Place
from normscope.nn.switches.switched import SwitchedSite

from .networks import draw, switched_mlp


def site_of(normalizer, features: int = 5, ndim: int = 2, **options) -> SwitchedSite:
    """A float64 site with gain and shift of its own, and 4 samples' noise."""
    chosen = [switch("batch_noise", **{"samples": 4, **options})]
    switched = switches.apply(normalizer, chosen, generator=torch.Generator().manual_seed(0))
    site = switched.site(features, ndim).double()
    with torch.no_grad():
        for i, parameter in enumerate(site.parameters()):
            parameter.add_(0.5 * draw(features, seed=10 + i))
    return site


def noise_of(site: nn.Module) -> BatchNoise:
    (noise,) = (module for module in site.modules() if isinstance(module, BatchNoise))
    return noise


@pytest.mark.parametrize("ndim", [2, 3, 4])
@pytest.mark.parametrize("name", ["layernorm", "batchnorm", "regnorm", "none"])
def test_noise_stands_between_normalization_and_gain_and_shift(name, ndim):
    shape = {2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 3, 2)}[ndim]
    site = site_of(ns.normalizer(name, affine=True), ndim=ndim)
    channels = (1, -1, 1, 1)[:ndim] if ndim != 3 else (1, 1, -1)
    weight, bias = (value.view(channels) for value in (site.site.weight, site.site.bias))
    a, b = (value.view(channels) for value in (noise_of(site).scale, noise_of(site).shift))
    x = draw(*shape)
    normalized = ns.normalizer(name, affine=False).site(5, ndim, dtype=torch.float64)(x)

    torch.testing.assert_close(site(x), weight * ((1 + a) * normalized + b) + bias)
    plain = site.eval()(x)
    torch.testing.assert_close(plain, site.site(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("factory", "shape"),
    [
        (nn.BatchNorm1d, (6, 5)),
        (nn.LayerNorm, (6, 5)),
        (nn.BatchNorm2d, (6, 5, 3, 2)),
        (lambda c: nn.GroupNorm(1, c), (6, 5, 3, 2)),
    ],
)
def test_in_torchs_norms_too(factory, shape):
    site = site_of(ns.as_normalizer(factory), ndim=len(shape))
    inner = site.site
    channels = (-1, *[1] * (len(shape) - 2))
    a, b = (value.view(channels) for value in (noise_of(site).scale, noise_of(site).shift))
    x = draw(*shape)
    weight, bias = inner.weight.view(channels), inner.bias.view(channels)
    normalized = (inner(x) - bias) / weight
    torch.testing.assert_close(site(x), weight * ((1 + a) * normalized + b) + bias)


def test_behind_a_site_of_any_other_make():
    site = site_of(ns.as_normalizer(lambda c: nn.Sequential(nn.LayerNorm(c)), name="boxed"))
    x = draw(6, 5)
    torch.testing.assert_close(site(x), (1 + noise_of(site).scale) * site.site(x) + noise_of(site).shift)


def test_gain_and_shift_get_the_gradients_of_the_formula():
    site = site_of(ns.normalizer("layernorm"))
    weight, bias = site.site.weight, site.site.bias
    a, b, x = noise_of(site).scale, noise_of(site).shift, draw(6, 5)
    normalized = ns.normalizer("layernorm", affine=False).site(5, 2, dtype=torch.float64)(x)
    formula = weight * ((1 + a) * normalized + b) + bias
    got, want = (torch.autograd.grad(y.sin().sum(), [weight, bias]) for y in (site(x), formula))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)


def test_shift_alone_scales_nothing():
    site = site_of(ns.normalizer("none"), kind="shift")
    x = draw(6, 5)
    torch.testing.assert_close(site(x), x + noise_of(site).shift)
    assert noise_of(site).scale is None


def sampled(samples: int, steps: int = 20, features: int = 4000) -> tuple[Tensor, Tensor]:
    noise = BatchNoise(
        Place(num_features=features, channel_dim=1, index=0, seed=1), samples=samples, kind="scale_shift", shared=True
    )
    scales, shifts = [], []
    for step in range(steps):
        noise.at_step(step)
        scales.append(noise.scale.clone())
        shifts.append(noise.shift.clone())
    return torch.cat(scales), torch.cat(shifts)


@pytest.mark.parametrize("samples", [4, 128])
def test_variances_are_those_of_the_formula(samples):
    a, b = sampled(samples)
    spread = 4 * math.sqrt(2 / len(a))  # four standard errors of a variance, relative to it
    assert a.var().item() * 2 * samples == pytest.approx(1, abs=spread)
    assert b.var().item() * samples == pytest.approx(1, abs=spread)
    assert abs(a.mean()) < 4 * a.std() / math.sqrt(len(a))
    assert abs((a * b).mean()) < 4 * a.std() * b.std() / math.sqrt(len(a))


def test_they_are_the_errors_of_a_batchs_statistics():
    """Normalizing by M Gaussian samples' own mean and deviation instead of 0 and 1: z -> (z - m) / s."""
    samples = 256
    batches = torch.randn(20_000, samples, generator=torch.Generator().manual_seed(0))
    mean, scale = batches.mean(1), 1 / batches.std(1, correction=0) - 1
    a, b = sampled(samples)
    assert mean.var().item() == pytest.approx(b.var().item(), rel=0.05)
    assert scale.var().item() == pytest.approx(a.var().item(), rel=0.05)


def shifts(model: nn.Module) -> list[Tensor]:
    return [module.shift.clone() for module in model.modules() if isinstance(module, BatchNoise)]


def test_a_shared_seed_gives_sites_of_equal_width_the_same_draw_and_each_step_another():
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("batch_noise", samples=4)])
    first = shifts(model)
    assert all(torch.equal(shift, first[0]) for shift in first)
    switched.at_step(model, 1)
    second = shifts(model)
    assert all(torch.equal(shift, second[0]) for shift in second)
    assert not torch.equal(first[0], second[0])


def test_otherwise_each_site_draws_its_own():
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("batch_noise", samples=4, shared=False)])
    switched.at_step(model, 1)
    first, second, third = shifts(model)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_the_noise_of_a_step_depends_on_the_seed_and_the_step_alone():
    chosen = [switch("batch_noise", samples=4, shared=False)]
    one, switched = switched_mlp(ns.normalizer("layernorm"), chosen)
    for step in (1, 2, 3):
        switched.at_step(one, step)
    resumed, switched_again = switched_mlp(ns.normalizer("layernorm"), chosen)
    switched_again.at_step(resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(shifts(one), shifts(resumed), strict=True))
    other, switched_other = switched_mlp(ns.normalizer("layernorm"), chosen, seed=1)
    switched_other.at_step(other, 3)
    assert not torch.equal(shifts(other)[0], shifts(one)[0])


def test_within_a_step_the_network_is_a_fixed_function_and_probes_leave_it_alone():
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("batch_noise", samples=4)])
    switched.at_step(model, 2)
    x = draw(9, 6)
    before = model(x)
    subject = ns.Subject(model, lambda y, _: y.mean(), (x, None))
    ns.probes.InformationPropagation()(subject, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), before)
    assert not torch.equal(model.eval()(x), before)


def test_half_precision_stays_half_precision():
    site = site_of(ns.normalizer("layernorm")).float()
    assert site(draw(6, 5).bfloat16()).dtype == torch.bfloat16
