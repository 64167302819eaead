"""The ways to compute products of a risk's curvature, as rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch

from normscope.curvature import products
from normscope.curvature.products import Product, Tensors
from normscope.curvature.program import record
from normscope.curvature.replay import Replay
from normscope.curvature.risk import Risk

MachineryName: TypeAlias = Literal["linearized", "retained", "forward_over_reverse", "double_backward"]


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """A curvature matrix: its product as a tangent, and by backward passes alone."""

    name: str
    tangent: Callable[[Risk, Tensors], list[torch.Tensor]]
    reverse: Callable[[Risk, Tensors], Product]


HESSIAN = Kind("hessian", products.hessian_tangent, products.hessian_reverse)
GGN = Kind("ggn", products.ggn_tangent, products.ggn_reverse)


@final
@dataclass(frozen=True, slots=True)
class Machinery:
    """One way to compute products.

    Attributes:
        way: how it differentiates the gradient. Those that go the same way differ in what they keep between products.
        prepare: from a kind and a risk to a function of the direction; what does not depend on the direction is
            computed here if `held` is not 0, and in every product otherwise.
        peak: memory while it prepares or multiplies, in units of what one gradient's graph holds.
        held: memory between products, in the same unit. Both are upper ends of what convolutional and dense networks
            with normalization took, and serve to choose what fits.
    """

    name: MachineryName
    way: Literal["tangent", "reverse"]
    prepare: Callable[[Kind, Risk], Product]
    peak: float
    held: float


def _linearized(kind: Kind, risk: Risk) -> Product:
    # Any direction records the same operations, unless it is so special that a tangent is dropped as zero.
    generator = torch.Generator(device=risk.values[0].device).manual_seed(0)
    direction = [
        torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype) for value in risk.values
    ]
    return Replay(record(lambda argument: kind.tangent(risk, argument), direction))


def _retained(kind: Kind, risk: Risk) -> Product:
    with torch.autograd.graph.disable_saved_tensors_hooks(_NO_CHECKPOINTS):
        return kind.reverse(risk, products.leaves_of(risk.values))


def _forward_over_reverse(kind: Kind, risk: Risk) -> Product:
    return lambda direction: kind.tangent(risk, direction)


def _double_backward(kind: Kind, risk: Risk) -> Product:
    def product(direction: Tensors) -> list[torch.Tensor]:
        leaves = products.leaves_of(risk.values)
        # The second backward pass, too, within the call: checkpointed modules run their forward again in it.
        return risk.call(leaves, lambda _: kind.reverse(risk, leaves)(direction))

    return product


_NO_CHECKPOINTS = (
    "checkpointed parts run again in every backward pass, which a kept graph would do in the model as it then is"
)

# In the order in which they are tried: fewest operations a product first.
MACHINERIES: Mapping[MachineryName, Machinery] = {
    row.name: row
    for row in (
        Machinery("linearized", "tangent", _linearized, peak=10.0, held=5.0),
        Machinery("retained", "reverse", _retained, peak=8.0, held=8.0),
        Machinery("forward_over_reverse", "tangent", _forward_over_reverse, peak=8.0, held=0.0),
        Machinery("double_backward", "reverse", _double_backward, peak=8.0, held=0.0),
    )
}
