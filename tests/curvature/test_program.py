from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from normscope.curvature.program import NotReplayableError, record
from normscope.curvature.replay import Replay


def vector(seed: int) -> Tensor:
    return torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CONSTANT = vector(7).abs() + 1
Linear = Callable[[Tensor], Tensor]


def overwritten(x: Tensor) -> Tensor:
    y = x * 2
    y.add_(x).mul_(CONSTANT)
    y[:3].mul_(5)
    return y


def into_a_buffer(x: Tensor) -> Tensor:
    y = x.new_zeros(6)
    y = y + 0 * x
    y[1:4] = x[:3]
    return y


def through_views(x: Tensor) -> Tensor:
    matrix = (x * 1).view(2, 3)
    transposed = matrix.t()
    matrix.mul_(3)
    return transposed.reshape(-1)


def used_again(x: Tensor) -> Tensor:
    y = x * CONSTANT
    z = y + x
    return z * 2 - y.neg() + torch.addcmul(z, y, CONSTANT)


LINEAR: dict[str, Linear] = {
    "scaled": lambda x: 3 * x,
    "identity": lambda x: x,
    "copy": lambda x: x.clone(),
    "weighed": lambda x: x * CONSTANT / 2 - x,
    "matrix": lambda x: torch.outer(CONSTANT, CONSTANT) @ x,
    "sum": lambda x: x.sum().expand(6),
    "split": lambda x: torch.cat([part * (i + 1) for i, part in enumerate(x.split(2))]),
    "stacked": lambda x: torch.stack([x, 2 * x])[1],
    "twice_the_same": lambda x: x * CONSTANT + x * CONSTANT,
    "minus_a_product": lambda x: x - x * CONSTANT,
    "plus_zeros": lambda x: torch.zeros_like(x) + x + torch.zeros(6, dtype=x.dtype),
    "overwritten": overwritten,
    "into_a_buffer": into_a_buffer,
    "through_views": through_views,
    "used_again": used_again,
    "where": lambda x: torch.where(CONSTANT > 1.5, x, -x),
    "broadcast_plus_a_product": lambda x: x.sum() + x * CONSTANT,
    "narrow_plus_a_product": lambda x: x.float() + x * CONSTANT,
    "in_float32": lambda x: x.float().double() * 2,
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_replay_is_the_function_of_another_argument(name: str) -> None:
    function = LINEAR[name]
    program = record(lambda argument: [function(argument[0])], [vector(1)])
    replay = Replay(program)

    for seed in (2, 3, 2):
        x = vector(seed)
        before = x.clone()
        (result,) = replay([x])
        torch.testing.assert_close(result, function(x.clone()), rtol=1e-14, atol=1e-14)
        assert torch.equal(x, before)
        assert result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


def test_recording_does_not_change_the_argument() -> None:
    x = vector(1)
    record(lambda argument: [argument[0].mul_(2)], [x])
    assert torch.equal(x, vector(1))


def test_a_result_that_never_depends_is_zero() -> None:
    program = record(lambda argument: [argument[0] * 2, torch.zeros(3)], [vector(1), vector(2)[:3]])
    assert program.outputs[1] is None
    assert torch.equal(Replay(program)([vector(1), vector(2)[:3]])[1], torch.zeros(3, dtype=torch.float64))


def test_arguments_in_another_layout_are_laid_out_anew() -> None:
    matrix = torch.arange(6.0).view(2, 3)
    replay = Replay(record(lambda argument: [argument[0].view(-1) * 2], [matrix]))
    (result,) = replay([torch.arange(6.0).view(3, 2).t()])
    assert torch.equal(result, 2 * torch.arange(6.0).view(3, 2).t().reshape(-1))


def test_constants_are_counted_once() -> None:
    constant = torch.ones(100, dtype=torch.float64)
    program = record(
        lambda argument: [argument[0] * constant + (argument[0] * 2) / constant[:]], [torch.ones(100).double()]
    )
    assert program.nbytes == 800
    assert Replay(program).nbytes == 800


NOT_LINEAR: dict[str, Callable[[Sequence[Tensor]], Sequence[Tensor]]] = {
    "a_number": lambda argument: [argument[0] * argument[0].sum().item()],
    "a_shape": lambda argument: [argument[0][argument[0] > 0]],
    "written_into_a_constant": lambda argument: [torch.zeros(6, dtype=torch.float64).add_(argument[0])],
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_what_another_argument_would_change_is_refused(name: str) -> None:
    with pytest.raises(NotReplayableError, match=r"depends on the argument"):
        record(NOT_LINEAR[name], [vector(1)])


def test_a_constant_overwritten_after_it_was_read_is_refused() -> None:
    def function(argument: Sequence[Tensor]) -> Sequence[Tensor]:
        scale = torch.ones(6, dtype=torch.float64)
        result = argument[0] * scale
        scale.add_(1)
        return [result]

    with pytest.raises(NotReplayableError, match="overwritten in place later"):
        record(function, [vector(1)])
