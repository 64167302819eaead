"""Rows with a site of their own, each against its paper's formulas written out by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns

F64 = torch.float64
EPS = 1e-5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64) + 0.7


def randomized(site: nn.Module) -> nn.Module:
    with torch.no_grad():
        for i, parameter in enumerate(site.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=20 + i))
    return site


# --- batch renormalization --------------------------------------------------------------------------------------------

OPEN = {"start": 0, "r_ramp": 0, "d_ramp": 0}  # full bounds from the first batch on


def renormalized(x: Tensor, mean: Tensor, std: Tensor, r_max: float, d_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """Algorithm 1 for (N, C): values, and the batch's statistics."""
    mu, sigma = x.mean(0), (x.var(0, correction=0) + EPS).sqrt()
    r = (sigma / std).clip(1 / r_max, r_max).detach()
    d = ((mu - mean) / std).clip(-d_max, d_max).detach()
    return (x - mu) / sigma * r + d, mu.detach(), sigma.detach()


def test_batchrenorm_is_algorithm_1_over_several_steps_and_so_is_its_backward():
    site = randomized(ns.normalizer("batchrenorm", momentum=0.2, r_max=1.5, d_max=0.4, **OPEN).site(5, 2, dtype=F64))
    mean, std = torch.zeros(5, dtype=F64), torch.ones(5, dtype=F64)
    for step in range(4):
        x = draw(7, 5, seed=step)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        z, mu, sigma = renormalized(a, mean, std, 1.5, 0.4)
        y = site(b)
        torch.testing.assert_close(y, site.weight * z + site.bias)
        expected = torch.autograd.grad((site.weight * z + site.bias).sin().sum(), a)
        torch.testing.assert_close(torch.autograd.grad(y.sin().sum(), b), expected)
        mean, std = mean + 0.2 * (mu - mean), std + 0.2 * (sigma - std)
    torch.testing.assert_close(site.running_mean, mean)
    torch.testing.assert_close(site.running_std, std)
    x = draw(3, 5, seed=9)
    torch.testing.assert_close(site.eval()(x), site.weight * (x - mean) / std + site.bias)


def test_batchrenorm_starts_as_batch_normalization():
    x = draw(4, 5, 3, 2)
    ours, plain = (ns.normalizer(name).site(5, dtype=F64) for name in ("batchrenorm", "batchnorm"))
    for _ in range(3):
        torch.testing.assert_close(ours(x), plain(x))


@pytest.mark.parametrize(
    ("seen", "r_max", "d_max"),
    [(0, 1, 0), (5000, 1, 0), (15000, 1 + 2 * 10 / 35, 2.5), (25000, 1 + 2 * 20 / 35, 5), (40000, 3, 5), (10**6, 3, 5)],
)
def test_the_bounds_are_the_papers_at_every_count(seen, r_max, d_max):
    """Far from the running statistics both are at their bounds, so the output shows them."""
    site = ns.normalizer("batchrenorm").site(5, 2, dtype=F64)
    site.num_batches_tracked.fill_(seen)
    x = 1e3 * draw(7, 5) + 1e6
    expected, _, _ = renormalized(x, torch.zeros(5, dtype=F64), torch.ones(5, dtype=F64), r_max, max(d_max, 1e-300))
    torch.testing.assert_close(site(x), expected, rtol=1e-6, atol=1e-6)


def test_the_count_is_in_the_state_dict_so_that_a_resumed_run_goes_on():
    row = ns.normalizer("batchrenorm", start=2, r_ramp=3, d_ramp=3)
    whole, first = row.site(5, 2, dtype=F64), row.site(5, 2, dtype=F64)
    batches = [draw(7, 5, seed=s) for s in range(6)]
    wanted = [whole(x) for x in batches]
    for x in batches[:3]:
        first(x)
    resumed = row.site(5, 2, dtype=F64)
    resumed.load_state_dict(first.state_dict(), strict=True)
    for x, want in zip(batches[3:], wanted[3:], strict=True):
        assert torch.equal(resumed(x), want)


