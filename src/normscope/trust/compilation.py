"""Badge on torch.compile: one graph, and what eager mode gives."""

from __future__ import annotations

import copy
import os
import shutil
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from normscope.trust.bench import Bench
from normscope.trust.outcome import Badge, Finding, Outcome, failed, judged, not_run
from normscope.trust.specimen import Row, block, draw, layouts_taken
from normscope.trust.values import distance

_BOUND = 1e-10


def _compiler() -> str:
    """The C++ compiler that torch.compile calls on a CPU."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")


def _compiles(row: Row, bench: Bench) -> Outcome:
    if bench.device.type == "cpu" and shutil.which(_compiler()) is None:
        return not_run(f"no C++ compiler: {_compiler()} is not on the path")
    *_, layout = layouts_taken(row, device=bench.device)  # images where it takes them
    module = block(row, layout, device=bench.device)
    x = draw(layout.into, 7, device=bench.device)
    modes = (True, False) if list(module.buffers()) else (True,)

    def findings() -> Iterator[Finding]:
        for training in modes:
            for what, got, want in _beside_eager(module.train(training), x):
                yield Finding(distance(got, want), f"{what}, {layout.name}, {'train' if training else 'eval'} mode")

    torch.compiler.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler says about itself
            return judged(findings(), _BOUND)
    except torch._dynamo.exc.Unsupported as broken:
        return failed(f"graph break: {str(broken).splitlines()[0]}")
    finally:
        torch.compiler.reset()


def _beside_eager(module: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Values, gradients and buffers of a compiled copy beside those of an eager one."""
    compiled, eager = copy.deepcopy(module), copy.deepcopy(module)
    results = []
    for forward, owner in ((torch.compile(compiled, fullgraph=True), compiled), (eager, eager)):
        leaf = x.clone().requires_grad_()
        y = forward(leaf)
        gradients = torch.autograd.grad(y.sin().sum(), [leaf, *owner.parameters()], materialize_grads=True)
        results.append((y.detach(), gradients, list(owner.buffers())))
    (y, gradients, buffers), (y0, gradients0, buffers0) = results
    yield "value", y, y0
    for got, want in zip(gradients, gradients0, strict=True):
        yield "gradient", got, want
    for got, want in zip(buffers, buffers0, strict=True):
        yield "buffer", got.double(), want.double()


COMPILE = Badge(
    name="compile",
    says="torch.compile(fullgraph=True) makes one graph, with eager mode's values, gradients and buffers",
    check=_compiles,
    slow=True,
)
