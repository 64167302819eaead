"""A recorded linear function, simplified and replayed, is the function itself: views, writes in place and all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from normscope.curvature.program import NotReplayableError, record
from normscope.curvature.replay import Replay
from normscope.curvature.simplify import simplify

A = torch.linspace(-1, 1, 16, dtype=torch.float64).view(4, 4)


def writes_into_a_view(x: Tensor) -> Tensor:
    x = x.clone()
    x[0].mul_(2)
    return x @ A


def reads_a_view_before_it_is_cleared(x: Tensor) -> Tensor:
    x = x * 2
    row = x.view(-1)[:4]
    kept = row * 3
    row.zero_()
    return x + kept


def writes_under_a_transpose(x: Tensor) -> Tensor:
    x = x * 2
    transposed = x.t()
    x.mul_(A)
    return transposed * 1.0


def assigns_a_row(x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[1] = x[2]
    return y


def expands_and_concatenates(x: Tensor) -> Tensor:
    return x.sum(0).expand(4, 4) + torch.cat([x, x])[2:6]


def chains_writes(x: Tensor) -> Tensor:
    y = x.mul(2)
    y.div_(3)
    y.mul_(2)
    return y + 1 * y


def repeats_itself(x: Tensor) -> Tensor:
    return (x - x.mean(0)) * A + (x - x.mean(0)) * A.t()


def adds_products(x: Tensor) -> Tensor:
    return (x @ A) + x * A - A * (x @ A) + 0.5 * x


def uses_a_product_twice(x: Tensor) -> Tensor:
    y = x * A
    return (x + y) * y.mean() * 0 + y + x


def rectifies(x: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(x * 2, A, 0)


def returns_a_value_it_still_uses(x: Tensor) -> Tensor:
    y = x * A
    return y + torch.ops.aten.neg(y)


LINEAR = [
    writes_into_a_view,
    reads_a_view_before_it_is_cleared,
    writes_under_a_transpose,
    assigns_a_row,
    expands_and_concatenates,
    chains_writes,
    repeats_itself,
    adds_products,
    rectifies,
    returns_a_value_it_still_uses,
]


@pytest.mark.parametrize("function", LINEAR, ids=lambda f: f.__name__)
def test_a_replay_is_the_function_on_any_argument_and_leaves_the_argument_alone(function, generator):
    replay = Replay(record(lambda d: [function(d[0])], [torch.randn(4, 4, generator=generator, dtype=torch.float64)]))
    for _ in range(2):
        x = torch.randn(4, 4, generator=generator, dtype=torch.float64)
        before = x.clone()
        torch.testing.assert_close(replay([x])[0], function(x.clone()), rtol=1e-13, atol=1e-13)
        assert torch.equal(x, before)


def test_an_argument_in_another_layout_is_taken(generator):
    replay = Replay(record(lambda d: [d[0].view(-1)[:4] @ A], [torch.ones(4, 4, dtype=torch.float64)]))
    x = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(replay([x.t().contiguous().t()])[0], x.view(-1)[:4] @ A)


def test_what_never_depends_on_the_argument_is_zero_in_its_place():
    program = record(lambda d: [d[0] * 2, torch.ones(3)], [torch.ones(2), torch.ones(3)])
    assert program.outputs[1] is None
    torch.testing.assert_close(Replay(program)([torch.ones(2), torch.ones(3)]), [torch.full((2,), 2.0), torch.zeros(3)])


def test_several_outputs_of_one_operation_find_their_places(generator):
    replay = Replay(record(lambda d: [d[0].split(2)[1] + d[0].split(2)[0]], [torch.ones(4)]))
    x = torch.randn(4, generator=generator)
    torch.testing.assert_close(replay([x])[0], x[2:] + x[:2])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x * float(x.sum()), "into a number or a shape"),
        (lambda x: x[x > 0], "into a number or a shape"),
        (lambda x: torch.zeros(4, 4).add_(x), "into one that does not"),
    ],
)
def test_what_a_replay_would_miss_is_refused(function, message):
    with pytest.raises(NotReplayableError, match=message):
        record(lambda d: [function(d[0])], [torch.ones(4, 4)])


def test_a_constant_overwritten_after_it_was_read_is_refused():
    def function(d):
        constant = torch.ones(4)
        product = d[0] * constant
        constant.zero_()
        return [product]

    with pytest.raises(NotReplayableError, match="overwritten in place"):
        record(function, [torch.ones(4)])


def count(program, name):
    return sum(str(step.function).startswith(f"aten.{name}") for step in program.steps)


def test_repeated_operations_are_computed_once_and_products_are_fused_into_sums():
    ones = [torch.ones(4, 4, dtype=torch.float64)]
    before = record(lambda d: [repeats_itself(d[0])], ones)
    after = simplify(before)
    assert (count(before, "mean"), count(after, "mean")) == (2, 1)
    assert (count(before, "add"), count(after, "addcmul")) == (1, 1)


def test_what_no_output_needs_is_not_computed():
    program = record(lambda d: [(d[0] @ A, d[0] * 2)[1]], [A])
    assert count(program, "mm") == 1
    assert count(simplify(program), "mm") == 0


def test_a_sum_with_zeros_is_skipped():
    program = record(lambda d: [torch.zeros_like(d[0]) + d[0] * 2], [A])
    assert [str(step.function) for step in simplify(program).steps] == ["aten.mul.Tensor"]


def test_constants_are_counted_once_each():
    program = record(lambda d: [d[0] * A + d[0] @ A.t()], [A])
    assert program.nbytes == A.numel() * A.itemsize
