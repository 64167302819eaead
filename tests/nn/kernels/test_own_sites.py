"""Closed forms of the rows with a site of their own, each beside the composition it stands for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import normscope as ns
from normscope.nn.kernels import chunks, compiled
from normscope.nn.kernels.second_order import gradients_of

# Options that show every path; the name is up to the first space.
ROWS = {
    "batchrenorm": {"start": 0, "r_ramp": 3, "d_ramp": 0, "r_max": 1.5, "d_max": 0.4},
    "normprop": {},
    "frn": {},
    "frn with its eps": {"learned_eps": True, "tlu": False},
    "frn without": {"learned_eps": False},
    "dyt": {},
}
LAYOUTS = {(6, 5): 1, (4, 3, 5): 2, (4, 5, 3): 1, (4, 5, 3, 4): 1, (4, 3, 4, 5): 3, (4, 3, 5, 2): 2}


def made(name: str, shape: tuple[int, ...], **options: object) -> nn.Module:
    row = ns.normalizer(name.split()[0], **ROWS.get(name, {}), **options)
    site = row.site(5, len(shape), channel_dim=LAYOUTS[shape], dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(site.parameters()):
            parameter.add_(
                torch.linspace(-0.6, 0.9, parameter.numel(), dtype=torch.float64).view_as(parameter) / (number + 2)
            )
    return site


def draw(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.7


def everything(site: nn.Module, x: Tensor) -> list[Tensor]:
    """Values, first derivatives, those again with a graph, and second derivatives, by the input and all parameters."""
    y, leaves = site(x), [x, *site.parameters()]
    loss = (y.sin() * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)).sum()
    fast = torch.autograd.grad(loss, leaves, retain_graph=True)
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.sin().sum() for g in first), leaves, allow_unused=True, materialize_grads=True)
    return [y, *fast, *first, *second, *site.buffers()]


@pytest.mark.parametrize("size", [2**18, 16], ids=["whole", "in chunks"])
@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("name", ROWS)
def test_a_site_is_the_same_in_closed_form_and_composed(name, shape, size, monkeypatch):
    monkeypatch.setattr(chunks, "_ELEMENTS", size)
    site = made(name, shape)
    reference = copy.deepcopy(site)
    for seed in range(2):  # the running statistics of the first are used by the second
        x = draw(*shape, seed=seed).requires_grad_()
        with monkeypatch.context() as patch:
            got = everything(site, x)
            patch.setattr("normscope.nn.kernels.choice._suits", lambda *_: False)
            want = everything(reference, x)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("shape", LAYOUTS)
def test_powernorm_takes_the_quadratic_mean_in_one_pass(shape):
    site, x = made("powernorm", shape), draw(*shape).requires_grad_()
    site(x)
    dims = tuple(d for d in range(x.ndim) if d != LAYOUTS[shape])
    torch.testing.assert_close(site.running_quadratic_mean, 0.9 + 0.1 * x.detach().square().mean(dims))


@pytest.mark.parametrize("name", ["batchrenorm", "powernorm", "normprop", "frn", "dyt"])
@pytest.mark.parametrize("shape", [(16, 32, 16, 16), (16, 32), (8, 16, 32)])
def test_what_is_kept_for_backward_is_the_input_and_small_numbers(name, shape):
    x, sizes = torch.randn(shape).requires_grad_(), {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        ns.normalizer(name).site(32, len(shape))(x)
    largest = max(sizes.values())
    assert largest == x.untyped_storage().nbytes()
    numbers = 6 * 32 + (x[..., 0, 0].numel() if x.ndim == 4 else x[:, 0].numel())
    assert sum(sizes.values()) - largest <= 4 * numbers


@pytest.mark.parametrize("name", ["normprop", "frn", "dyt", "batchrenorm"])
def test_the_inputs_that_need_no_gradient_get_none(name):
    site, x = made(name, (4, 5, 3, 4)), draw(4, 5, 3, 4)
    site.bias.requires_grad_(False)
    site(x).sum().backward()
    assert site.bias.grad is None
    assert site.weight.grad.abs().sum() > 0


def test_the_compiled_tanh_is_right_to_three_units_in_the_last_place_everywhere():
    if compiled._load() is None:
        pytest.skip("the C++ library was not built; python -m normscope.nn.kernels.build")
    bits = torch.arange(-(2**31), 2**31, 99_991, dtype=torch.int64).to(torch.int32)
    x = bits.view(torch.float32)
    x = x[x.isfinite()]
    got = torch.empty_like(x)
    compiled.tanh(x, 1.0, out=got)
    exact = torch.tanh(x.double())
    unit = torch.nextafter(exact.float().abs(), torch.tensor(2.0)) - exact.float().abs()
    assert ((got.double() - exact).abs() <= 3 * unit.double()).all()
    special = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    got = torch.empty_like(special)
    compiled.tanh(special, 1.0, out=got)
    torch.testing.assert_close(got, torch.tanh(special), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.signbit(got[1:]), torch.signbit(special[1:]))


def test_single_precision_of_dyt_equals_double():
    site, x = made("dyt", (4, 5, 3, 4)), draw(4, 5, 3, 4)
    single = copy.deepcopy(site).float()
    leaf, exact = x.float().requires_grad_(), x.requires_grad_()
    got, want = (
        torch.autograd.grad(s(t).sin().sum(), [t, *s.parameters()]) for s, t in ((single, leaf), (site, exact))
    )
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_a_composition_does_not_enter_what_lies_before_its_inputs():
    x = draw(3).requires_grad_()
    before = x.exp()
    (got,) = gradients_of(lambda t: [t.square()], [before], [torch.ones(3, dtype=torch.float64)])
    torch.testing.assert_close(got, 2 * before)