# --- power normalization ----------------------------------------------------------------------------------------------


def test_powernorm_is_algorithm_2_over_several_steps_backward_included():
    row = ns.normalizer("powernorm", momentum=0.3, backward_momentum=0.2)
    site = randomized(row.site(5, 2, dtype=F64))
    psi2, nu = torch.ones(5, dtype=F64), torch.zeros(5, dtype=F64)
    for step in range(4):
        x = draw(7, 5, seed=step).requires_grad_()
        cotangent = draw(7, 5, seed=50 + step)
        y = site(x)
        hat = (x / (psi2 + EPS).sqrt()).detach()
        torch.testing.assert_close(y, site.weight * hat + site.bias)
        grad_x, grad_w, grad_b = torch.autograd.grad(y, (x, site.weight, site.bias), cotangent)
        g = site.weight.detach() * cotangent
        torch.testing.assert_close(grad_x, (g - nu * hat) / (psi2 + EPS).sqrt())
        torch.testing.assert_close(grad_w, (cotangent * hat).sum(0))
        torch.testing.assert_close(grad_b, cotangent.sum(0))
        nu = nu * (1 - 0.2 * hat.square().mean(0)) + 0.2 * (g * hat).mean(0)
        psi2 = psi2 + 0.3 * (x.detach().square().mean(0) - psi2)
    torch.testing.assert_close(site.running_quadratic_mean, psi2)
    torch.testing.assert_close(site.running_projection, nu)
    assert nu.abs().min() > 1e-3  # what was compared is not zero
    x = draw(3, 5, seed=9)
    torch.testing.assert_close(site.eval()(x), site.weight * x / (psi2 + EPS).sqrt() + site.bias)


@pytest.mark.parametrize("derivative", ["surrogate", "true"])
def test_powernorm_warms_up_with_the_batchs_own_quadratic_mean(derivative):
    row = ns.normalizer("powernorm", warmup=2, derivative=derivative)
    assert row.couples_batch
    site = row.site(5, 2, dtype=F64)
    for step in range(3):
        x = draw(7, 5, seed=step).requires_grad_()
        psi2 = x.square().mean(0) if step < 2 else site.running_quadratic_mean.clone()
        assert site.couples_batch == (step < 2)
        nu = site.running_projection.clone()
        y, expected = site(x), x / (psi2 + EPS).sqrt()
        torch.testing.assert_close(y, expected)
        g = draw(7, 5, seed=60)
        (got,) = torch.autograd.grad(y, x, g)
        if derivative == "true":
            torch.testing.assert_close(got, torch.autograd.grad(expected, x, g)[0])
        else:
            torch.testing.assert_close(got, (g - nu * expected.detach()) / (psi2.detach() + EPS).sqrt())


@pytest.mark.parametrize("warmup", [0, 5])
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_the_true_derivative_of_powernorm_equals_finite_differences(warmup, ndim):
    row = ns.normalizer("powernorm", derivative="true", warmup=warmup)
    x = draw(*{2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 2, 1)}[ndim]).requires_grad_()
    assert gradcheck(lambda x: row.site(5, ndim, dtype=F64)(x), x)
    assert gradgradcheck(lambda x: row.site(5, ndim, dtype=F64)(x), x)


def test_powernorm_may_run_twice_before_its_backward():
    site = ns.normalizer("powernorm").site(5, 2, dtype=F64)
    x = draw(6, 5).requires_grad_()
    site(site(x)).square().sum().backward()
    assert x.grad.isfinite().all()


def test_a_backward_that_is_a_recursion_is_refused_where_it_cannot_run():
    site = ns.normalizer("powernorm").site(5, 2, dtype=F64)
    with pytest.raises(RuntimeError, match=r"torch\.func and forward-mode .* derivative='true'"):
        torch.func.grad(lambda x: site(x).sum())(draw(6, 5))
    x = draw(6, 5).requires_grad_()
    with pytest.raises(RuntimeError, match=r"backward pass of powernorm is not a derivative, .* derivative='true'"):
        torch.autograd.grad(site(x).square().sum(), x, create_graph=True)


