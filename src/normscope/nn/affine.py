"""The affine layer as a row wants it: as it was, with centered input, or with its weight normalized.

Each function returns a new module of the same class that shares the layer's Parameters; the layer is untouched.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

from normscope.nn import functional, weights
from normscope.nn.penalty import record
from normscope.nn.sites.norm_propagation import RELU_MEAN, RELU_STD

if TYPE_CHECKING:
    from normscope.nn.normalizer import Normalizer

LayerT = TypeVar("LayerT", bound=nn.Module)

_SPATIAL_DIMS = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


def shared_copy(layer: LayerT) -> LayerT:
    """Return a module of the same class with the same Parameters and buffers, but dictionaries of its own."""
    new = type(layer).__new__(type(layer))  # not copy.copy, which a parametrized layer refuses
    vars(new).update(vars(layer))
    for name, value in vars(layer).items():
        if isinstance(value, dict):  # parameters, buffers, submodules and every kind of hook
            new.__dict__[name] = copy.copy(value)
    return new


def affine_as_it_is(layer: LayerT, *, order: str = "affine_norm") -> LayerT:  # noqa: ARG001  (asked of every affine)
    """The `affine` of a normalizer that asks nothing of affine layers: a copy that shares all Parameters."""
    return shared_copy(layer)


def centered_input(layer: LayerT, over: functional.Over) -> LayerT:
    r"""Subtract the layer's mean from its input: :math:`z = W(x - \bar x) + b`."""
    new = shared_copy(layer)
    new.register_forward_pre_hook(CenterInput(_layer_dims(layer, over)))
    return new


def divided_output(layer: LayerT, row: Normalizer) -> LayerT:
    r"""Divide the layer's output by its own scale: :math:`z / \sqrt{\mathrm{moment}(z) + \epsilon}`."""
    new = shared_copy(layer)
    new.penalized = row.penalty is not None  # type: ignore[assignment]  # by this ns.penalty finds it
    assert row.scale is not None
    new.register_forward_hook(DivideOutput(row, _layer_dims(layer, row.scale)))
    return new


def normalized_weight(layer: LayerT) -> LayerT:
    r"""Reparametrize the weight as :math:`g_c v_c / \|v_c\|`, g starting at the norm: the function is unchanged.

    The state dict's keys are those of ``torch.nn.utils.parametrizations.weight_norm``
    (``parametrizations.weight.original0`` is g, ``original1`` is v).
    """
    _layer_dims(layer, "layer")  # refuses layers whose axis 0 is not the output channel
    new = shared_copy(layer)
    parametrize.register_parametrization(new, "weight", WeightNorm())
    return new


def propagated(layer: LayerT, eps: float, *, after_relu: bool) -> LayerT:
    r"""Reparametrize the weight to unit norm, :math:`v_c / \|v_c\|`, and take a ReLU's mean from the input.

    The mean is that of :math:`\max(u, 0) / s`, u and the quotient of unit variance: :math:`1/\sqrt{\pi - 1}`. Where a
    convolution pads, it pads what was centered with zeros. The state dict has v as
    ``parametrizations.weight.original``; it is the layer's own Parameter.
    """
    _layer_dims(layer, "layer")
    new = shared_copy(layer)
    parametrize.register_parametrization(new, "weight", UnitNorm(eps))
    if after_relu:
        new.register_forward_pre_hook(ShiftInput(RELU_MEAN / RELU_STD))
    return new


def standardized_weight(layer: LayerT, eps: float, *, fan_in_scale: bool) -> LayerT:
    r"""Reparametrize the weight as :math:`(v_c - \bar v_c) / \sigma(v_c)`, over the fan-in of each output channel.

    The state dict has v as ``parametrizations.weight.original``; it is the layer's own Parameter.

    Raises:
        ValueError: a fan-in of 1, of which no deviation is left.
    """
    _layer_dims(layer, "layer")
    weight: Any = layer.weight
    if weight[0].numel() == 1:
        raise ValueError(
            f"Weights are standardized over a fan-in of at least 2, but those of {layer} have shape "
            f"{tuple(weight.shape)}; leave this layer as it is."
        )
    new = shared_copy(layer)
    parametrize.register_parametrization(new, "weight", StandardizedWeight(eps, fan_in_scale=fan_in_scale))
    return new


