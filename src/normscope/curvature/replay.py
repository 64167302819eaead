"""Run a recorded program on another argument, its intermediate values freed or overwritten as soon as may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.curvature.program import Function, Program, Slot, Spec, Step
from normscope.curvature.simplify import simplify

aten = torch.ops.aten

# Elementwise operations and the ones that write their result over the first argument. Memory that was just read is
# warm and mapped; fresh memory for each result costs more than the arithmetic.
_IN_PLACE: dict[Any, Any] = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.div.Tensor: aten.div_.Tensor,
    aten.div.Scalar: aten.div_.Scalar,
    aten.neg.default: aten.neg_.default,
    aten.addcmul.default: aten.addcmul_.default,
    aten.threshold_backward.default: lambda slope, *rest: aten.threshold_backward.grad_input(
        slope, *rest, grad_input=slope
    ),
}
_COMMUTE = {aten.add.Tensor, aten.mul.Tensor}


@final
class Replay:
    """A program made ready to run.

    Args:
        program: as `record` gives it; it is simplified here.

    Attributes:
        nbytes: memory of the constants it holds.
    """

    def __init__(self, program: Program) -> None:
        program = simplify(program)
        self.nbytes = program.nbytes
        self._like = [program.specs[slot] for slot in program.inputs]
        self._inputs, self._outputs = program.inputs, program.outputs
        self._operations = tuple(_operations(program))
        self._writes = any(step.function._schema.is_mutable for step in program.steps)

    def __call__(self, argument: Sequence[Tensor]) -> list[Tensor]:
        """The function's value at `argument`: tensors in the shapes, strides and dtype of the recorded one.

        An output that never depends on the argument is zero in the shape of the input at its place.
        """
        values: dict[Slot, Tensor] = dict(zip(self._inputs, map(_laid_out, argument, self._like), strict=True))
        if self._writes:  # some operation writes in place, and the argument is the caller's
            values = {slot: value.clone() for slot, value in values.items()}
        with torch.no_grad():
            for operation in self._operations:
                operation.run(values)
            return [
                torch.zeros_like(value) if slot is None else values[slot].clone()
                for slot, value in zip(self._outputs, argument, strict=True)
            ]


@final
@dataclass(frozen=True, slots=True)
class _Operation:
    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    places: tuple[tuple[int, Slot], ...]  # of the slots among args; () together with `nested` says they lie deeper
    nested: bool
    outputs: tuple[Slot | None, ...]
    dead: tuple[Slot, ...]

    def run(self, values: dict[Slot, Tensor]) -> None:
        if self.nested:
            args, kwargs = pytree.tree_map_only(Slot, values.__getitem__, (self.args, self.kwargs))
            result = self.function(*args, **kwargs)
        else:
            filled = list(self.args)
            for place, slot in self.places:
                filled[place] = values[slot]
            result = self.function(*filled, **self.kwargs)
        if isinstance(result, Tensor):
            values[self.outputs[0]] = result  # type: ignore[index]  # a step without a kept output is pruned
        else:
            for output, leaf in zip(self.outputs, pytree.tree_leaves(result), strict=True):
                if output is not None:
                    values[output] = leaf
        for slot in self.dead:
            del values[slot]


def _operations(program: Program) -> list[_Operation]:
    last = _last_uses(program)
    kept = {slot for slot in program.outputs if slot is not None}
    owners = _owners(program)
    operations = []
    for n, step in enumerate(program.steps):
        function, args = step.function, step.args
        if not step.function._schema.is_mutable:
            function, args = _in_place(step, n, program, last, owners)
        flat = [(place, slot) for place, slot in enumerate(args) if isinstance(slot, Slot)]
        dead = {slot for slot in (*step.inputs, *step.outputs) if slot is not None and last.get(slot, n) <= n}
        dead -= kept
        operations.append(
            _Operation(
                function=function,
                args=args,
                kwargs=step.kwargs,
                places=tuple(flat),
                nested=len(flat) != len(step.inputs),
                outputs=step.outputs,
                dead=tuple(dead),
            )
        )
    return operations


def _last_uses(program: Program) -> dict[Slot, int]:
    last = {slot: n for n, step in enumerate(program.steps) for slot in step.inputs}
    last.update((slot, len(program.steps)) for slot in program.outputs if slot is not None)
    return last


def _owners(program: Program) -> dict[Slot, list[Slot]]:
    """Slot -> all slots that share its memory, itself included."""
    by_storage: dict[int, list[Slot]] = {}
    used = {slot for step in program.steps for slot in (*step.inputs, *step.outputs) if slot is not None}
    for slot in used:
        by_storage.setdefault(program.specs[slot].storage, []).append(slot)
    return {slot: sharing for sharing in by_storage.values() for slot in sharing}


def _in_place(
    step: Step, n: int, program: Program, last: dict[Slot, int], owners: dict[Slot, list[Slot]]
) -> tuple[Function, tuple[Any, ...]]:
    """The step's function and arguments, in place where its first argument is read here for the last time."""
    writing = _IN_PLACE.get(step.function)
    result = step.outputs[0]
    if writing is None or result is None:
        return step.function, step.args
    orders = [step.args]
    if step.function in _COMMUTE and not step.kwargs:
        orders.append((step.args[1], step.args[0]))
    for args in orders:
        target = args[0]
        if not isinstance(target, Slot) or args.count(target) > 1 or target in program.inputs:
            continue
        if not _fits(program.specs[target], program.specs[result]) or any(last.get(s, -1) > n for s in owners[target]):
            continue
        if any(slot in program.inputs for slot in owners[target]):
            continue
        _share(owners, target, result)
        return writing, args
    return step.function, step.args


def _share(owners: dict[Slot, list[Slot]], target: Slot, result: Slot) -> None:
    """From now on the result lies in the target's memory."""
    together = owners[target] + [slot for slot in owners[result] if slot not in owners[target]]
    for slot in together:
        owners[slot] = together


def _fits(target: Spec, result: Spec) -> bool:
    return (target.shape, target.stride, target.dtype) == (result.shape, result.stride, result.dtype)


def _laid_out(value: Tensor, like: Spec) -> Tensor:
    if value.stride() == like.stride:
        return value
    return torch.empty_strided(like.shape, like.stride, dtype=like.dtype, device=value.device).copy_(value)
