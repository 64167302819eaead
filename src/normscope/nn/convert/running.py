"""Run a model once on the example inputs, without gradients and without drawing from the random state."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from normscope.isolation import copies, seeded


@contextlib.contextmanager
def isolated(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Every module in one mode with dropout off, no gradients, seeded random numbers, no fused encoder kernels."""
    fast = torch.backends.mha.get_fastpath_enabled()
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else contextlib.nullcontext()
    devices = sorted({t.get_device() for t in (*model.parameters(), *model.buffers()) if t.is_cuda})
    try:
        # torch's encoder otherwise runs, in eval mode, as one kernel that never calls the norms within it.
        torch.backends.mha.set_fastpath_enabled(False)
        with seeded(0, tuple(devices)), torch.inference_mode(mode=False), torch.no_grad(), eager:
            for module in model.modules():
                module.training = training and not isinstance(module, nn.modules.dropout._DropoutNd)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of one call, as copies: a tuple, a mapping, or one argument."""
    if isinstance(inputs, Mapping):
        return (), copies(dict(inputs))
    return (copies(inputs), {}) if isinstance(inputs, tuple) else ((copies(inputs),), {})


def one_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
