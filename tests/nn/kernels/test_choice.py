"""Where a kernel is taken, where it steps aside, and what it keeps."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import normscope as ns
from normscope.nn import kernels
from normscope.nn.kernels import build, choice

from . import cases

PATTERN = cases.BY_NAME["bmlv"]
LAYOUTS = {(6, 5): 1, (4, 3, 5): 2, (4, 5, 4, 4): 1, (4, 5, 2, 2): 1}


def taken(x: Tensor, channel_dim: int = 1) -> bool:
    return kernels.fused(x, None, None, PATTERN, channel_dim) is not None


@pytest.mark.parametrize("shape", LAYOUTS)
def test_a_kernel_is_taken_for_contiguous_memory_in_single_and_double_precision(shape):
    for dtype in (torch.float32, torch.float64):
        assert taken(torch.randn(shape, dtype=dtype), LAYOUTS[shape])


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(4, 5, 4, 4).to(memory_format=torch.channels_last),
        torch.randn(8, 5, 4, 4)[::2],
        torch.randn(4, 5, 4, 4, dtype=torch.bfloat16),
        torch.randn(4, 5, 6),  # (N, C, T): a layer is then one token, across memory
        torch.randn(4, 5, 4, 4).as_subclass(type("Other", (Tensor,), {})),
    ],
    ids=["channels last", "strided", "bfloat16", "channels before tokens", "subclass"],
)
def test_other_inputs_are_left_to_the_composition(x):
    assert not taken(x)


def test_parameters_of_another_dtype_are_left_to_the_composition():
    x, weight = torch.randn(6, 5, dtype=torch.float64), torch.ones(5)
    assert kernels.fused(x, weight, None, PATTERN, 1) is None


def test_transforms_forward_mode_and_compilers_are_left_to_the_composition(monkeypatch):
    seen: list[bool] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(taken(x))
        return x.sum()

    x = torch.randn(6, 5)
    torch.func.grad(watched)(x)
    torch.func.vmap(watched)(x[None])
    with forward_ad.dual_level():
        watched(forward_ad.make_dual(x, x))
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        watched(x)
    assert seen == [False] * 4
    assert taken(x)


def test_statistics_over_several_processes_are_left_to_the_composition(monkeypatch):
    monkeypatch.setattr(choice, "synchronization", object)
    assert not taken(torch.randn(6, 5))


MOMENT_ROWS = [
    row
    for row in ns.normalizers()
    if isinstance(row, ns.Normalizer) and row.algorithm is ns.nn.Site and row.scale is not None and row.fused is None
]


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("row", MOMENT_ROWS, ids=lambda row: row.name)
def test_a_site_is_the_same_with_its_kernel_and_without(row, shape):
    if row.needs_positions and len(shape) < 4:
        pytest.skip("refused where there are no positions")
    site = row.site(5, len(shape), dtype=torch.float64)
    with torch.no_grad():
        for number, parameter in enumerate(site.parameters()):
            parameter.add_(torch.linspace(0.1, 0.9, 5, dtype=torch.float64) * (number + 1))
    reference = copy.deepcopy(site)
    reference._kernel = lambda x, momentum: None
    kernel, taken = site._kernel, []
    site._kernel = lambda x, momentum: taken.append(kernel(x, momentum)) or taken[-1]
    x = cases.inputs(*shape)[0]

    def everything(site: nn.Module) -> list[Tensor]:
        y, penalty = ns.nn.Penalised(site)(x)
        first = torch.autograd.grad(y.sin().sum() + 30 * penalty, [x, *site.parameters()], create_graph=True)
        second = torch.autograd.grad(sum(g.sin().sum() for g in first), x)
        return [y, penalty, *first, *second, *site.buffers()]

    torch.testing.assert_close(everything(site), everything(reference))
    with torch.no_grad():
        torch.testing.assert_close(site.eval()(x), reference.eval()(x))
    assert taken[0] is not None


def kept_bytes(module: nn.Module, x: Tensor) -> int:
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(storages.values())


@pytest.mark.parametrize("name", ["bmlv", "lmbv", "prelayernorm", "regnorm", "bnl2", "lpnorm", "rmsnorm"])
@pytest.mark.parametrize("shape", [(16, 32, 16, 16), (16, 32)])
def test_what_is_kept_for_backward_is_the_input_and_small_numbers(name, shape):
    x = torch.randn(shape).requires_grad_()
    native = nn.BatchNorm2d(32) if len(shape) == 4 else nn.BatchNorm1d(32)
    # The penalty's means of the neurons are one example's worth.
    allowed = 1.03 + (1 / len(x) if name == "regnorm" else 0.0)
    assert kept_bytes(ns.normalizer(name).site(32, len(shape)), x) <= allowed * kept_bytes(native, x)


def test_centering_keeps_nothing_and_its_gradient_is_centered():
    x = torch.randn(6, 5, dtype=torch.float64).requires_grad_()
    module = nn.Module()
    module.forward = lambda x: ns.nn.functional.center(x, (-1,))
    assert kept_bytes(module, x) == 0
    cotangent = torch.randn(6, 5, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(module(x), x, cotangent)
    torch.testing.assert_close(gradient, cotangent - cotangent.mean(1, keepdim=True))


def test_without_a_compiler_the_build_says_so_and_succeeds(monkeypatch, capsys):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.main() == 0
    assert "no C++ compiler found" in capsys.readouterr().out


def test_a_library_of_another_source_is_not_loaded(monkeypatch, tmp_path):
    changed = tmp_path / "rows.cpp"
    changed.write_text(build.SOURCE.read_text() + "\n")
    before = build.library().name
    monkeypatch.setattr(build, "SOURCE", changed)
    assert build.library().name != before
