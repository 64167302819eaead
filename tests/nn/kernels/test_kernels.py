"""Every kernel beside the composition it stands for: values, statistics, gradients, second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from normscope.nn.kernels import Normalized, Pattern, compiled, composed
from normscope.nn.kernels.instances import Instances
from normscope.nn.kernels.passes import TorchPasses
from normscope.nn.kernels.rows import Rows

from . import cases

Kernel = Callable[..., Normalized]


def instances(x: Tensor, w: Tensor | None, b: Tensor | None, pattern: Pattern, examples: int) -> Normalized:
    return Normalized(*Instances.apply(x, w, b, pattern, TorchPasses()))


def rows(*arguments: Any) -> Normalized:
    return Normalized(*Rows.apply(*arguments))


def compiled_rows(*arguments: Any) -> Normalized:
    if compiled._load() is None:
        pytest.skip("the C++ library was not built; python -m normscope.nn.kernels.build")
    return Normalized(*compiled.CompiledRows.apply(*arguments))


# kernel, shape of x, examples, patterns
SUBJECTS = [
    *(pytest.param(instances, (4, 3, 5), 4, p, id=f"instances, {name}") for name, p in cases.OF_INSTANCES.items()),
    *(pytest.param(rows, (4, 3, 5), 4, p, id=f"rows with positions, {name}") for name, p in cases.BY_NAME.items()),
    *(pytest.param(rows, (6, 5), 3, p, id=f"rows, {name}") for name, p in cases.OF_ROWS.items()),
    *(pytest.param(compiled_rows, (6, 5), 3, p, id=f"compiled, {name}") for name, p in cases.OF_ROWS.items()),
    *(pytest.param(compiled_rows, (150, 37), 3, p, id=f"compiled, more, {name}") for name, p in cases.OF_ROWS.items()),
]


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize(("kernel", "shape", "examples", "pattern"), SUBJECTS)
def test_values_statistics_and_derivatives_are_those_of_the_composition(kernel, shape, examples, pattern, affine):
    leaves = cases.inputs(*shape, affine=affine)
    arguments = [*leaves, *[None] * (3 - len(leaves)), pattern, examples]
    got, want = kernel(*arguments), composed(*arguments)
    for ours, theirs in zip(got, want, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours.flatten(), theirs.flatten())

    fast = torch.autograd.grad(cases.loss(got, curved=True), leaves, retain_graph=True)
    first, exact = (torch.autograd.grad(cases.loss(r, curved=True), leaves, create_graph=True) for r in (got, want))
    second, reference = (torch.autograd.grad(sum(g.sin().sum() for g in gs), leaves) for gs in (first, exact))
    for one, again, other in zip(fast, first, exact, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(again, other)
    torch.testing.assert_close(second, reference)


@pytest.mark.parametrize("name", ["bmlv", "lmbv", "preregnorm, unbiased"])
@pytest.mark.parametrize(("kernel", "shape"), [(instances, (3, 2, 3)), (rows, (4, 3)), (compiled_rows, (4, 3))])
def test_derivatives_equal_finite_differences(kernel, shape, name):
    """The composition shares no line with this; an error in both would be found here."""
    pattern = cases.BY_NAME[name]

    def function(*leaves: Tensor) -> tuple[Tensor, ...]:
        return tuple(t for t in kernel(*leaves, pattern, shape[0])[:2] if t is not None)

    leaves = cases.inputs(*shape)
    assert gradcheck(function, leaves)
    assert gradgradcheck(function, leaves)


@pytest.mark.parametrize("kernel", [rows, compiled_rows, instances])
def test_single_precision_far_from_the_origin(kernel):
    """With a mean of 300 standard deviations a variance by E[x^2] - E[x]^2 would keep two digits."""
    shape = (64, 48) if kernel is not instances else (8, 6, 64)
    x = cases.inputs(*shape)[0].detach() + 450
    pattern = cases.BY_NAME["prelayernorm"]
    exact = composed(x.float().double(), None, None, pattern, len(x))
    got = kernel(x.float(), None, None, pattern, len(x))
    torch.testing.assert_close(got.moment.flatten().double(), exact.moment.flatten(), rtol=1e-4, atol=0)
    torch.testing.assert_close(got.y.double(), exact.y, rtol=1e-4, atol=0)


@pytest.mark.parametrize("kernel", [rows, compiled_rows, instances])
def test_a_gradient_that_is_expanded_or_transposed_is_taken(kernel):
    shape = (6, 6) if kernel is not instances else (6, 6, 4)
    pattern = cases.BY_NAME["bmlv"]
    (x,) = cases.inputs(*shape, affine=False)
    for outer in (
        lambda y: y.sum(),
        lambda y: (y.transpose(0, 1) * torch.arange(6.0).double().view(6, *[1] * (y.ndim - 1))).sum(),
    ):
        got, want = (torch.autograd.grad(outer(k(x, None, None, pattern, 6).y), x)[0] for k in (kernel, composed))
        torch.testing.assert_close(got, want)
