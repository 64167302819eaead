"""Terms that may be added to the loss before its curvature is taken."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def weight_decay(coefficient: float) -> Callable[[nn.Module], Tensor]:
    r"""The regularizer :math:`\frac{c}{2} \sum \|W\|^2` over parameters with at least two axes (not biases and gains).

    Its gradient is what `torch.optim.SGD(weight_decay=c)` adds for these parameters.
    """

    def regularizer(model: nn.Module) -> Tensor:
        squares = [parameter.square().sum() for parameter in model.parameters() if parameter.ndim > 1]
        if not squares:
            raise ValueError("Weight decay needs a parameter with at least two axes, but the model has none.")
        total = squares[0]
        for square in squares[1:]:
            total = total + square
        return 0.5 * coefficient * total

    return regularizer
