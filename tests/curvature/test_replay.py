from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from curvature import zoo
from curvature.test_machinery import HESSIAN, MACHINERIES
from curvature.test_program import vector
from curvature.test_risk import risk_of
from normscope.curvature.program import record
from normscope.curvature.replay import Replay


class Watching(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.operations.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def replay_of(function: Any) -> Replay:
    return Replay(record(lambda argument: [function(argument[0])], [vector(1)]))


def test_results_are_written_over_values_read_for_the_last_time() -> None:
    replay = replay_of(lambda x: (x.cos() * 0 + x.neg()).mul(3).div(2))
    with Watching() as watch:
        replay([vector(2)])
    assert {"aten::mul_", "aten::div_"} <= set(watch.operations)


def test_values_read_later_are_not_written_over() -> None:
    def function(x: Tensor) -> Tensor:
        y = x.neg()
        return (y * 3) * 1 + y.view(2, 3).reshape(-1)

    torch.testing.assert_close(replay_of(function)([vector(2)])[0], function(vector(2)))


def test_an_output_that_is_also_an_intermediate_value_survives() -> None:
    program = record(lambda argument: [argument[0].neg(), argument[0].neg() * 2 + 1 * argument[0]], [vector(1)] * 2)
    first, second = Replay(program)([vector(2), vector(3)])
    torch.testing.assert_close(first, -vector(2))
    torch.testing.assert_close(second, -vector(2))


def test_a_replay_of_a_product_runs_neither_the_model_nor_autograd() -> None:
    calls = 0

    class Counted(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return super().forward(x)

    risk = risk_of(torch.nn.Sequential(Counted(4, 4), torch.nn.Tanh(), Counted(4, 3)).double())
    product = MACHINERIES["linearized"].prepare(HESSIAN, risk)
    calls = 0
    results = product([value.clone().requires_grad_() for value in risk.values])
    assert calls == 0
    assert not any(result.requires_grad for result in results)


@pytest.mark.parametrize("name", ["row_batchnorm_conv", "transformer", "lstm", "checkpointed"])
def test_intermediate_values_do_not_survive_a_replay(name: str) -> None:
    """Two replays in a row give the same: nothing of the first reaches the second."""
    case = zoo.CASES[name]
    risk = risk_of(zoo.randomized(case.build()), case.batch)
    if name == "transformer":
        risk = type(risk).of(
            type(risk.stand_in.subject)(risk.stand_in.subject.model, case.loss, case.batch),
            risk.layout, mode="train", dtype=torch.float64,
        )  # fmt: skip
    product = MACHINERIES["linearized"].prepare(HESSIAN, risk)
    first = [part.clone() for part in product(risk.values)]
    product([torch.ones_like(value) for value in risk.values])
    assert all(map(torch.equal, product(risk.values), first))
