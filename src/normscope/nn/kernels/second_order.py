"""The way out of a kernel when its gradient is to be differentiated again: the gradient of the composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from normscope.nn.kernels.pattern import Pattern, composed


def gradients_of_composition(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    pattern: Pattern,
    examples: int,
    of_y: Tensor,
    of_penalty: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Gradients by x, weight and bias of a pattern, with a graph of their own; None for what has none."""

    def composition(x: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> list[Tensor | None]:
        assert x is not None
        result = composed(x, weight, bias, pattern, examples)
        return [result.y, None if of_penalty is None else result.penalty]

    return gradients_of(composition, (x, weight, bias), (of_y, of_penalty))


def gradients_of(
    composition: Callable[..., Sequence[Tensor | None]],
    inputs: Sequence[Tensor | None],
    of_outputs: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Gradients by the inputs, with a graph of their own; None for an input that is absent or needs none.

    The composition is computed anew from copies of the inputs that share the graph, so that what lies before them is
    not entered twice.

    Args:
        composition: of the inputs, its outputs; those that are None are left out.
        inputs: tensors, or None.
        of_outputs: the gradient of each output, or None.
    """
    own = [None if t is None else t.view_as(t) for t in inputs]
    pairs = [(y, g) for y, g in zip(composition(*own), of_outputs, strict=True) if y is not None and g is not None]
    wanted = [t for t in own if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad([y for y, _ in pairs], wanted, [g for _, g in pairs], create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in own)
