"""Passes over a recorded program: the same function in fewer operations and less memory traffic.

Elementwise operations are bound by memory, and the tangents of a normalization layer are mostly those. Each pass takes
a program and gives one that computes the same, up to the rounding of a fused multiply and add.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.curvature.program import Program, Slot, Step

aten = torch.ops.aten
Pass: TypeAlias = Callable[[Program], Program]


def simplify(program: Program) -> Program:
    """Apply every pass; a program that writes in place in a way that cannot be undone is only pruned."""
    pure = without_writes(prune(program))
    if pure is None:
        return prune(program)
    for step in (without_identities, without_repetitions, prune, with_fused_products, prune):
        pure = step(pure)
    return pure


def prune(program: Program) -> Program:
    """Drop what no output needs. A write in place is needed where anything in the memory it writes to is."""
    needed = {slot for slot in program.outputs if slot is not None}
    memory = {program.specs[slot].storage for slot in needed}
    kept = []
    for step in reversed(program.steps):
        made = {slot for slot in step.outputs if slot is not None}
        writes = step.function._schema.is_mutable and not memory.isdisjoint(program.specs[s].storage for s in made)
        if writes or not needed.isdisjoint(made):
            kept.append(step)
            needed.update(step.inputs)
            memory.update(program.specs[slot].storage for slot in step.inputs)
    return replace(program, steps=tuple(reversed(kept)))


def without_writes(program: Program) -> Program | None:
    """Replace each operation in place by the one that returns a new value; None where another view would miss it."""
    renamed: dict[Slot, Slot] = {}
    steps, specs = [], dict(program.specs)
    for position, step in enumerate(program.steps):
        step = _renamed(step, renamed)
        if step.function._schema.is_mutable:
            pure = _pure(step.function)
            target = step.args[0]
            if pure is None or not isinstance(target, Slot) or _seen_later(program, target, position):
                return None
            fresh = Slot(len(specs))
            specs[fresh] = replace(specs[target], storage=fresh.index)
            renamed.update({old: fresh for old, new in renamed.items() if new == target})
            renamed[target] = fresh
            step = replace(step, function=pure, outputs=(fresh,))
        steps.append(step)
    outputs = tuple(None if slot is None else renamed.get(slot, slot) for slot in program.outputs)
    return replace(program, steps=tuple(steps), outputs=outputs, specs=specs)


def without_identities(program: Program) -> Program:
    """Skip the operations that return an argument as it is: a sum with zeros, a copy or view that changes nothing."""
    same: dict[Slot, Slot] = {}
    zeros: set[Slot] = set()
    steps = []
    for step in program.steps:
        step = _renamed(step, same)
        if step.function in _ZEROS:
            zeros.update(slot for slot in step.outputs if slot is not None)
        kept = _kept_argument(step, zeros, program)
        if kept is None:
            steps.append(step)
        else:
            assert step.outputs[0] is not None
            same[step.outputs[0]] = kept
    outputs = tuple(None if slot is None else same.get(slot, slot) for slot in program.outputs)
    return replace(program, steps=tuple(steps), outputs=outputs)


def without_repetitions(program: Program) -> Program:
    """Compute equal operations on equal arguments once."""
    same: dict[Slot, Slot] = {}
    first: dict[Any, Step] = {}
    steps = []
    for step in program.steps:
        step = _renamed(step, same)
        key = _key(step)
        if key in first:
            pairs = zip(step.outputs, first[key].outputs, strict=True)
            same.update((mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None)
        else:
            first[key] = step
            steps.append(step)
    outputs = tuple(None if slot is None else same.get(slot, slot) for slot in program.outputs)
    return replace(program, steps=tuple(steps), outputs=outputs)


def with_fused_products(program: Program) -> Program:
    """Add a product that nothing else reads in one operation: a + b * c, a - b * c, a + s * b."""
    uses = Counter(slot for step in program.steps for slot in step.inputs)
    uses.update(slot for slot in program.outputs if slot is not None)
    made: dict[Slot, Step] = {}
    steps = []
    for step in program.steps:
        fused = _fused(step, made, uses, program)
        steps.append(fused)
        if len(fused.outputs) == 1 and fused.outputs[0] is not None:
            made[fused.outputs[0]] = fused
    return replace(program, steps=tuple(steps))


_SIGNS: dict[Any, float] = {aten.add.Tensor: 1.0, aten.sub.Tensor: -1.0}
_ZEROS = {aten.zeros_like.default, aten.new_zeros.default, aten.zeros.default}


def _renamed(step: Step, names: dict[Slot, Slot]) -> Step:
    if not any(slot in names for slot in step.inputs):
        return step
    args, kwargs = pytree.tree_map_only(Slot, lambda slot: names.get(slot, slot), (step.args, step.kwargs))
    return replace(step, args=args, kwargs=kwargs)


def _pure(function: Any) -> Any:
    """The operation that returns what `function` writes into its first argument, if there is one."""
    name, overload = function._schema.name.partition("::")[2], function._overloadname
    aliases = [argument.alias_info for argument in function._schema.arguments]
    written = [alias is not None and alias.is_write for alias in aliases]
    if not name.endswith("_") or written.count(True) != 1 or not written[0]:
        return None
    return getattr(getattr(aten, name[:-1], None), overload, None)


def _seen_later(program: Program, target: Slot, position: int) -> bool:
    """Whether a value that shares the target's memory, under another name, is read after `position`."""
    storage = program.specs.get(target)
    if storage is None:  # made by an earlier replacement: memory of its own
        return False
    sharing = {slot for slot, spec in program.specs.items() if spec.storage == storage.storage and slot != target}
    if not sharing:
        return False
    later = {slot for step in program.steps[position:] for slot in step.inputs} | set(program.outputs)
    return bool(sharing & later) or target in program.inputs


