from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from curvature.test_program import CONSTANT, LINEAR, vector
from normscope.curvature.program import Program, record
from normscope.curvature.simplify import (
    prune,
    simplify,
    with_fused_products,
    without_identities,
    without_repetitions,
    without_writes,
)

PASSES: dict[str, Callable[[Program], Program]] = {
    "simplify": simplify,
    "prune": prune,
    "without_writes": lambda program: program,
    "without_identities": without_identities,
    "without_repetitions": without_repetitions,
    "with_fused_products": with_fused_products,
}
IMPURE = {"simplify", "prune"}  # passes that take programs that write in place


def recorded(function: Callable[[Tensor], Tensor]) -> Program:
    return record(lambda argument: [function(argument[0])], [vector(1)])


def interpreted(program: Program, x: Tensor) -> Tensor:
    """Step by step, nothing freed or overwritten: the plain reading of a program."""
    values = dict(zip(program.inputs, [x.clone()], strict=True))
    for step in program.steps:
        args, kwargs = pytree.tree_map_only(type(program.inputs[0]), values.__getitem__, (step.args, step.kwargs))
        leaves = pytree.tree_leaves(step.function(*args, **kwargs))
        values.update({slot: leaf for slot, leaf in zip(step.outputs, leaves, strict=True) if slot is not None})
    assert program.outputs[0] is not None
    return values[program.outputs[0]]


WRITES = {"overwritten", "into_a_buffer", "through_views"}


@pytest.mark.parametrize(
    ("name", "function"),
    [(name, function) for name in PASSES for function in LINEAR if name in IMPURE or function not in WRITES],
)
def test_each_pass_leaves_the_function_as_it_is(name: str, function: str) -> None:
    program = recorded(LINEAR[function])
    program = PASSES[name](program if name in IMPURE else pure(program))
    torch.testing.assert_close(interpreted(program, vector(2)), LINEAR[function](vector(2)), rtol=1e-14, atol=1e-14)


def pure(program: Program) -> Program:
    found = without_writes(program)
    assert found is not None
    return found


def operations(program: Program) -> Counter[str]:
    return Counter(step.function._schema.name.partition("::")[2] for step in program.steps)


def test_what_no_output_needs_is_dropped() -> None:
    def wasteful(x: Tensor) -> Tensor:
        (x * 3).sum()
        return x * 2

    assert operations(prune(recorded(wasteful))) == {"mul": 1}


def test_equal_operations_are_computed_once() -> None:
    program = recorded(lambda x: (x * CONSTANT).cos() * 0 + x * CONSTANT + (x * CONSTANT).neg())
    assert operations(program)["mul"] == 4
    assert operations(without_repetitions(program))["mul"] == 2


def test_equal_operations_on_unequal_constants_are_not() -> None:
    other = CONSTANT + 1
    program = without_repetitions(recorded(lambda x: x * CONSTANT - x * other))
    assert operations(program)["mul"] == 2


def test_sums_with_zeros_are_skipped() -> None:
    program = recorded(lambda x: torch.zeros_like(x) + x * 2)
    assert "add" in operations(program)
    assert operations(simplify(program)) == {"mul": 1}


def test_a_sum_and_a_product_become_one_operation() -> None:
    program = simplify(recorded(lambda x: x.neg() + x * CONSTANT))
    assert operations(program) == {"neg": 1, "addcmul": 1}


def test_a_product_that_is_read_twice_stays() -> None:
    def twice(x: Tensor) -> Tensor:
        product = x * CONSTANT
        return (x.neg() + product) * product.sum()

    assert operations(simplify(recorded(twice)))["mul"] == 2


def test_writes_in_place_are_replaced() -> None:
    program = without_writes(recorded(lambda x: (x * 2).add_(x).mul_(CONSTANT)))
    assert program is not None
    assert not any(step.function._schema.is_mutable for step in program.steps)


def test_writes_that_another_view_sees_are_left_alone() -> None:
    assert without_writes(recorded(LINEAR["through_views"])) is None
