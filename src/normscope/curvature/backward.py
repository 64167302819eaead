"""Backward passes in which the exact rules stay in force."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge


def pull_back(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> list[Tensor | None]:
    """The gradient, by each of `inputs`, of the inner product of outputs and weights (1 if None).

    None where nothing depends. It is `torch.autograd.grad`, but that function suspends what stands in for torch's
    functions when it is given tensors, and checkpointed modules run their forward again in it; given edges of the
    graph, it does not.

    Raises:
        ValueError: a part of the graph is checkpointed in the way that cannot be differentiated twice.
    """
    weights = [torch.ones_like(output) for output in outputs] if weights is None else weights
    pairs = [(output, weight) for output, weight in zip(outputs, weights, strict=True) if output.requires_grad]
    if not pairs:
        return [None] * len(inputs)
    try:
        return list(
            torch.autograd.grad(
                [get_gradient_edge(output) for output, _ in pairs],
                [get_gradient_edge(tensor) for tensor in inputs],
                [weight for _, weight in pairs],
                create_graph=create_graph,
                retain_graph=create_graph or retain_graph,
                allow_unused=True,
            )
        )
    except RuntimeError as error:
        if "use_reentrant=True" not in str(error):
            raise
        raise ValueError(
            "Curvature differentiates checkpointed parts twice, but use_reentrant=True arrived, which torch cannot. "
            "Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
        ) from error


def pull_back_or_zero(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> list[Tensor]:
    """`pull_back`, zero where nothing depends."""
    pulled = pull_back(outputs, inputs, weights, create_graph=create_graph, retain_graph=retain_graph)
    return [torch.zeros_like(tensor) if one is None else one for tensor, one in zip(inputs, pulled, strict=True)]
