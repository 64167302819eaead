from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import normscope as ns
from normscope.nn import switches
from normscope.nn.switches import switch

from .networks import draw

EPS = 1e-5
KINDS = ("cosine", "centered_cosine", "weight_standardization")


def normalized(layer: nn.Module, kind: str, row: str = "none", order: str = "affine_norm") -> nn.Module:
    chosen = [switch("normalized_affine", kind=kind)]
    return switches.apply(ns.normalizer(row), chosen, generator=torch.Generator()).affine(layer, order=order)


def reading(weight: Tensor, patch: Tensor, kind: str) -> Tensor:
    """The formula for inputs (..., fan-in) and weights (out, fan-in)."""
    fan_in = weight.shape[1]
    if kind != "cosine":
        weight = weight - weight.mean(1, keepdim=True)
    if kind == "centered_cosine":
        patch = patch - patch.mean(-1, keepdim=True)
    z = patch @ weight.T / weight.norm(dim=1)
    if kind == "weight_standardization":
        return z
    return z * math.sqrt(fan_in) / (patch.square().sum(-1, keepdim=True) + fan_in * EPS).sqrt()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_is_the_formula(kind, shape, bias):
    layer = nn.Linear(5, 4, bias=bias).double()
    x = draw(*shape) + 0.5
    expected = reading(layer.weight, x, kind) + (layer.bias if bias else 0)
    torch.testing.assert_close(normalized(layer, kind)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": 1},
        {"padding": 1, "stride": 2, "bias": False},
        {"padding": (2, 1), "dilation": 2},
        {"padding": "same"},
        {"padding": 1, "groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_a_convolution_is_the_formula_for_every_patch(kind, options):
    layer = nn.Conv2d(4, 6, 3, **options).double()
    x = draw(2, 4, 7, 6) + 100.0  # a mean at which a patch's variance must not be lost
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    groups = []
    for part, weight in zip(padded.chunk(layer.groups, 1), layer.weight.chunk(layer.groups), strict=True):
        patches = F.unfold(part, layer.kernel_size, layer.dilation, stride=layer.stride).transpose(1, 2)
        groups.append(reading(weight.flatten(1), patches, kind))
    expected = torch.cat(groups, -1) + (0 if layer.bias is None else layer.bias)

    got = normalized(layer, kind)(x)
    torch.testing.assert_close(got.flatten(2).transpose(1, 2), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv1d, (2, 3, 5)), (nn.Conv3d, (2, 3, 3, 4, 5))])
def test_convolutions_along_one_and_three_axes_agree_with_linear_where_the_patch_is_one_pixel(kind, conv, shape):
    layer = conv(3, 4, 1).double()
    x = draw(*shape)
    expected = reading(layer.weight.flatten(1), x.movedim(1, -1), kind) + layer.bias
    torch.testing.assert_close(normalized(layer, kind)(x), expected.movedim(-1, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", ["none", "prelayernorm", "weightnorm"])
@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(5, 3), lambda: nn.Conv2d(2, 2, 2, padding=1)], ids=["linear", "conv"]
)
def test_first_and_second_derivatives_equal_finite_differences(kind, row, make):
    layer = normalized(make().double(), kind, row)
    names = [name for name, _ in layer.named_parameters()]
    x = draw(3, 5) if isinstance(layer, nn.Linear) else draw(2, 2, 2, 2)

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = [x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_weight_vector_does_not_count(kind):
    layer, larger = nn.Linear(5, 4, bias=False).double(), nn.Linear(5, 4, bias=False).double()
    with torch.no_grad():
        larger.weight.copy_(3 * layer.weight)
    x = draw(6, 5)
    torch.testing.assert_close(normalized(larger, kind)(x), normalized(layer, kind)(x))


def test_a_rows_own_change_to_the_layer_comes_first():
    layer, x = nn.Linear(5, 4).double(), draw(6, 5)
    centered = x - x.mean(1, keepdim=True)
    got = normalized(layer, "cosine", "prelayernorm")(x)
    torch.testing.assert_close(got, reading(layer.weight, centered, "cosine") + layer.bias)
    torch.testing.assert_close(normalized(layer, "cosine", "weightnorm")(x), normalized(layer, "cosine")(x))


def test_where_a_row_divides_in_the_layer_it_divides_the_normalized_operation():
    layer, x = nn.Linear(5, 4).double(), draw(6, 5)
    z = normalized(layer, "cosine", "prelayernorm")(x)
    divided = z / (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(normalized(layer, "cosine", "prelayernorm", "norm_affine")(x), divided)


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_of_zeros_gives_the_bias(kind):
    layer = nn.Conv2d(2, 3, 3, padding=1).double()
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    z = normalized(layer, kind)(x)
    torch.testing.assert_close(z, layer.bias.view(1, -1, 1, 1).expand_as(z))
    assert torch.autograd.grad(z.sin().sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_its_dtype_and_its_digits(kind, dtype):
    layer = nn.Conv2d(4, 6, 3, padding=1)
    x = draw(2, 4, 5, 5).to(dtype)
    got = normalized(layer.to(dtype), kind)(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), normalized(layer.float(), kind)(x.float()), rtol=0.03, atol=0.03)


def test_a_small_variance_on_a_large_mean_is_not_lost_in_float32():
    layer, x = nn.Conv2d(4, 6, 3), 1000.0 + draw(2, 4, 7, 7)
    expected = normalized(layer.double(), "centered_cosine")(x)
    got = normalized(layer.float(), "centered_cosine")(x.float())
    torch.testing.assert_close(got.double(), expected, rtol=0.01, atol=0.01)


def test_patches_without_variance_stay_finite_where_rounding_makes_it_negative():
    layer = nn.Conv2d(4, 6, 3)
    x = (1000.0 * draw(20, 1, 1, 1)).float() * torch.tensor([1.0, -1.0]).repeat_interleave(8)
    assert normalized(layer, "centered_cosine")(x.expand(20, 4, 16, 16)).isfinite().all()


def slope(kind: str) -> float:
    """Of the cosine map at 1, through ReLU and one wide layer of this kind; mean over 64 pairs of inputs."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(64, 2048, generator=generator, dtype=torch.float64)
    v = u + 1e-3 * torch.randn(64, 2048, generator=generator, dtype=torch.float64)
    layer = nn.Linear(2048, 2048, bias=False, dtype=torch.float64)
    nn.init.normal_(layer.weight, generator=generator)
    with torch.no_grad():
        y, z = (normalized(layer, kind)(x.relu()) for x in (u, v))
    ratio = (1 - F.cosine_similarity(y, z)) / (1 - F.cosine_similarity(u, v))
    return ratio.mean().item()


@pytest.mark.parametrize(
    ("kind", "chi"), [("cosine", 1.0), ("centered_cosine", 1.4669), ("weight_standardization", 1.4669)]
)
def test_those_that_center_are_as_chaotic_as_batch_norm(kind, chi):
    assert slope(kind) == pytest.approx(chi, rel=0.02)


@pytest.mark.parametrize("kind", ["cosine", "centered_cosine"])
def test_random_weights_give_outputs_of_variance_one(kind):
    layer = nn.Linear(512, 512, bias=False).double()
    z = normalized(layer, kind)(draw(64, 512).relu())
    assert z.var().item() == pytest.approx(1.0, rel=0.05)


def test_a_layer_of_another_class_is_refused():
    with pytest.raises(TypeError, match="changes Linear, Conv1d, Conv2d and Conv3d, but got ConvTranspose2d"):
        normalized(nn.ConvTranspose2d(2, 2, 1), "cosine")