def _kept_argument(step: Step, zeros: set[Slot], program: Program) -> Slot | None:
    if len(step.outputs) != 1 or step.outputs[0] is None:
        return None
    result = program.specs[step.outputs[0]]
    candidates: Iterator[Any]
    if step.function is aten.add.Tensor and not step.kwargs:
        a, b = step.args
        candidates = iter([b] if a in zeros else [a] if b in zeros else [])
    elif step.function in (aten._to_copy.default, aten.expand.default, aten.view.default, aten.detach.default):
        candidates = iter(step.args[:1])
    else:
        return None
    for candidate in candidates:
        if isinstance(candidate, Slot):
            spec = program.specs[candidate]
            if (spec.shape, spec.stride, spec.dtype) == (result.shape, result.stride, result.dtype):
                return candidate
    return None


def _key(step: Step) -> Any:
    leaves, spec = pytree.tree_flatten((step.args, step.kwargs))
    return step.function, str(spec), tuple(_leaf_key(leaf) for leaf in leaves)


def _leaf_key(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):  # two views of the same memory are the same constant
        return "constant", leaf.data_ptr(), leaf.shape, leaf.stride(), leaf.dtype
    return (type(leaf), leaf) if isinstance(leaf, Slot | int | float | bool | str | torch.dtype | None) else id(leaf)


def _fused(step: Step, made: dict[Slot, Step], uses: Counter[Slot], program: Program) -> Step:
    sign = _SIGNS.get(step.function)
    if sign is None or step.kwargs or len(step.args) != 2:
        return step
    orders = [step.args] if sign < 0 else [step.args, step.args[::-1]]
    for base, product in orders:
        source = made.get(product) if isinstance(product, Slot) and uses[product] == 1 else None
        if source is None or not _same_kind(base, product, step, program):
            continue
        if source.function is aten.mul.Tensor and all(isinstance(arg, Slot | Tensor) for arg in source.args):
            return replace(step, function=aten.addcmul.default, args=(base, *source.args), kwargs={"value": sign})
        if source.function is aten.mul.Scalar:
            factor, scale = source.args
            return replace(step, args=(base, factor), function=aten.add.Tensor, kwargs={"alpha": sign * scale})
    return step


def _same_kind(base: Any, product: Slot, step: Step, program: Program) -> bool:
    """Whether the base has the shape of the result, so that it may be overwritten later, and one dtype is used."""
    result = step.outputs[0]
    if not isinstance(base, Slot | Tensor) or result is None:
        return False
    like = program.specs[base] if isinstance(base, Slot) else base
    return like.dtype == program.specs[product].dtype == program.specs[result].dtype and like.dtype.is_floating_point
