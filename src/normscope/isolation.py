"""Run a model without leaving a trace: everything here ends with the model, and the process, as they were."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd
from torch.utils import _pytree as pytree

from normscope.subject import Batch, Subject

Mode: TypeAlias = Literal["train", "eval"]
T = TypeVar("T")


def draw_seed(generator: torch.Generator) -> int:
    """A seed for code that draws from the global random state, taken from `generator`."""
    return int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))


@contextlib.contextmanager
def isolated(subject: Subject, *, mode: Mode, seed: int) -> Iterator[None]:
    """Measure inside; afterwards modes, attributes and random state are what they were, also after an exception.

    Inside, every module is in `mode` with dropout off, autograd records whatever the caller's grad mode is, and the
    global random state (torch, numpy, `random`) starts from `seed`.
    """
    with (
        _attributes_restored(subject.model),
        seeded(seed, _cuda_devices(subject)),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        _eager(),
    ):
        for module in subject.model.modules():
            # Set, not called: a train() of the user's own may do more than switch (merge adapters, freeze parameters).
            module.training = mode == "train" and not isinstance(module, _DropoutNd)
            module.under_measurement = True  # type: ignore[assignment]  # RegNorm's sites then keep no record of it
        yield


@contextlib.contextmanager
def seeded(seed: int, cuda_devices: tuple[int, ...] = ()) -> Iterator[None]:
    """The global random states of torch, numpy and `random` start from `seed` inside and are put back afterwards."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=cuda_devices):
            # Not torch.manual_seed, which would also seed, for good, the devices that are not forked.
            torch.default_generator.manual_seed(seed)
            for index in cuda_devices:
                torch.cuda.default_generators[index].manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StandIn:
    """The subject's model with copies of its parameters and buffers in place of its own.

    `parameters` maps names to copies; they require a gradient where the caller asked for one and are constants
    otherwise, so that a forward pass records no graph. Copies, not aliases: a forward may write to its parameters
    (`nn.Embedding(max_norm=...)` does). The price is the memory of one set of parameters. `dtype` is that of every
    floating-point parameter, buffer and input; each keeps its own where it is None.
    """

    subject: Subject
    parameters: Mapping[str, Tensor]
    dtype: torch.dtype | None = None

    @classmethod
    def of(
        cls, subject: Subject, *, differentiate: frozenset[str] = frozenset(), dtype: torch.dtype | None = None
    ) -> StandIn:
        """Copy the parameters, of which those named in `differentiate` require a gradient."""
        copies = {name: copy(parameter, dtype) for name, parameter in subject.model.named_parameters()}
        for name in differentiate:
            copies[name].requires_grad_()
        return cls(subject=subject, parameters=copies, dtype=dtype)

    def run(self, work: Callable[[nn.Module], T], *, seed: int) -> T:
        """`work(model)` with the copies in place, fresh buffers and the global random state started from `seed`.

        A backward pass belongs inside `work` too: checkpointed modules run their forward again in it. The same seed in
        two runs makes them share whatever a module still draws for itself (functional dropout, stochastic depth).
        """
        tensors = dict(self.parameters)
        tensors.update((name, copy(buffer, self.dtype)) for name, buffer in self.subject.model.named_buffers())
        swapped = {f"model.{name}": tensor for name, tensor in tensors.items()}
        with seeded(seed, _cuda_devices(self.subject)):
            result: T = functional_call(_Holder(self.subject.model), swapped, (work,))
        return result

    def forward(self, inputs: Any, *, seed: int) -> None:
        """Run the model on a copy of `inputs` for what a tap sees on the way; the outputs are dropped."""
        self.run(lambda model: self.outputs(model, inputs), seed=seed)

    def outputs(self, model: nn.Module, inputs: Any) -> Any:
        """The outputs of `model`, as `run` hands it out, on a copy of `inputs`."""
        return self.subject.outputs(model, copies(inputs, self.dtype))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of `model`, as `run` hands it out, on a copy of `batch`."""
        return self.subject.loss(model, copies(batch, self.dtype))


def copy(tensor: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of its own: no graph, no shared memory, and not an inference tensor outside `torch.inference_mode`."""
    return tensor.detach().to(dtype if tensor.is_floating_point() else None, copy=True)


def copies(tree: Any, dtype: torch.dtype | None = None) -> Any:
    """`copy` of every tensor of a pytree."""
    return pytree.tree_map_only(Tensor, lambda tensor: copy(tensor, dtype), tree)


class _Holder(nn.Module):
    """Lets `functional_call`, which calls a module, call any function of the module instead."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[nn.Module], T]) -> T:
        return work(self.model)


@contextlib.contextmanager
def _attributes_restored(model: nn.Module) -> Iterator[None]:
    """Put back `training` and whatever else a forward assigns to a module: a counter, a cache, its last penalty."""
    saved = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in saved:
            vars(module).clear()
            vars(module).update(attributes)


def _eager() -> contextlib.AbstractContextManager[object]:
    """Compiled modules run uncompiled: each hook would recompile them, up to the limit at which torch gives up on them.

    Where nothing has imported torch's compiler there is nothing compiled, and importing it takes a second.
    """
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()


def _cuda_devices(subject: Subject) -> tuple[int, ...]:
    tensors = [*subject.model.parameters(), *subject.model.buffers(), *pytree.tree_leaves(subject.batch)]
    return tuple(sorted({t.get_device() for t in tensors if isinstance(t, Tensor) and t.is_cuda}))