@dataclass(frozen=True)
class ShiftInput:
    """A forward pre-hook that subtracts a constant from the first input."""

    constant: float

    def __call__(self, _layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the first positional input."""
        x, *rest = args
        return (x - self.constant, *rest)


@dataclass(frozen=True)
class CenterInput:
    """A forward pre-hook that subtracts the mean over `dims` from the first input."""

    dims: tuple[int, ...]

    def __call__(self, _layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Replace the first positional input."""
        x, *rest = args
        return (functional.center(x, self.dims), *rest)


@dataclass(frozen=True)
class DivideOutput:
    """A forward hook that divides the output by its scale and hands over the row's penalty."""

    row: Normalizer
    dims: tuple[int, ...]

    def __call__(self, layer: nn.Module, _args: tuple[Any, ...], z: Tensor) -> Tensor:
        """Replace the output."""
        row = self.row
        wide = z.to(functional.accumulation_dtype(z.dtype))
        y = wide * functional.moment_and_rstd(wide, self.dims, row.moment, row.eps)[1]
        if row.penalty is not None and layer.training:
            channel_dim = y.ndim + self.dims[0]
            over = (0,) if row.penalty_over == "neuron" else functional.reduced_dims("batch", y.ndim, channel_dim)
            record(layer, functional.regnorm_penalty(y, form=row.penalty, over=over, unbiased=row.penalty_unbiased))
        return y.to(z.dtype)


class WeightNorm(nn.Module):
    """Parametrization of a weight by its norm and direction; see `weights.weight_norm`."""

    def forward(self, g: Tensor, v: Tensor) -> Tensor:
        """Weight from norm g (out, 1, ...) and direction v (out, ...)."""
        return weights.weight_norm(v, g)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Norm and direction that give this weight."""
        wide = weight.to(functional.accumulation_dtype(weight.dtype))
        return wide.square().sum(tuple(range(1, weight.ndim)), keepdim=True).sqrt().to(weight.dtype), weight


class UnitNorm(nn.Module):
    """Parametrization of a weight by a direction; see `weights.unit_norm`."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, v: Tensor) -> Tensor:
        """Weight from direction v (out, ...)."""
        return weights.unit_norm(v, self.eps)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A direction that gives this weight, if its norm is 1."""
        return weight


class StandardizedWeight(nn.Module):
    """Parametrization of a weight by what is standardized; see `weights.standardized_weight`."""

    def __init__(self, eps: float, *, fan_in_scale: bool) -> None:
        super().__init__()
        self.eps, self.fan_in_scale = eps, fan_in_scale

    def forward(self, v: Tensor) -> Tensor:
        """Weight from v (out, ...)."""
        return weights.standardized_weight(v, self.eps, fan_in_scale=self.fan_in_scale)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A v that gives this weight, if it is standardized."""
        return weight


def _layer_dims(layer: nn.Module, over: functional.Over) -> tuple[int, ...]:
    """Axes, from the end, of one example's features at the layer: (C,) of Linear, (C, *spatial) of a convolution."""
    for kind, spatial in _SPATIAL_DIMS.items():
        if isinstance(layer, kind):
            dims = tuple(range(-1 - spatial, 0))
            return dims if over == "layer" else dims[:1]
    raise TypeError(
        f"A row changes affine layers of the classes {', '.join(k.__name__ for k in _SPATIAL_DIMS)}, but got "
        f"{type(layer).__name__}; leave this layer as it is or express it by one of these."
    )