@pytest.mark.parametrize("name", ["batchrenorm", "powernorm"])
def test_rows_with_a_surrogate_say_so_in_train_mode(name):
    site = ns.normalizer(name).site(5)
    assert ns.normalizer(name).surrogate_backward
    assert site.surrogate_backward
    assert not site.eval().surrogate_backward
    assert not ns.normalizer(name, derivative="true").site(5).surrogate_backward
    assert not any(row.surrogate_backward for row in ns.normalizers() if row.name not in ("batchrenorm", "powernorm"))


# --- normalization propagation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_normprop_is_the_papers_layer_behind_any_relu(kind):
    """o = (ReLU(g v.x / |v| + b) - sqrt(1/2pi)) / sqrt((1 - 1/pi)/2), on what the next affine layer takes in."""
    row = ns.normalizer("normprop")
    layer = nn.Linear(6, 5, bias=False) if kind == "linear" else nn.Conv2d(6, 5, 2, bias=False)
    layer, x = layer.double(), draw(4, 6) if kind == "linear" else draw(4, 6, 3, 3)
    ndim = x.ndim
    site = randomized(row.site(5, ndim, dtype=F64))
    taken: list[Tensor] = []
    follows = row.affine(nn.Linear(5, 2).double() if kind == "linear" else nn.Conv2d(5, 2, 1).double())
    follows.register_forward_pre_hook(lambda _m, args: taken.append(args[0]))
    mean, std = math.sqrt(1 / (2 * math.pi)), math.sqrt((1 - 1 / math.pi) / 2)
    follows(torch.relu(site(row.affine(layer)(x + mean / std))))

    unit = copy.deepcopy(layer)
    with torch.no_grad():
        norms = torch.linalg.vector_norm(layer.weight.flatten(1), dim=1)  # over the whole fan-in
        unit.weight.div_(norms.view(-1, *[1] * (layer.weight.ndim - 1)))
    shape = (1, 5, *[1] * (ndim - 2))
    expected = (torch.relu(site.weight.view(shape) * unit(x) + site.bias.view(shape)) - mean) / std
    torch.testing.assert_close(taken[0], expected)


def test_normprop_carries_unit_gaussians_through_a_relu_to_mean_zero_and_variance_one():
    row = ns.normalizer("normprop", initial_gain=1.0)
    u = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    identity = row.affine(nn.Linear(1, 1, bias=False, dtype=F64))
    with torch.no_grad():
        identity.parametrizations.weight.original.fill_(3.0)  # any positive direction
    out = identity(torch.relu(row.site(1, 2, dtype=F64)(u)))
    error = 4 / math.sqrt(len(u))  # of the mean; the variance's is larger by the root of the kurtosis less 1
    assert abs(out.mean().item()) < error
    assert abs(out.var().item() - 1) < 2 * error


def test_normprop_before_the_affine_layer_has_no_relu_to_make_up_for():
    row = ns.normalizer("normprop")
    layer, x = nn.Linear(5, 4, bias=False, dtype=F64), draw(3, 5)
    unit = layer.weight / torch.linalg.vector_norm(layer.weight, dim=1, keepdim=True)
    site, affine = row.site(5, 2, order="norm_affine", dtype=F64), row.affine(layer, order="norm_affine")
    torch.testing.assert_close(affine(site(x)), x @ unit.T)


# --- filter response normalization ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5, 3, 2), (4, 3, 5)], ids=["NCHW", "NTC"])
@pytest.mark.parametrize("tlu", [True, False])
def test_frn_is_its_definition(shape, tlu):
    site, x = randomized(ns.normalizer("frn", tlu=tlu).site(5, len(shape), dtype=F64)), draw(*shape)
    over, view = ((2, 3), (1, 5, 1, 1)) if len(shape) == 4 else ((1,), (1, 1, 5))
    y = site.weight.view(view) * x / (x.pow(2).mean(over, keepdim=True) + 1e-6).sqrt() + site.bias.view(view)
    torch.testing.assert_close(site(x), torch.maximum(y, site.threshold.view(view)) if tlu else y)
    assert list(dict(site.named_parameters())) == ["weight", "bias", *(["threshold"] if tlu else [])]


