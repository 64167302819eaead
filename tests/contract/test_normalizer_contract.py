"""What every row of the table must do, and no row may do: one suite over all of them."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import normscope as ns

ROWS = ns.normalizers()  # with those that installed packages register
OWN = [row for row in ROWS if isinstance(row, ns.Normalizer)]  # what is asked of a row's fields, is asked of these
SHAPES = {2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 3, 2)}
NAMES = [row.name for row in ROWS]

# Options with which derivatives are put to the test: of the forward itself where the row's own are not, and at a point
# where some of the bounds hold and some do not.
EXACT = {
    "batchrenorm": {"derivative": "true", "start": 0, "r_ramp": 0, "d_ramp": 0, "r_max": 1.3, "d_max": 0.3},
    "powernorm": {"derivative": "true"},
}


@pytest.fixture(params=ROWS, ids=NAMES)
def row(request: pytest.FixtureRequest) -> ns.Normalizer:
    return request.param


@pytest.fixture(params=[2, 3, 4], ids=["NC", "NTC", "NCHW"])
def ndim(request: pytest.FixtureRequest, row: ns.Normalizer) -> int:
    if request.param == 2:
        refuses_plain_features(row)
    return request.param


def refuses_plain_features(row: ns.Normalizer) -> None:
    """Skip what cannot be asked of statistics over positions; test_site.py holds the refusal."""
    if getattr(row, "needs_positions", False):
        pytest.skip(f"{row.name} takes statistics over positions, and (N, C) has none")


def exact(row: ns.Normalizer) -> ns.Normalizer:
    """The row with the derivative of its forward."""
    return ns.normalizer(row.name, **EXACT[row.name]) if row.name in EXACT else row


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1.5 * values + 0.3).to(dtype)


def made(row: ns.Normalizer, ndim: int, **options) -> nn.Module:
    """A float64 site whose weights are not the trivial ones."""
    site = row.site(5, ndim, dtype=torch.float64, **options)
    with torch.no_grad():
        for i, parameter in enumerate(site.parameters()):
            parameter.add_(0.5 * draw(*parameter.shape, seed=10 + i))
    return site


def as_function(site: nn.Module):
    """The site as a function of (x, *parameters) that touches no buffer of its own."""
    names = [name for name, _ in site.named_parameters()]

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        buffers = {name: value.clone() for name, value in site.named_buffers()}
        return torch.func.functional_call(site, dict(zip(names, parameters, strict=True)) | buffers, (x,))

    return function


def test_output_keeps_shape_and_dtype(row, ndim):
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        x = draw(*SHAPES[ndim], dtype=dtype)
        y = row.site(5, ndim)(x)
        assert y.shape == x.shape
        assert y.dtype == dtype


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_first_and_second_derivatives_equal_finite_differences(row, ndim, training):
    site = made(exact(row), ndim).train(training)
    inputs = [draw(*SHAPES[ndim]).requires_grad_(), *(p.detach().clone().requires_grad_() for p in site.parameters())]
    assert gradcheck(as_function(site), inputs)
    assert gradgradcheck(as_function(site), inputs)


def test_forward_mode_equals_reverse_mode(row, ndim):
    """Forward over reverse is where fused kernels are silently wrong; the sites must not be."""
    site = made(exact(row), ndim)
    function, x, tangent = as_function(site), draw(*SHAPES[ndim]), draw(*SHAPES[ndim], seed=1)
    parameters = tuple(p.detach() for p in site.parameters())
    probe = draw(*SHAPES[ndim], seed=2)

    def loss(x: Tensor) -> Tensor:
        return (function(x, *parameters).tanh() * probe).sum()

    with torch.no_grad():
        _, product = torch.func.jvp(torch.func.grad(loss), (x,), (tangent,))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    (expected,) = torch.autograd.grad(gradient, leaf, tangent) if gradient.requires_grad else (torch.zeros_like(x),)
    torch.testing.assert_close(product, expected)


def test_dual_numbers_over_reverse_mode_equal_double_reverse(row, ndim):
    """The other way to a Hessian product; the backward of a fused kernel may have no forward rule here."""
    x, tangent, cotangent = (draw(*SHAPES[ndim], seed=s) for s in range(3))

    def gradient(x: Tensor, **options) -> Tensor:
        return torch.autograd.grad((made(exact(row), ndim)(x).tanh() * cotangent).sum(), x, **options)[0]

    with forward_ad.dual_level():
        product = forward_ad.unpack_dual(gradient(forward_ad.make_dual(x.clone(), tangent).requires_grad_())).tangent
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(gradient(leaf, create_graph=True), leaf, tangent)
    torch.testing.assert_close(product, expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_couples_batch_is_true_exactly_when_one_example_changes_another(row, ndim, training):
    site = made(row, ndim).train(training)
    x = draw(*SHAPES[ndim])
    other = x.clone()
    other[0] += draw(*SHAPES[ndim][1:], seed=3)
    changed = not torch.equal(copy.deepcopy(site)(x)[1:], copy.deepcopy(site)(other)[1:])
    assert changed == site.couples_batch
    if training:
        assert changed == row.couples_batch


# What each row must not feel, and what it must: y(a x) = y(x), y(x + b) = y(x) with b one number per channel, or one
# number per example. Stated by hand, not derived from the rows.
SCALE = {"batchnorm", "batchnorm_train", "layernorm", "bmlv", "lmbv", "prelayernorm", "regnorm", "preregnorm", "bnl2"}
SCALE |= {"lpnorm", "groupnorm", "instancenorm", "rmsnorm", "batchrenorm", "frn", "weightstandard"}
CHANNEL_SHIFT = {"batchnorm", "batchnorm_train", "bmlv", "lpnorm", "instancenorm", "batchrenorm"}
EXAMPLE_SHIFT = {"layernorm", "lmbv", "groupnorm", "instancenorm", "weightstandard"}


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (lambda x: 3.0 * x, SCALE),
        (lambda x: x + torch.arange(5.0).view(1, 5, *([1] * (x.ndim - 2))), CHANNEL_SHIFT),
        (lambda x: x + torch.arange(float(len(x))).view(-1, *([1] * (x.ndim - 1))), EXAMPLE_SHIFT),
    ],
    ids=["scale", "shift per channel", "shift per example"],
)
@pytest.mark.parametrize("axes", [2, 4])
@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_invariances_are_those_of_the_definition_and_no_others(row, axes, change, invariant):
    if axes == 2:
        refuses_plain_features(row)
    fixed = {name: 0.0 if name == "eps" else False for name in ("eps", "learned_eps") if name in row.options}
    site = ns.normalizer(row.name, **fixed).site(5, axes, dtype=torch.float64)
    x = draw(*SHAPES[axes])
    same = torch.allclose(site(change(x)), site(x), atol=1e-9)
    assert same == (row.name in invariant)


def test_permuting_the_batch_permutes_the_output(row, ndim):
    x = draw(*SHAPES[ndim])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(row, ndim)(x[order]), made(row, ndim)(x)[order])


def test_stateless_rows_do_the_same_in_train_and_eval(row, ndim):
    site, x = made(row, ndim), draw(*SHAPES[ndim])
    trained = site(x)
    same = torch.allclose(trained, site.eval()(x))
    assert same == (not list(site.buffers()))


def test_channels_last_input_gives_the_same_values_and_keeps_its_format(row):
    x = draw(4, 5, 3, 2)
    y = made(row, 4)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(y, made(row, 4)(x))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_channel_dim_moves_the_channels(row):
    x = draw(4, 5, 3, 2)
    moved = made(row, 4, channel_dim=-1)(x.movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(moved, made(row, 4)(x))


def test_non_contiguous_input_gives_the_same_values(row, ndim):
    x = draw(*SHAPES[ndim])
    wide = torch.stack([x, x + 1], dim=-1)[..., 0]
    assert not wide.is_contiguous()
    torch.testing.assert_close(made(row, ndim)(wide), made(row, ndim)(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("parameters", ["float32", "half"])
def test_half_precision_takes_statistics_in_float32(row, ndim, dtype, parameters):
    """Half input gives the float32 answer to the rounding of the output alone, on a mean that half cannot center."""
    x = (draw(*SHAPES[ndim]) + 20).to(dtype)
    site = row.site(5, ndim, dtype=torch.float32 if parameters == "float32" else dtype)
    y = site(x)
    assert y.dtype == dtype
    expected = row.site(5, ndim)(x.float())
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y.float(), expected, rtol=2 * eps, atol=2 * eps)


def test_large_half_precision_values_do_not_overflow(row, ndim):
    x = (8e3 * draw(*SHAPES[ndim])).to(torch.float16)  # squares are far beyond half, outputs of a gain of 1.5 are not
    assert row.site(5, ndim)(x).isfinite().all()


SCALING = [row for row in OWN if row.scale is not None and not row.needs_positions]


@pytest.mark.parametrize("row", SCALING, ids=lambda row: row.name)
def test_tiny_variance_on_a_large_mean_does_not_collapse(row):
    """A mean a thousand times the spread costs three digits of float32, not all of them."""
    sharp = dataclasses.replace(row, eps=0.0)
    x = 1000.0 + draw(64, 5)
    expected = sharp.site(5, 2, dtype=torch.float64)(x)
    torch.testing.assert_close(sharp.site(5, 2)(x.float()).double(), expected, rtol=2e-3, atol=2e-3)


def test_empty_batch_gives_an_empty_output_and_leaves_statistics_alone(row, ndim):
    site = made(row, ndim)
    before = {name: value.clone() for name, value in site.named_buffers() if name != "num_batches_tracked"}
    y = site(draw(0, *SHAPES[ndim][1:]))
    assert y.shape == (0, *SHAPES[ndim][1:])
    for name, value in before.items():
        assert torch.equal(site.get_buffer(name), value)


def test_every_parameter_receives_a_gradient(row, ndim):
    site = made(row, ndim)
    site(draw(*SHAPES[ndim]).requires_grad_()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in site.parameters())


def test_state_dict_makes_the_round_trip(row, ndim):
    site = made(row, ndim)
    site(draw(*SHAPES[ndim]))
    other = row.site(5, ndim, dtype=torch.float64)
    other.load_state_dict(site.state_dict(), strict=True)
    x = draw(*SHAPES[ndim], seed=5)
    assert torch.equal(other.eval()(x), site.eval()(x))


def test_deep_copy_is_independent_and_equal(row, ndim):
    site, x = made(row, ndim), draw(*SHAPES[ndim])
    twin = copy.deepcopy(site)
    assert torch.equal(twin(x), site(x))
    for a, b in zip(twin.state_dict().values(), site.state_dict().values(), strict=True):
        assert a.data_ptr() != b.data_ptr()


@pytest.mark.parametrize("row", [row for row in OWN if row.elementwise_affine], ids=lambda row: row.name)
def test_vmap_over_parameters_equals_a_loop(row, ndim):
    """Without running buffers, which cannot be updated under vmap, in torch as here; in eval mode where they stay."""
    if "evaluation" in row.options:
        row = dataclasses.replace(row, evaluation="batch")
    site, x = made(row, ndim), draw(*SHAPES[ndim])
    site.train(not list(site.buffers()))
    stacked = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in site.named_parameters()}
    batched = torch.func.vmap(lambda p: torch.func.functional_call(site, p, (x,)))(stacked)
    for i in range(2):
        one = torch.func.functional_call(site, {name: p[i] for name, p in stacked.items()}, (x,))
        torch.testing.assert_close(batched[i], one)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_compiles_to_one_graph_with_equal_values_and_gradients(row, training):
    x = draw(4, 5, 3, 2).requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(made(row, 4).train(training), backend="aot_eager", fullgraph=True)
    y, expected = compiled(x), made(row, 4).train(training)(x)
    torch.testing.assert_close(y, expected)
    for got, want in zip(
        torch.autograd.grad(y.square().sum(), x), torch.autograd.grad(expected.square().sum(), x), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_affine_leaves_the_layer_untouched_and_shares_its_parameters(row):
    layer = nn.Conv2d(5, 4, 3, dtype=torch.float64)
    before = copy.deepcopy(layer)
    new = row.affine(layer)
    assert isinstance(new, nn.Conv2d)
    assert new is not layer
    assert vars(layer).keys() == vars(before).keys()
    assert not layer._forward_pre_hooks
    assert not layer._forward_hooks
    assert torch.equal(layer.weight, before.weight)
    added = {
        "weight_norm": ["parametrizations.weight.original0", "parametrizations.weight.original1"],
        "unit_norm": ["parametrizations.weight.original"],
        "standardized": ["parametrizations.weight.original"],
    }.get(getattr(row, "layer", "plain"))
    if added is not None:
        assert list(dict(new.named_parameters())) == ["bias", *added]
    else:
        assert type(new) is nn.Conv2d
        assert new.weight is layer.weight
    if row.name != "weightnorm":  # which has two in the place of one
        assert {p.data_ptr() for p in new.parameters()} == {p.data_ptr() for p in layer.parameters()}
    assert new.bias is layer.bias


@pytest.mark.parametrize("order", ["affine_norm", "norm_affine"])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_affine_and_site_together_have_right_derivatives(row, order, kind):
    if kind == "linear":
        refuses_plain_features(row)
    row = exact(row)
    layer = nn.Linear(5, 4) if kind == "linear" else nn.Conv2d(5, 4, 2, padding=1)
    layer = layer.double()
    features, axes = (4 if order == "affine_norm" else 5), (2 if kind == "linear" else 4)
    site = row.site(features, axes, order=order, dtype=torch.float64)
    affine = row.affine(layer, order=order)
    block = nn.Sequential(affine, site) if order == "affine_norm" else nn.Sequential(site, affine)
    x = draw(4, 5) if kind == "linear" else draw(4, 5, 3, 2)
    inputs = [x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in block.parameters())]
    assert gradcheck(as_function(block), inputs, fast_mode=True)  # along random directions: there are many parameters
    assert gradgradcheck(as_function(block), inputs, fast_mode=True)


@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_repr_names_the_row_and_its_layout(row):
    kind = type(row.site(5, 2)).__name__
    assert repr(row.site(5, 2)).startswith(f"{kind}({row.name}, 5, ndim=2, eps=")


@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_a_site_says_what_others_know_it_by(row):
    site = row.site(5, 4, channel_dim=-1)
    told = (site.normalizer_site, site.num_features, site.ndim, site.channel_dim, site.penalized)
    assert told == (row.name, 5, 4, 3, row.penalized)
    assert isinstance(site.couples_batch, bool)


def test_probes_can_find_the_site(row):
    assert row.site(5).normalizer_site == row.name


@pytest.mark.gpu
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_values_and_gradients_on_a_gpu_equal_those_on_the_cpu(row, ndim, training, dtype):
    x = draw(*SHAPES[ndim], dtype=dtype)
    results = []
    for device in ("cpu", "cuda"):
        site = row.site(5, ndim).to(device).train(training)
        leaf = x.to(device).requires_grad_()
        y = site(leaf)
        results.append([y, *torch.autograd.grad(y.float().sin().sum(), leaf)])
    tolerance = 8 * torch.finfo(dtype).eps
    for got, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got.cpu(), want, rtol=tolerance, atol=max(tolerance, 1e-5))
