"""The Triton kernels under Triton's interpreter; run by test_triton.py, in a process that has it from the start."""

from __future__ import annotations

import pytest
import torch

from normscope.nn.kernels import composed
from normscope.nn.kernels.instances import Instances
from normscope.nn.kernels.triton_passes import TritonPasses

from . import cases


# 49 positions do not fill a tile, 2500 need two.
@pytest.mark.parametrize(("name", "positions"), [(name, 49) for name in cases.OF_INSTANCES] + [("bmlv", 2500)])
def test_kernels_equal_the_composition(name, positions):
    pattern = cases.BY_NAME[name]
    leaves = cases.inputs(3, 5, positions, dtype=torch.float32)
    got = Instances.apply(*leaves, pattern, TritonPasses())
    want = composed(*leaves, pattern, 3)
    torch.testing.assert_close(got[0], want.y, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(cases.loss(r, curved=False), leaves) for r in (got, want)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_half_precision_has_statistics_in_single():
    x, weight, bias = cases.inputs(3, 5, 49, dtype=torch.float32)
    half = (200 * x.detach()).half().requires_grad_()  # squares overflow in half
    pattern = cases.BY_NAME["bmlv"]
    got = Instances.apply(half, weight, bias, pattern, TritonPasses())
    want = composed(half, weight, bias, pattern, 3)
    assert got[0].dtype == torch.float16
    torch.testing.assert_close(got[0], want.y, rtol=2e-3, atol=2e-3)
    ours, theirs = (torch.autograd.grad(r[0].float().sin().sum(), [half, weight]) for r in (got, want))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-2, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-2, atol=1e-1)
