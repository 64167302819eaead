from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from normscope.curvature.backward import pull_back, pull_back_or_zero


def leaves() -> tuple[Tensor, Tensor]:
    return tuple(torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))


def test_it_is_the_gradient_of_the_weighted_sum() -> None:
    x, y = leaves()
    outputs, weights = [x * y, x.sum()], [torch.tensor([3.0, 4.0]), torch.tensor(5.0)]
    expected = torch.autograd.grad(outputs, [x, y], weights, retain_graph=True)
    assert all(map(torch.equal, pull_back(outputs, [x, y], weights), expected))


def test_a_number_needs_no_weight() -> None:
    x, _ = leaves()
    (gradient,) = pull_back([x.square().sum()], [x])
    assert torch.equal(gradient, 2 * x)


def test_where_nothing_depends_there_is_nothing_or_zero() -> None:
    x, y = leaves()
    assert pull_back([x.sum()], [x, y])[1] is None
    assert pull_back([torch.ones(())], [x, y]) == [None, None]
    assert torch.equal(pull_back_or_zero([x.sum()], [x, y])[1], torch.zeros(2))
    assert torch.equal(pull_back_or_zero([torch.ones(())], [y])[0], torch.zeros(2))


def test_its_graph_is_kept_only_where_asked_for() -> None:
    x, _ = leaves()
    (slope,) = pull_back([x.pow(3).sum()], [x], create_graph=True)
    assert torch.equal(pull_back([slope.sum()], [x], retain_graph=True)[0], 6 * x)
    pull_back([slope.sum()], [x])
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        pull_back([slope.sum()], [x])


def test_what_stands_in_for_torchs_functions_does_so_in_recomputed_parts() -> None:
    class Counting(TorchFunctionMode):
        tanh = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.tanh += func is torch.tanh
            return func(*args, **(kwargs or {}))

    x, _ = leaves()
    with Counting() as mode:
        pull_back([checkpoint(torch.tanh, x, use_reentrant=False).sum()], [x])
    with Counting() as suspended:
        torch.autograd.grad(checkpoint(torch.tanh, x, use_reentrant=False).sum(), x)

    assert mode.tanh == 2
    assert suspended.tanh == 1  # torch's own: mended, this module is not needed


def test_reentrant_checkpoints_are_refused_with_the_remedy() -> None:
    x, _ = leaves()
    with pytest.raises(
        ValueError, match=r"use_reentrant=True arrived.*Use torch.utils.checkpoint.*use_reentrant=False"
    ):
        pull_back([checkpoint(nn.Tanh(), x, use_reentrant=True).sum()], [x])
