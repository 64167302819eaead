"""Record a linear function once, with everything that does not depend on its argument computed, and replay the rest.

A Hessian product by forward over reverse computes the gradient and its tangent. While the parameters stay, only the
tangent changes; so the operations that touch it are recorded below autograd, the rest enters as constants, and a replay
costs the tangent alone: 2.0 gradients for the Hessian, 4/3 for the GGN, by counting matrix products.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

Function: TypeAlias = Any  # a torch._ops.OpOverload


@final
@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a value that depends on the argument."""

    index: int


@final
@dataclass(frozen=True, slots=True)
class Spec:
    """Shape, strides, dtype and storage of a slot's value when it was recorded; views share a storage."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    storage: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One recorded operation: positional and keyword arguments with slots in place of tracked tensors.

    `outputs` has one entry per leaf of what the function returns; None where nothing is kept.
    """

    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Slot | None, ...]

    @property
    def inputs(self) -> tuple[Slot, ...]:
        """The slots it reads, one entry for each time it does."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Slot))

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """The tensors it reads that do not depend on the argument."""
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """A recorded linear function: `inputs` are its argument's slots, `outputs` its result's (None: always zero)."""

    steps: tuple[Step, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot | None, ...]
    specs: dict[Slot, Spec]

    @property
    def nbytes(self) -> int:
        """Memory of the constants, each storage counted once."""
        storages = {
            constant.untyped_storage().data_ptr(): constant.untyped_storage().nbytes()
            for step in self.steps
            for constant in step.constants
        }
        return sum(storages.values())


def record(function: Callable[[Sequence[Tensor]], Sequence[Tensor]], argument: Sequence[Tensor]) -> Program:
    """Run `function` on `argument` and keep the operations through which its result depends on it.

    Raises:
        NotReplayableError: an operation cannot be repeated with another argument.
    """
    recorder = _Recorder()
    argument = [tensor.clone() for tensor in argument]  # the function may use the caller's tensors as constants
    inputs = tuple(recorder.track(tensor, beside=()) for tensor in argument)
    with recorder:
        results = function(argument)
    recorder.check_constants()
    outputs = tuple(recorder.slot(result) for result in results)
    return Program(steps=tuple(recorder.steps), inputs=inputs, outputs=outputs, specs=recorder.specs)


_DATA_DEPENDENT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class NotReplayableError(RuntimeError):
    """A recorded operation depends on its argument in a way that a replay would miss."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd; a result is tracked if an argument is, or aliases one that is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.specs: dict[Slot, Spec] = {}
        self._slots: dict[int, Slot] = {}
        self._count = itertools.count()
        self._versions: dict[int, tuple[Tensor, int]] = {}

    def check_constants(self) -> None:
        """Refuse the recording if a constant was overwritten after the operation that read it."""
        for constant, version in self._versions.values():
            if constant._version != version:
                raise NotReplayableError("A tensor that a recorded operation had read was overwritten in place later.")

    def track(self, tensor: Tensor, *, beside: Iterable[Tensor]) -> Slot:
        """The tensor's slot, a new one if need be; it lies in the memory of the tensor `beside` it that it views."""
        key = id(tensor)
        if key not in self._slots:
            slot = Slot(next(self._count))
            home = next((self._slots[id(other)] for other in beside if _share_memory(tensor, other)), None)
            storage = slot.index if home is None else self.specs[home].storage
            self._slots[key] = slot
            self.specs[slot] = Spec(tensor.shape, tensor.stride(), tensor.dtype, storage)
            # The address of a tensor is used again after its death, so the entry dies with it. (A tensor that only
            # autograd still holds keeps its Python object, and with it the address.)
            weakref.finalize(tensor, self._slots.pop, key).atexit = False
        return self._slots[key]

    def slot(self, value: Any) -> Slot | None:
        return self._slots.get(id(value)) if isinstance(value, Tensor) else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tracked = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if self.slot(leaf) is not None]
        if not tracked:
            return func(*args, **kwargs)
        if _DATA_DEPENDENT & set(func.tags):
            raise NotReplayableError(f"{func} turns a value that depends on the argument into a number or a shape.")
        self._check_writes(func, args)
        frozen_args, frozen_kwargs = self._freeze(args), self._freeze(kwargs)
        result = func(*args, **kwargs)
        leaves = pytree.tree_leaves(result)
        outputs = tuple(self.track(leaf, beside=tracked) if isinstance(leaf, Tensor) else None for leaf in leaves)
        if any(outputs):  # else it asked for a shape
            step = Step(func, frozen_args, frozen_kwargs, outputs)
            self.steps.append(step)
            for constant in step.constants:
                self._versions.setdefault(id(constant), (constant, constant._version))
        return result

    def _check_writes(self, func: Any, args: tuple[Any, ...]) -> None:
        if not func._schema.is_mutable:
            return
        for argument, declared in zip(args, func._schema.arguments, strict=False):
            written = declared.alias_info is not None and declared.alias_info.is_write
            if written and isinstance(argument, Tensor) and self.slot(argument) is None:
                raise NotReplayableError(f"{func} writes a value that depends on the argument into one that does not.")

    def _freeze(self, tree: Any) -> Any:
        return pytree.tree_map_only(Tensor, lambda tensor: self.slot(tensor) or tensor, tree)


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)