def test_frn_learns_its_eps_where_there_are_no_positions():
    site, x = ns.normalizer("frn", tlu=False).site(5, 2, dtype=F64), 0.01 * draw(6, 5)
    torch.testing.assert_close(site(x), x / (x.pow(2) + 1e-6 + 1e-4).sqrt())
    with torch.no_grad():
        site.learned_eps.fill_(-0.3)
    torch.testing.assert_close(site(x), x / (x.pow(2) + 1e-6 + 0.3).sqrt())
    assert ns.normalizer("frn", learned_eps=False).site(5, 2).learned_eps is None
    assert ns.normalizer("frn", learned_eps=True).site(5, 4).learned_eps is not None


def test_the_threshold_of_frn_starts_as_a_relu_and_composes_with_one():
    site, x = ns.normalizer("frn").site(5, dtype=F64), draw(4, 5, 3, 2)
    plain = ns.normalizer("frn", tlu=False).site(5, dtype=F64)(x)
    assert torch.equal(site(x), torch.relu(plain))
    with torch.no_grad():
        site.threshold.copy_(torch.tensor([-0.5, -0.1, 0.0, 0.2, 0.4]))
    bound = site.threshold.clamp(min=0).view(1, 5, 1, 1)
    assert torch.equal(torch.relu(site(x)), torch.maximum(plain, bound))


# --- dynamic tanh -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_dyt_is_its_definition(ndim):
    site = randomized(ns.normalizer("dyt", alpha=0.8).site(5, ndim, dtype=F64))
    x = draw(*{2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 2, 1)}[ndim])
    view = {2: (1, 5), 3: (1, 1, 5), 4: (1, 5, 1, 1)}[ndim]
    torch.testing.assert_close(site(x), site.weight.view(view) * torch.tanh(site.alpha * x) + site.bias.view(view))
    assert ns.normalizer("dyt").site(5).alpha.item() == 0.5


# --- all of them ------------------------------------------------------------------------------------------------------

NEW = ["groupnorm", "instancenorm", "rmsnorm", "batchrenorm", "powernorm", "normprop", "frn", "dyt", "weightstandard"]


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("model", ["mlp", "wrn"])
def test_every_new_row_trains_the_built_in_models(name, model):
    row, generator = ns.normalizer(name), torch.Generator().manual_seed(0)
    if model == "mlp":
        net = ns.models.MLP(64, 4, depth=2, width=16, normalizer=row, generator=generator)
    else:
        net = ns.models.WideResNet(1, 4, depth=8, widen_factor=1, normalizer=row, generator=generator)
    x = torch.randn(16, 1, 8, 8, generator=generator)
    labels = torch.arange(16) % 4
    if model == "mlp" and row.needs_positions:
        with pytest.raises(ValueError, match="use it where there are positions"):
            net(x)
        return
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(net(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("batchrenorm", {"r_max": 0.5}, "Option r_max of batchrenorm must be a finite number of at least 1, got 0.5"),
        ("batchrenorm", {"start": 2.5}, "Option start of batchrenorm must be a whole number of at least 0, got 2.5"),
        ("batchrenorm", {"derivative": "none"}, "must be one of surrogate, true, got 'none'"),
        ("batchrenorm", {"evaluation": "batch"}, "Unknown option 'evaluation' of batchrenorm"),
        ("powernorm", {"backward_momentum": 2}, "must be between 0 and 1, got 2"),
        ("frn", {"learned_eps": "yes"}, "Option learned_eps of frn must be True, False or None, got 'yes'"),
        ("dyt", {"alpha": math.inf}, "Option alpha of dyt must be a finite number, got inf"),
        ("dyt", {"eps": 1e-5}, "Unknown option 'eps' of dyt"),
    ],
)
def test_options_are_checked(name, options, message):
    with pytest.raises(ValueError, match=message):
        ns.normalizer(name, **options)
