"""Sites against independent answers: torch's own layers, and the definitions written out by hand."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import normscope as ns

EPS = 1e-5


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.7


def mean(x: Tensor, *dims: int) -> Tensor:
    return x.mean(dims, keepdim=True)


def std(x: Tensor, *dims: int) -> Tensor:
    return ((x - x.mean(dims, keepdim=True)).square().mean(dims, keepdim=True) + EPS).sqrt()


def rms(x: Tensor, *dims: int) -> Tensor:
    return (x.square().mean(dims, keepdim=True) + EPS).sqrt()


# Table 1 of the paper written out for (N, C, H, W): batch = (0, 2, 3), layer = (1, 2, 3).
BY_HAND = {
    "none": lambda z: z,
    "weightnorm": lambda z: z,
    "batchnorm": lambda z: (z - mean(z, 0, 2, 3)) / std(z, 0, 2, 3),
    "batchnorm_train": lambda z: (z - mean(z, 0, 2, 3)) / std(z, 0, 2, 3),
    "layernorm": lambda z: (z - mean(z, 1, 2, 3)) / std(z, 1, 2, 3),
    "bmlv": lambda z: (z - mean(z, 0, 2, 3)) / std(z - mean(z, 0, 2, 3), 1, 2, 3),
    "lmbv": lambda z: (z - mean(z, 1, 2, 3)) / std(z - mean(z, 1, 2, 3), 0, 2, 3),
    "prelayernorm": lambda z: z / std(z, 1, 2, 3),
    "regnorm": lambda z: z / rms(z, 1, 2, 3),
    "preregnorm": lambda z: z / std(z, 1, 2, 3),
    "bnl2": lambda z: z / z.square().sum((0, 2, 3), keepdim=True).sqrt(),
    "lpnorm": lambda z: (z - mean(z, 0, 2, 3)) / (mean((z - mean(z, 0, 2, 3)).abs(), 0, 2, 3) + EPS),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_site_equals_the_definition(name):
    z = draw(4, 5, 3, 2)
    torch.testing.assert_close(ns.normalizer(name).site(5, dtype=torch.float64)(z), BY_HAND[name](z))


@pytest.mark.parametrize("name", BY_HAND)
def test_tokens_are_normalized_one_by_one_and_batches_over_all_tokens(name):
    """(N, T, C) is (N T, C): a layer is one token, a batch is every token."""
    z = draw(4, 3, 5)
    tokens = ns.normalizer(name).site(5, 3, dtype=torch.float64)(z)
    rows = ns.normalizer(name).site(5, 2, dtype=torch.float64)(z.reshape(12, 5))
    torch.testing.assert_close(tokens, rows.reshape(4, 3, 5))


def test_the_table_is_complete_and_in_order():
    names = [row.name for row in ns.normalizers() if isinstance(row, ns.Normalizer)]
    assert names == [
        "none", "batchnorm", "batchnorm_train", "layernorm", "weightnorm",
        "bmlv", "lmbv", "prelayernorm", "regnorm", "preregnorm", "bnl2", "lpnorm",
        "groupnorm", "instancenorm", "rmsnorm", "batchrenorm", "powernorm", "normprop", "frn", "dyt", "weightstandard",
    ]  # fmt: skip
    assert set(names[:12]) == set(BY_HAND)


def test_channel_statistics_are_taken_at_each_position():
    z = draw(4, 5, 3, 2)
    y = ns.normalizer("layernorm", over="channels").site(5, dtype=torch.float64)(z)
    torch.testing.assert_close(y, (z - mean(z, 1)) / std(z, 1))


def test_bnl2_rms_divides_by_the_mean_square_of_the_batch():
    z = torch.randn(6, 5, dtype=torch.float64)
    y = ns.normalizer("bnl2", moment="rms").site(5, ndim=2)(z)
    torch.testing.assert_close(y, z / z.square().mean(0).sqrt())
    torch.testing.assert_close(y, math.sqrt(6) * ns.normalizer("bnl2").site(5, ndim=2)(z))
    assert ns.normalizer("bnl2", moment="norm") == ns.normalizer("bnl2")


def test_lmbv_rms_divides_by_the_second_moment():
    z = draw(4, 5, 3, 2)
    y = ns.normalizer("lmbv", moment="rms").site(5, dtype=torch.float64)(z)
    d = z - mean(z, 1, 2, 3)
    torch.testing.assert_close(y, d / rms(d, 0, 2, 3))


TORCH_BATCH_NORM = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}


@pytest.mark.parametrize("ndim", [2, 4])
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batchnorm_loads_torch_checkpoints_and_equals_them(ndim, momentum, dtype):
    theirs = TORCH_BATCH_NORM[ndim](5, momentum=momentum, dtype=dtype)
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(1))
        theirs.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
    shape = (8, 5, 3, 2)[:ndim]
    theirs(draw(*shape).to(dtype))
    ours = ns.normalizer("batchnorm", momentum=momentum).site(5, ndim, dtype=dtype)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for step in range(3):
        x = draw(*shape, seed=step).to(dtype)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        torch.testing.assert_close(ours(a), theirs(b))
        torch.testing.assert_close(
            torch.autograd.grad(ours(a).sin().sum(), a), torch.autograd.grad(theirs(b).sin().sum(), b)
        )
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    x = draw(*shape, seed=9).to(dtype)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_batchnorm_checkpoints_load_into_torch_too():
    ours = ns.normalizer("batchnorm").site(5)
    ours(draw(8, 5, 3, 2).float())
    nn.BatchNorm2d(5).load_state_dict(ours.state_dict(), strict=True)


def test_layernorm_equals_torch_layer_norm_on_tokens():
    ours, theirs = ns.normalizer("layernorm").site(5, 3, dtype=torch.float64), nn.LayerNorm(5, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = draw(4, 3, 5)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("name", ["batchnorm", "layernorm"])
@pytest.mark.parametrize("ndim", [2, 3, 4])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_fused_kernel_equals_the_reference_in_value_gradient_and_second_derivative(name, ndim, training):
    """The same site with its native kernel and without."""
    shape = {2: (6, 5), 3: (4, 3, 5), 4: (4, 5, 3, 2)}[ndim]
    fused = ns.normalizer(name).site(5, ndim, dtype=torch.float64).train(training)
    reference = copy.deepcopy(fused)
    reference._fused = lambda x, momentum: None  # the path every kernel must equal
    x = draw(*shape).requires_grad_()

    def derivatives(site: nn.Module) -> list[Tensor]:
        y = site(x)
        (g,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), x)
        return [y, g, h, *site.buffers()]

    for got, want in zip(derivatives(fused), derivatives(reference), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize(("name", "key"), [("bmlv", "running_mean"), ("lmbv", "running_var")])
def test_mixed_rows_keep_the_running_statistic_they_evaluate_with(name, key):
    site = ns.normalizer(name, momentum=1.0).site(5, dtype=torch.float64)
    assert set(dict(site.named_buffers())) == {key, "num_batches_tracked"}
    z = draw(4, 5, 3, 2)
    site(z)
    d = z - mean(z, 1, 2, 3)
    expected = z.mean((0, 2, 3)) if name == "bmlv" else d.var((0, 2, 3))  # torch's convention: unbiased
    torch.testing.assert_close(getattr(site, key), expected)
    if name == "bmlv":  # with momentum 1 the running mean is this batch's, so eval repeats train
        torch.testing.assert_close(site.eval()(z), BY_HAND["bmlv"](z))


def test_biased_running_variance_divides_by_n():
    z = draw(4, 5, 3, 2)
    site = ns.normalizer("batchnorm", running_variance="biased", momentum=1.0).site(5, dtype=torch.float64)
    torch.testing.assert_close(site(z), BY_HAND["batchnorm"](z))
    torch.testing.assert_close(site.running_var, z.var((0, 2, 3), correction=0))
    torch.testing.assert_close(site.eval()(z), BY_HAND["batchnorm"](z))


def test_batchnorm_train_normalizes_evaluation_with_its_own_batch():
    z = draw(4, 5, 3, 2)
    site = ns.normalizer("batchnorm_train").site(5, dtype=torch.float64)
    assert torch.equal(site(z), site.eval()(z))
    assert site.couples_batch


@pytest.mark.parametrize("order", ["affine_norm", "norm_affine"])
def test_prelayernorm_centers_before_and_divides_after_the_layer(order):
    """Section 3.1 written out; in a norm-first block the affine does both and the site nothing."""
    layer = nn.Conv2d(3, 5, 2, dtype=torch.float64)
    row = ns.normalizer("prelayernorm")
    affine = row.affine(layer, order=order)
    site = row.site(5 if order == "affine_norm" else 3, order=order, dtype=torch.float64)
    x = draw(4, 3, 4, 4)
    y = site(affine(x)) if order == "affine_norm" else affine(site(x))
    z = layer(x - mean(x, 1, 2, 3))
    torch.testing.assert_close(y, z / std(z, 1, 2, 3))
    if order == "norm_affine":
        assert torch.equal(site(x), x)


def test_preregnorm_is_prelayernorm_forward():
    z = draw(4, 5, 3, 2)
    pair = [ns.normalizer(name).site(5, dtype=torch.float64)(z) for name in ("prelayernorm", "preregnorm")]
    torch.testing.assert_close(*pair)


def test_dense_prelayernorm_is_weight_centering():
    """W (x - mean x) = (W - row mean of W) x, the identity of section 1.6."""
    layer = nn.Linear(6, 5, dtype=torch.float64)
    centered = layer.weight - layer.weight.mean(1, keepdim=True)
    x = draw(4, 6)
    torch.testing.assert_close(ns.normalizer("prelayernorm").affine(layer)(x), x @ centered.T + layer.bias)


def test_weightnorm_keeps_the_function_and_has_torch_keys():
    layer = nn.Conv2d(3, 5, 2, dtype=torch.float64)
    ours = ns.normalizer("weightnorm").affine(layer)
    theirs = torch.nn.utils.parametrizations.weight_norm(copy.deepcopy(layer))
    x = draw(4, 3, 4, 4)
    torch.testing.assert_close(ours(x), layer(x))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(x), theirs(x))


def test_weightnorm_hessian_is_right_where_torch_weight_norm_is_wrong():
    """Finite differences of the gradient in float64 along one direction of (g, v)."""
    layer = ns.normalizer("weightnorm").affine(nn.Linear(4, 3, dtype=torch.float64))
    names = list(dict(layer.named_parameters()))
    point = [p.detach().clone() for p in layer.parameters()]
    direction = [draw(*p.shape, seed=i) for i, p in enumerate(point)]
    x = draw(6, 4, seed=7)

    def gradient(values: list[Tensor], *, keep: bool = False) -> list[Tensor]:
        leaves = [v.detach().clone().requires_grad_() for v in values] if not keep else values
        y = torch.func.functional_call(layer, dict(zip(names, leaves, strict=True)), (x,))
        return list(torch.autograd.grad(y.sin().square().sum(), leaves, create_graph=keep))

    step = 1e-6  # truncation and rounding errors of the difference are then both below 1e-8
    ahead = gradient([p + step * d for p, d in zip(point, direction, strict=True)])
    behind = gradient([p - step * d for p, d in zip(point, direction, strict=True)])
    finite = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    leaves = [p.clone().requires_grad_() for p in point]
    product = torch.autograd.grad(gradient(leaves, keep=True), leaves, direction)
    for got, want in zip(product, finite, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


def test_second_derivative_at_an_all_zero_example_is_finite():
    """A ReLU network hands such examples to its sites; sqrt(sum x^2) would give NaN there."""
    for name in ("regnorm", "prelayernorm", "layernorm", "bmlv"):
        x = draw(3, 5)
        x[0] = 0
        x.requires_grad_()
        y = ns.normalizer(name).site(5, 2, dtype=torch.float64)(x)
        (g,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), x)
        assert h.isfinite().all()


# --- what is refused, each with its sentence --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "num_features must be at least 1, got 0"),
        ({"num_features": 5, "ndim": 5}, "inputs of 2, 3 or 4 axes, got ndim=5"),
        (
            {"num_features": 5, "channel_dim": 0},
            "channel_dim must be an axis of the input other than the batch's, got 0",
        ),
        ({"num_features": 5, "channel_dim": 7}, "channel_dim must be an axis"),
        ({"num_features": 5, "order": "norm"}, "order must be 'affine_norm' or 'norm_affine', got 'norm'"),
    ],
)
def test_a_site_that_cannot_be_made_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ns.normalizer("layernorm").site(**arguments)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 3, 3), r"shape \(\*, 5, \*, \*\), but the input has shape \(2, 4, 3, 3\)"),
        (torch.zeros(2, 5), r"but the input has shape \(2, 5\)"),
        (torch.zeros(2, 5, 3, 3, dtype=torch.long), r"floating-point inputs, but the input is torch.int64"),
    ],
)
def test_a_wrong_input_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        ns.normalizer("batchnorm").site(5)(x)


@pytest.mark.parametrize("name", [row.name for row in ns.normalizers() if row.couples_batch])
def test_batch_statistics_of_one_value_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} needs more than one value per channel"):
        ns.normalizer(name).site(5, 2)(torch.ones(1, 5))


def test_a_layer_that_a_row_cannot_change_is_refused():
    with pytest.raises(TypeError, match="Linear, Conv1d, Conv2d, Conv3d, but got Embedding"):
        ns.normalizer("weightnorm").affine(nn.Embedding(3, 4))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("batchnrom", {}, "Unknown normalizer 'batchnrom'; did you mean batchnorm"),
        ("zzz", {}, "Unknown normalizer 'zzz'; choose from none, batchnorm"),
        ("batchnorm", {"epsilon": 1e-3}, "Unknown option 'epsilon' of batchnorm; did you mean eps"),
        ("layernorm", {"momentum": 0.1}, "Unknown option 'momentum' of layernorm"),
        ("batchnorm", {"eps": -1.0}, "Option eps of batchnorm must be a finite number of at least 0, got -1.0"),
        ("batchnorm", {"eps": "small"}, "Option eps of batchnorm must be a finite number"),
        ("batchnorm", {"momentum": 2}, "Option momentum of batchnorm must be between 0 and 1, or None, got 2"),
        ("layernorm", {"affine": 1}, "Option affine of layernorm must be True or False, got 1"),
        ("bnl2", {"moment": "std"}, "Option moment of bnl2 must be one of norm, rms, got 'std'"),
        ("lmbv", {"moment": "norm"}, "Option moment of lmbv must be one of std, rms, got 'norm'"),
        ("regnorm", {"penalty": "E"}, "Option penalty of regnorm must be one of A, B, C, D, got 'E'"),
        ("regnorm", {"penalty": "B", "penalty_unbiased": True}, "penalty_unbiased goes with penalty form 'A'"),
    ],
)
def test_unknown_names_and_options_are_refused_with_the_close_ones(name, options, message):
    with pytest.raises(ValueError, match=message):
        ns.normalizer(name, **options)


def test_affine_off_removes_the_parameters():
    assert not list(ns.normalizer("layernorm", affine=False).site(5).parameters())
