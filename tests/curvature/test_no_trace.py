"""What is the caller's stays the caller's: models, batches, modes and random states, in both directions."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import normscope as ns
from curvature import zoo
from curvature.oracles import assert_close_to, products
from normscope.curvature import GGNOperator, HessianOperator

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


def network() -> nn.Module:
    return zoo.randomized(zoo.mlp(nn.BatchNorm1d))


def snapshot(model: nn.Module) -> dict[str, Any]:
    return {
        "parameters": {name: p.detach().clone() for name, p in model.named_parameters()},
        "identities": [id(p) for p in model.parameters()],
        "buffers": {name: b.clone() for name, b in model.named_buffers()},
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "calls": [getattr(module, "calls", None) for module in model.modules()],
        "random": (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()),
        "flags": (torch.is_grad_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled),
    }


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        for key in before:
            assert_same(before[key], after[key])
    elif isinstance(before, list | tuple):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)
    else:
        assert before == after


class Restless(nn.Module):
    """Does what a forward can do to itself: counts, draws, tracks, writes to its input and its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.table = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Embedding(3, 4, max_norm=50.0)
        self.core, self.last = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x.mul_(2)
        noise = random.random() + np.random.random() + torch.rand(())
        x = F.relu(self.norm(self.first(x)), inplace=True) + self.table(torch.arange(len(x)) % 3)
        return self.last(self.core(x[:, None])[0][:, 0]) * noise


def restless() -> nn.Module:
    model = zoo.randomized(Restless())
    for index, module in enumerate(model.modules()):
        module.training = index % 2 == 0
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 3 != 0)
        parameter.grad = torch.full_like(parameter, 0.5) if index % 2 else None
    return model


@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
@pytest.mark.parametrize("kind", OPERATORS)
def test_no_trace_is_left(kind: str, machinery: Any) -> None:
    model, batch = restless(), zoo.features()
    before, inputs = snapshot(model), batch[0].clone()

    operator = OPERATORS[kind](model, F.cross_entropy, batch, machinery=machinery)
    product = operator.matvec(torch.ones(operator.size, dtype=torch.float64))

    assert not product.requires_grad
    assert_same(before, snapshot(model))
    assert torch.equal(batch[0], inputs)


@pytest.mark.parametrize("fails_at", [1, 2, 5, 10])
def test_no_trace_is_left_after_an_exception(fails_at: int) -> None:
    model = restless()
    before = snapshot(model)
    calls = 0

    def failing(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)

    with pytest.raises(KeyboardInterrupt):
        HessianOperator(model, failing, zoo.features())
    assert_same(before, snapshot(model))


def test_no_trace_is_left_after_a_refusal() -> None:
    model = zoo.randomized(nn.Sequential(nn.EmbeddingBag(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    before = snapshot(model)
    with pytest.raises(ValueError, match="EmbeddingBag"):
        HessianOperator(model, F.cross_entropy, [(zoo.tokens()[0], torch.tensor([0, 1, 2, 0]))])
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("build", [restless, lambda: zoo.CASES["checkpointed"].build().double()])
def test_what_happens_to_the_model_later_does_not_reach_the_operator(
    kind: str, machinery: Any, build: Callable[[], nn.Module]
) -> None:
    model, (x, y) = build(), zoo.features()
    if machinery == "retained" and isinstance(model, zoo.Checkpointed):
        pytest.skip("refused")
    operator = OPERATORS[kind](model, F.cross_entropy, (x, y), machinery=machinery)
    v = torch.ones(operator.size, dtype=torch.float64)
    before = operator.matvec(v)

    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers(), x]:
            tensor.add_(1)
    y.zero_()
    model.eval().requires_grad_(False)

    torch.testing.assert_close(operator.matvec(v), before, rtol=1e-12, atol=0)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("machinery", ns.curvature.MACHINERIES)
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_callers_grad_mode_makes_no_difference(
    kind: str, machinery: Any, context: Callable[[], contextlib.AbstractContextManager[None]]
) -> None:
    model = zoo.randomized(zoo.mlp(nn.LayerNorm, nn.SiLU()))
    expected = products(OPERATORS[kind](model, F.cross_entropy, zoo.features(), machinery=machinery))

    with context():
        operator = OPERATORS[kind](model, F.cross_entropy, zoo.features(), machinery=machinery)
        matrix = products(operator)

    assert torch.equal(matrix.clone(), expected)


def test_a_model_made_in_inference_mode_is_measured() -> None:
    original = network()
    expected = products(HessianOperator(original, F.cross_entropy, zoo.features()))
    with torch.inference_mode():
        model = copy.deepcopy(original)
        batch = zoo.features()
    assert_close_to(products(HessianOperator(model, F.cross_entropy, batch)), expected, tolerance=1e-13)


def test_a_compiled_model_is_multiplied_like_itself() -> None:
    model = network()
    expected = products(HessianOperator(model, F.cross_entropy, zoo.features()))

    operator = HessianOperator(torch.compile(model), F.cross_entropy, zoo.features())

    assert operator.names[0] == "_orig_mod.0.weight"
    assert_close_to(products(operator), expected, tolerance=1e-14)


def test_frozen_parameters_are_differentiated_where_they_are_chosen() -> None:
    model = network()
    expected = products(HessianOperator(model, F.cross_entropy, zoo.features()))
    matrix = products(HessianOperator(model.requires_grad_(False), F.cross_entropy, zoo.features()))
    assert_close_to(matrix, expected, tolerance=1e-14)


def test_a_copy_of_an_operators_model_is_not_needed() -> None:
    """The caller's model may be changed while the operator is in use, as a training loop does."""
    model = network()
    operator = HessianOperator(model, F.cross_entropy, zoo.features())
    expected = copy.deepcopy(products(operator))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(zoo.features()[0]), zoo.features()[1]).backward()
    optimizer.step()
    assert torch.equal(products(operator), expected)
