r"""Products of a risk's curvature with a vector, by the two ways autograd has.

.. math:: Hv = \partial_\theta \langle \partial_\theta L, v \rangle = \partial_\epsilon\, \partial_\theta
          L(\theta + \epsilon v) \qquad Gv = J^\top H_z J v

with outputs :math:`z(\theta)`, :math:`J = \partial_\theta z` and :math:`H_z = \partial_z^2 L`. A `tangent` product
differentiates the gradient forward, and can be recorded and replayed; a `reverse` product differentiates it backward
once more, and can keep its graph. Both take and give tensors in the shapes of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree

from normscope.curvature.backward import pull_back_or_zero
from normscope.curvature.risk import Risk

Tensors: TypeAlias = Sequence[Tensor]
# Untyped in torch.
_make_dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual
_unpack_dual: Callable[[Tensor], Any] = forward_ad.unpack_dual
Product: TypeAlias = Callable[[Tensors], list[Tensor]]


def hessian_tangent(risk: Risk, direction: Tensors) -> list[Tensor]:
    """Hv as the tangent of the gradient (forward over reverse)."""
    with forward_ad.dual_level():
        duals = _duals(risk.values, direction)

        def work(model: nn.Module) -> list[Tensor]:
            return pull_back_or_zero([risk.loss(model)], duals)

        return [_tangent(gradient) for gradient in risk.call(duals, work)]


def hessian_reverse(risk: Risk, leaves: Tensors) -> Product:
    """Hv as the gradient of the inner product of gradient and v (reverse over reverse), its graph kept.

    `leaves` are the risk's values, differentiable.
    """

    def work(model: nn.Module) -> list[Tensor]:
        return pull_back_or_zero([risk.loss(model)], leaves, create_graph=True)

    gradients = risk.call(leaves, work)
    return lambda direction: pull_back_or_zero(gradients, leaves, direction, retain_graph=True)


def ggn_tangent(risk: Risk, direction: Tensors) -> list[Tensor]:
    """Gv with Jv as a tangent and its transpose by a backward pass."""
    with forward_ad.dual_level():
        duals = _duals(risk.values, direction)

        def work(model: nn.Module) -> list[Tensor]:
            outputs, rebuild = differentiable_outputs(risk, model)
            pushed = [_tangent(output) for output in outputs]
            points = _duals([_primal(output) for output in outputs], pushed)
            loss = risk.loss_of(rebuild(points))
            pulled = [_tangent(slope) for slope in pull_back_or_zero([loss], points)]
            return pull_back_or_zero(outputs, duals, pulled)

        return [_primal(product) for product in risk.call(duals, work)]


def ggn_reverse(risk: Risk, leaves: Tensors) -> Product:
    """Gv from backward passes alone: Jv is the gradient, by u, of the inner product of v and J'u, its graph kept.

    `leaves` are the risk's values, differentiable.
    """

    def work(model: nn.Module) -> tuple[list[Tensor], Tensors, Tensors, list[Tensor], Tensors]:
        outputs, rebuild = differentiable_outputs(risk, model)
        weights = [torch.zeros_like(output, requires_grad=True) for output in outputs]
        pulled = pull_back_or_zero(outputs, leaves, weights, create_graph=True)
        points = leaves_of(outputs)
        loss = risk.loss_of(rebuild(points))
        slopes = pull_back_or_zero([loss], points, create_graph=True)
        return outputs, weights, pulled, points, slopes

    outputs, weights, pulled, points, slopes = risk.call(leaves, work)

    def product(direction: Tensors) -> list[Tensor]:
        pushed = pull_back_or_zero(pulled, weights, direction, retain_graph=True)
        curved = pull_back_or_zero(slopes, points, pushed, retain_graph=True)
        return pull_back_or_zero(outputs, leaves, curved, retain_graph=True)

    return product


def differentiable_outputs(risk: Risk, model: nn.Module) -> tuple[list[Tensor], Callable[[Tensors], Any]]:
    """The outputs that depend on the chosen parameters, and a function that puts others in their place.

    Raises:
        ValueError: none does.
    """
    leaves, spec = pytree.tree_flatten(risk.outputs(model))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not places:
        raise ValueError(
            "The GGN needs outputs that depend on the chosen parameters through autograd, but these do not. Remove "
            "detach() or no_grad from the model."
        )

    def rebuild(values: Tensors) -> Any:
        filled = [_primal(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        return pytree.tree_unflatten(filled, spec)

    return [leaves[i] for i in places], rebuild


def leaves_of(values: Tensors) -> list[Tensor]:
    """The same numbers as the roots of a graph."""
    return [value.detach().requires_grad_() for value in values]


def _duals(values: Tensors, tangents: Tensors) -> list[Tensor]:
    return [_make_dual(v, t) for v, t in zip(leaves_of(values), tangents, strict=True)]


def _primal(tensor: Tensor) -> Tensor:
    if forward_ad._current_level < 0:  # no dual numbers are in use
        return tensor.detach()
    primal: Tensor = _unpack_dual(tensor).primal
    return primal.detach()


def _tangent(tensor: Tensor) -> Tensor:
    tangent: Tensor | None = _unpack_dual(tensor).tangent
    return torch.zeros_like(_primal(tensor)) if tangent is None else tangent.detach()
