from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch
from normscope.nn.switches.shift import NoisyBatchNorm
from normscope.nn.switches.switched import SwitchedSite

from .networks import draw, gradients, plain_mlp, switched_mlp

MANY = 2000
SIZES = {"shift": 0.5, "scale": 1.25, "sample_shift": 0.1, "sample_scale": 0.1}  # of the source


def site_of(features: int = 5, ndim: int = 2, *, seed: int = 0, row: str = "batchnorm", **options) -> SwitchedSite:
    chosen = [switch("noisy_batch_norm", **options)]
    switched = switches.apply(ns.normalizer(row), chosen, generator=torch.Generator().manual_seed(seed))
    return switched.site(features, ndim).double()


def noises(module: nn.Module) -> list[NoisyBatchNorm]:
    return [found for found in module.modules() if isinstance(found, NoisyBatchNorm)]


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_every_example_and_channel_of_the_sites_output_has_one_scale_and_one_shift(ndim):
    shape = {2: (6, 5), 3: (6, 3, 5), 4: (6, 5, 3, 2)}[ndim]
    site = site_of(ndim=ndim)
    x = draw(*shape)
    one_per = (6, 1, 5) if ndim == 3 else (6, 5, 1, 1)[:ndim]
    s, m = (drawn.double().view(one_per) for drawn in noises(site)[0].draw(6))
    torch.testing.assert_close(site(x), s * site.site(x) + m)
    torch.testing.assert_close(site.eval()(x), site.site(x), rtol=0, atol=0)


def test_the_draws_have_the_distributions_of_the_algorithm():
    """Within a channel the spread of an example's draws, between channels that of their distributions' parameters."""
    assert switch("noisy_batch_norm").options == SIZES
    s, m = (drawn.double() for drawn in noises(site_of(MANY))[0].draw(MANY))
    mu, sigma = m.mean(0), s.mean(0)  # to within 0.003, one over the root of as many examples
    assert mu.abs().max() <= 0.5 + 0.02
    assert sigma.min() >= 1 - 0.02
    assert sigma.max() <= 1.25 + 0.02
    assert mu.std().item() == pytest.approx(1 / math.sqrt(12), rel=0.05)  # U(-0.5, 0.5)
    assert sigma.std().item() == pytest.approx(0.25 / math.sqrt(12), rel=0.05)
    assert mu.mean().abs() < 4 / math.sqrt(12 * MANY)
    assert sigma.mean().item() == pytest.approx(1.125, abs=4 * 0.25 / math.sqrt(12 * MANY))
    inner = m - mu
    assert inner.abs().max() <= 0.1 + 0.02
    assert inner.std().item() == pytest.approx(0.2 / math.sqrt(12), rel=0.01)
    spread = s - sigma
    assert spread.std().item() == pytest.approx(0.1, rel=0.01)
    assert (spread / 0.1).pow(4).mean().item() == pytest.approx(3, rel=0.05)  # Gaussian
    assert torch.corrcoef(torch.stack([inner.flatten(), spread.flatten()]))[0, 1].abs() < 0.01


def test_draws_change_with_step_site_and_seed_and_with_nothing_else():
    model, switched = switched_mlp(ns.normalizer("batchnorm"), [switch("noisy_batch_norm")])
    first, second, _ = noises(model)
    start = first.draw(4)
    assert not torch.equal(start[0], second.draw(4)[0])
    switched.at_step(model, 1)
    assert not torch.equal(first.draw(4)[0], start[0])
    assert not torch.equal(first.draw(4)[1], start[1])
    torch.rand(3)
    switched.at_step(model, 0)
    assert torch.equal(first.draw(4)[0], start[0])
    other, _ = switched_mlp(ns.normalizer("batchnorm"), [switch("noisy_batch_norm")], seed=1)
    assert not torch.equal(noises(other)[0].draw(4)[0], start[0])


def test_within_a_step_the_network_is_a_fixed_function_and_a_resumed_run_repeats_its_noise():
    model, switched = switched_mlp(ns.normalizer("layernorm"), [switch("noisy_batch_norm")])
    x = draw(9, 6)
    switched.at_step(model, 7)
    before = torch.get_rng_state()
    outputs = model(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model(x), outputs)
    resumed, _ = switched_mlp(ns.normalizer("layernorm"), [switch("noisy_batch_norm")])
    assert not torch.equal(resumed(x), outputs)
    resumed.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(resumed(x), outputs)


def test_without_sizes_it_is_the_plain_network():
    nothing = switch("noisy_batch_norm", shift=0.0, scale=1, sample_shift=0.0, sample_scale=0.0)
    model, _ = switched_mlp(ns.normalizer("batchnorm"), [nothing])
    plain, x = plain_mlp(ns.normalizer("batchnorm")), draw(9, 6)
    assert torch.equal(model(x), plain(x))

    def loss(outputs: Tensor) -> Tensor:
        return outputs.square().sum()

    for got, want in zip(gradients(model, x, loss), gradients(plain, x, loss), strict=True):
        assert torch.equal(got, want)


def test_it_takes_away_the_means_and_variances_that_batch_normalization_gave():
    z = site_of(MANY, row="batchnorm_train")(draw(64, MANY))
    assert z.mean(0).std() > 0.25  # 1/sqrt(12) of the shifts
    assert site_of(MANY, row="batchnorm_train").eval()(draw(64, MANY)).mean(0).abs().max() < 1e-12


def test_examples_do_not_meet_in_it_and_half_precision_stays():
    site = site_of(row="none")
    x = draw(6, 5)
    changed = x.clone()
    changed[0] += 1
    assert torch.equal(site(changed)[1:], site(x)[1:])
    assert not switch("noisy_batch_norm").couples_batch
    low = site_of(row="none").to(torch.bfloat16)
    assert low(x.bfloat16()).dtype == torch.bfloat16


def test_a_probe_measures_it_and_curvature_is_exact():
    model, _ = switched_mlp(ns.normalizer("batchnorm"), [switch("noisy_batch_norm")])
    x, y = draw(9, 6), torch.arange(9) % 4
    subject = ns.Subject(model, F.cross_entropy, (x, y))
    first, second = (ns.probes.GradientNorm()(subject, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert torch.equal(first.values, second.values)
    ns.curvature.HessianOperator(model, F.cross_entropy, [(x, y)])  # refuses what finite differences contradict


def test_the_draws_do_not_depend_on_the_default_dtype():
    noise = noises(site_of())[0]
    expected = noise.draw(6)
    torch.set_default_dtype(torch.float64)
    try:
        found = noise.draw(6)
    finally:
        torch.set_default_dtype(torch.float32)
    for got, want in zip(found, expected, strict=True):
        assert torch.equal(got, want)
